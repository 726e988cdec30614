# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Reading a backup's archive, wherever it came from: entries as paths of the application."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from ..application import Application
from ..archive.container import open_container
from ..archive.manifest import Entry
from ..archive.members import Member, NullSink, ReadReport
from ..archive.tar_reader import read_archive
from ..errors import ArchiveError
from ..ports import Ports, Progress
from ..storage.local import Backup

CHUNK = 1 << 20


@dataclass(frozen=True)
class Contents:
    """What an archive holds: its entries with paths relative to the application's root."""

    report: ReadReport
    entries: tuple[Entry, ...]

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


class PlacingSink(NullSink):
    """Writes chosen files where ``place`` says; the reader has already refused every name that could escape.

    Symlinks are left to the caller, so that nothing can be written through one.
    """

    def __init__(self, place: Callable[[str], Optional[str]], prefix: str, progress: Progress) -> None:
        self._place = place
        self._prefix = prefix
        self._progress = progress
        self._placed: dict[str, str] = {}

    def on_file(self, member: Member, chunks: Iterator[bytes]) -> None:
        """Write the file, readable by its owner only until its rights are set."""
        path = strip(member.path, self._prefix)
        target = None if path is None else self._place(path)
        if target is None:
            return
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            for chunk in chunks:
                stream.write(chunk)
                self._progress.advance(len(chunk))
        self._placed[member.path] = target

    def on_hardlink(self, member: Member) -> None:
        """A second name of an earlier file becomes a file of its own."""
        path = strip(member.path, self._prefix)
        target = None if path is None else self._place(path)
        source = self._placed.get(member.target or "")
        if target is None:
            return
        if source is None:
            raise ArchiveError(
                f"a hard link to {member.target}, which was not chosen", path=member.path, hint="restore both"
            )
        with open(source, "rb") as stream:
            self.on_file(member, iter(lambda: stream.read(CHUNK), b""))


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
    if report.layout == "tradekeep":
        return Contents(report, tuple(collector.entries))
    stripped = ((entry, strip(entry.path, report.stripped_prefix)) for entry in collector.entries)
    return Contents(report, tuple(entry._replace(path=path) for entry, path in stripped if path))


def unpack(
    backup: Backup,
    contents: Contents,
    place: Callable[[str], Optional[str]],
    ports: Ports,
    passphrase_file: Optional[str],
) -> None:
    """Write the chosen files of an archive that has been read before; it is checked again on the way."""
    ports.progress.start("staging", backup.sidecar.get("bytes"))
    sink = PlacingSink(place, contents.report.stripped_prefix, ports.progress)
    with open_container(backup.path, runner=ports.runner, passphrase_file=passphrase_file) as stream:
        read_archive(stream, sink)
    ports.progress.finish()


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


def passphrase_for(application: Application, given: Optional[str]) -> Optional[str]:
    """The passphrase file to decrypt with: the one given, else the configured one."""
    return given or application.encryption.passphrase_file
