# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Reading a backup's archive, wherever it came from: entries as paths of the application."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from ..application import Application
from ..archive.container import open_container
from ..archive.encryption import import_secret_key, require_gpg, temporary_home
from ..archive.extract import extract_to
from ..archive.manifest import Entry
from ..archive.members import Member, NullSink, ReadReport
from ..archive.safety import link_stays_inside
from ..archive.tar_reader import Readable, read_archive
from ..errors import ArchiveError
from ..ports import Ports, Progress
from ..storage.local import Backup

CHUNK = 1 << 20


@dataclass(frozen=True)
class Contents:
    """What an archive holds: its entries with paths relative to the application's root."""

    report: ReadReport
    entries: tuple[Entry, ...]
    unsafe_links: frozenset[str] = frozenset()
    """Symlinks that lead out of the data: never restored."""

    @property
    def foreign(self) -> bool:
        """Whether the archive has no manifest, so that only weaker checks were possible."""
        return self.report.layout != "tradekeep"


class CountingSink(NullSink):
    """Shows how far the reading is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_file(self, member: Member, chunks: Iterator[bytes]) -> None:
        """Count the content."""
        self._progress.advance(member.size)


class _Collector(CountingSink):
    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self.entries: list[Entry] = []

    def on_entry(self, entry: Entry) -> None:
        self.entries.append(entry)


class Counted:
    """A stream that shows how much of it was read."""

    def __init__(self, stream: Readable, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""
        data = self._stream.read(size)
        self._progress.advance(len(data))
        return data


def strip(path: str, prefix: str) -> Optional[str]:
    """A path without the leading directories of an old archive; None for those directories themselves."""
    if not prefix:
        return path
    return path[len(prefix) + 1 :] if path.startswith(prefix + "/") else None


def read_contents(backup: Backup, ports: Ports, passphrase_file: Optional[str]) -> Contents:
    """Read a whole archive, checking it against its checksum and every entry against the manifest; writes nothing.

    Raises ArchiveError or HostileArchiveError at the first fault, EncryptionError without the key.
    """
    collector = _Collector(ports.progress)
    ports.progress.start("verifying", backup.sidecar.get("bytes"))
    with open_container(backup.path, runner=ports.runner, passphrase_file=passphrase_file) as stream:
        report = read_archive(stream, collector)
    ports.progress.finish()
    compare_checksum(backup, stream.sha256)
    entries = tuple(_stripped(collector.entries, report.stripped_prefix))
    unsafe = (
        item.path for item in entries if item.type == "symlink" and not link_stays_inside(item.path, item.target or "")
    )
    return Contents(report, entries, frozenset(unsafe))


def _stripped(entries: Iterable[Entry], prefix: str) -> Iterator[Entry]:
    for entry in entries:
        path = strip(entry.path, prefix)
        if path:
            yield entry if path == entry.path else entry._replace(path=path)


def unpack(
    backup: Backup,
    contents: Contents,
    directory: str,
    chosen: Callable[[str], bool],
    ports: Ports,
    passphrase_file: Optional[str],
    gnupg_home: Optional[str] = None,
) -> str:
    """Write the chosen entries of an archive that has been read before beneath a private directory.

    It is checked again on the way. Returns the directory that stands for the application's root (the leading
    directories of an old archive lie between).
    """
    prefix = contents.report.stripped_prefix

    def selected(path: str) -> bool:
        inner = strip(path, prefix)
        return inner is not None and chosen(inner)

    ports.progress.start("unpacking", backup.sidecar.get("bytes"))
    with open_container(
        backup.path, runner=ports.runner, passphrase_file=passphrase_file, gnupg_home=gnupg_home
    ) as stream:
        extract_to(Counted(stream, ports.progress), directory, select=selected)
    ports.progress.finish()
    return f"{directory}/{prefix}" if prefix else directory


def checksum(path: Path, progress: Progress) -> str:
    """SHA-256 of an archive as it lies on the disk."""
    hasher = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            hasher.update(chunk)
            progress.advance(len(chunk))
    return hasher.hexdigest()


def compare_checksum(backup: Backup, actual: Optional[str]) -> None:
    """Raises ArchiveError when an archive is not what its ``.sha256`` says."""
    if backup.sha256 is not None and actual != backup.sha256:
        raise ArchiveError(
            "the file is not what its .sha256 says: damaged or exchanged",
            path=backup.path,
            hint="use another backup: tradekeep list",
        )


def home_of_key(
    key_file: Optional[str], passphrase_file: Optional[str], ports: Ports
) -> AbstractContextManager[Optional[str]]:
    """A gpg home with this secret key and nothing else, gone afterwards; None, for the account's own, without a key."""
    return nullcontext() if key_file is None else _home_with_key(key_file, passphrase_file, ports)


@contextmanager
def _home_with_key(key_file: str, passphrase_file: Optional[str], ports: Ports) -> Iterator[str]:
    require_gpg(ports.runner)
    with temporary_home(ports.runner) as home:
        import_secret_key(key_file, home, ports.runner, passphrase_file)
        yield home


def passphrase_for(application: Application, given: Optional[str]) -> Optional[str]:
    """The passphrase file to decrypt with: the one given, else the configured one."""
    return given or application.encryption.passphrase_file
