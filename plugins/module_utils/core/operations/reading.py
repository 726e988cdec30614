# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Reading a backup's archive, wherever it came from: entries as paths of the application."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Optional

from ..application import Application
from ..archive.container import open_container
from ..archive.encryption import import_secret_key, require_gpg, temporary_home
from ..archive.extract import as_archived, extract_to
from ..archive.manifest import Entry
from ..archive.members import Member, NullSink, ReadReport
from ..archive.reported import EntriesIn, EntriesOut, report_as, report_from
from ..archive.safety import damaged
from ..archive.tar_reader import Readable, read_archive
from ..errors import ArchiveError, UsageError
from ..host.account import Account
from ..host.files import open_directory
from ..host.memory import many_objects
from ..ports import Ports, Progress
from ..signals import answer
from ..storage.local import Backup
from .apart import Telling, read_apart, refuse_frames
from .layout import AS_IT_IS, Layout, layout_of
from .leftovers import nobody
from .links import is_left_out
from .text import first_lines

CHUNK = 1 << 20
ENTRIES = b"e"
"""The frames that entries are sent in."""


@dataclass(frozen=True)
class Contents:
    """What an archive holds: its entries with paths relative to the application's root."""

    report: ReadReport
    entries: tuple[Entry, ...]
    unsafe_links: frozenset[str] = frozenset()
    """Symlinks that lead out of the data: never restored."""
    layout: Layout = AS_IT_IS

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


class GatheringSink(CountingSink):
    """Sends the entries of an archive from the process that reads it."""

    def __init__(self, telling: Telling) -> None:
        super().__init__(telling)
        self.entries = EntriesOut(lambda batch: telling.send(ENTRIES, batch))

    def on_entry(self, entry: Entry) -> None:
        """One more."""
        self.entries.add(entry)


class EntriesHeard:
    """Takes the entries that a ``GatheringSink`` sends."""

    def __init__(self) -> None:
        self._entries = EntriesIn()

    def __call__(self, kind: bytes, payload: bytes) -> None:
        """One frame."""
        if kind != ENTRIES:
            refuse_frames(kind, payload)
        self._entries.hear(payload)

    @property
    def entries(self) -> list[Entry]:
        """All of them."""
        return self._entries.entries

    @property
    def repeated(self) -> bool:
        """Whether one was named more than once, as only foreign archives have it."""
        return self._entries.repeated


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


def read_contents(
    backup: Backup,
    ports: Ports,
    passphrase_file: Optional[str],
    *,
    account: Optional[Account] = None,
    gnupg_home: Optional[str] = None,
    gathering: Callable[[Telling], GatheringSink] = GatheringSink,
    heard: Optional[EntriesHeard] = None,
    application: Optional[Application] = None,
    strip: Optional[str] = None,
    into: Optional[str] = None,
) -> Contents:
    """Read a whole archive, checking it against its checksum and every entry against the manifest; writes nothing.

    account: in whose name it is parsed; nobody's where none is given and the engine is root. gathering: what looks at
    more than the entries there; heard: takes what that sends. application: whose profile says where its root lies in an
    archive without a manifest; strip, into: see ``layout_of``.
    Raises ArchiveError or HostileArchiveError at the first fault, EncryptionError without the key, UsageError for an
    archive that can be read in several ways, or one with a manifest of which somebody says how to read it.
    """
    heard = heard or EntriesHeard()

    def read(telling: Telling, stream: Readable) -> dict[str, Any]:
        sink = gathering(telling)
        report = read_archive(stream, sink)
        sink.entries.flush()
        return report_as(report)

    opened = open_container(
        backup.path, runner=ports.runner, passphrase_file=passphrase_file, gnupg_home=gnupg_home, packed=True
    )
    ports.progress.start("verifying", backup.sidecar.get("bytes"))
    with many_objects():
        said, sha256 = read_apart(read, opened, backup.path, ports, account or nobody(), heard=heard)
    ports.progress.finish()
    report = report_from(said)
    if heard.repeated and report.header is not None:
        raise damaged("the process that reads the archive names an entry twice")
    compare_checksum(backup, sha256)
    for note in first_lines(report.notes, where="see them all with verify"):
        ports.progress.note(note)
    layout = Layout(report.stripped_prefix)
    if report.header is not None and (strip is not None or into is not None):
        raise UsageError(
            "a backup of tradekeep says itself where its files belong",
            path=backup.path,
            hint="leave out --strip and --into",
        )
    if report.header is None and application is not None:
        files = [entry.path for entry in heard.entries if entry.type != "directory"]
        layout = layout_of(application, str(backup.path), files, strip, into)
        report = replace(report, stripped_prefix=layout.prefix)
    entries = tuple(_placed(heard.entries, layout))
    unsafe = (item.path for item in entries if is_left_out(item))
    return Contents(report, entries, frozenset(unsafe), layout)


def _placed(entries: Iterable[Entry], layout: Layout) -> Iterator[Entry]:
    for entry in entries:
        path = layout.path(entry.path)
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
    settle: Optional[Callable[[Entry, int], None]] = None,
) -> str:
    """Write the chosen entries of an archive that has been read before beneath a private directory.

    It is checked again on the way, in the name of the directory's owner. settle: called there with the entry and the
    descriptor of each file. Returns the directory that stands for the
    application's root (the leading directories of an old archive lie between).
    """
    layout, prefix = contents.layout, contents.layout.prefix

    def selected(path: str) -> bool:
        inner = layout.path(path)
        return inner is not None and chosen(inner)

    opened = open_container(
        backup.path, runner=ports.runner, passphrase_file=passphrase_file, gnupg_home=gnupg_home, packed=True
    )
    place = open_directory(directory)
    first_names = frozenset(
        entry.linked_to for entry in contents.entries if entry.linked_to is not None and chosen(entry.path)
    )

    def write(telling: Telling, stream: Readable) -> None:
        known = {} if settle is None else {entry.path: entry for entry in contents.entries if entry.type == "file"}

        def on_written(path: str, descriptor: int) -> None:
            entry = known.get(layout.path(path) or "")
            if entry is not None and settle is not None:
                settle(entry, descriptor)

        extract_to(
            Counted(stream, telling),
            place,
            select=selected,
            first_names=first_names,
            on_written=None if settle is None else on_written,
            placed=layout.unpacked if layout.into else as_archived,
        )

    ports.progress.start("unpacking", backup.sidecar.get("bytes"))
    try:
        read_apart(write, opened, backup.path, ports, _owner_of(place), keep=(place,))
    finally:
        os.close(place)
    ports.progress.finish()
    return f"{directory}/{prefix}" if prefix else directory


def _owner_of(directory: int) -> Optional[Account]:
    status = os.fstat(directory)
    if os.geteuid() != 0 or status.st_uid == 0:
        return None
    return Account(name=f"#{status.st_uid}", uid=status.st_uid, gid=status.st_gid, home="/")


def checksum(path: Path, progress: Progress) -> str:
    """SHA-256 of an archive as it lies on the disk."""
    hasher = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            answer()
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


def home_of_key(key_file: Optional[str], ports: Ports) -> AbstractContextManager[Optional[str]]:
    """A gpg home with this secret key and nothing else, gone afterwards; None, for the account's own, without a key."""
    return nullcontext() if key_file is None else _home_with_key(key_file, ports)


@contextmanager
def _home_with_key(key_file: str, ports: Ports) -> Iterator[str]:
    require_gpg(ports.runner)
    with temporary_home(ports.runner) as home:
        import_secret_key(key_file, home, ports.runner)
        yield home


def passphrase_for(application: Application, given: Optional[str]) -> Optional[str]:
    """The passphrase file to decrypt with: the one given, else the configured one."""
    return given or application.encryption.passphrase_file
