# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Unpacks an archive beneath a stage directory, through directory descriptors that never follow a symlink.

Files are 0600 and directories 0700 here; owners, modes and times are the caller's to apply, entry by entry, once the
entry was found to agree with the manifest (``on_entry``).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Union

from ..errors import ArchiveError, SpaceError, UnsafePathError
from ..host.filesystem.holes import extents_of, pieces_of, write_pieces
from .manifest import Entry
from .members import Member, NullSink, ReadReport
from .safety import Limits
from .tar_reader import Readable, read_archive

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORIES = 32
OnWritten = Callable[[str, int], None]


@dataclass(frozen=True)
class ExtractReport:
    """What was written. skipped_links: symlinks that were not made because they could lead out of the stage."""

    read: ReadReport
    files: int
    directories: int
    symlinks: int
    bytes: int
    skipped_links: tuple[str, ...]


def everything(path: str) -> bool:
    """Selects every entry."""
    return True


def as_archived(path: str) -> str:
    """Writes every entry where the archive has it."""
    return path


def extract_to(
    stream: Readable,
    stage: Union[str, Path, int],
    *,
    select: Callable[[str], bool] = everything,
    limits: Optional[Limits] = None,
    on_entry: Optional[Callable[[Entry], None]] = None,
    first_names: AbstractSet[str] = frozenset(),
    on_written: Optional[OnWritten] = None,
    placed: Callable[[str], str] = as_archived,
) -> ExtractReport:
    """Write the selected entries beneath ``stage``, which exists and is private; read the archive to its end.

    stage: a path, or an open directory. on_entry: called with each selected entry that was written, once it agrees with
    the manifest. first_names: files that are not selected, and of which other names are. on_written: called with the
    path and the descriptor of each file whose content is there, before the archive was read to its end. placed: where
    beneath the stage an entry is written. On an error the stage holds a part of the archive, and is the caller's to
    remove.
    """
    try:
        kind = StageSink if on_entry is None else _TellingSink
        sink = kind(stage, select, on_entry, first_names, on_written, placed)
    except OSError as error:
        raise _as_engine_error(error, str(stage)) from error
    try:
        report = read_archive(stream, sink, limits)
        sink.remove_first_names()
    except OSError as error:
        raise _as_engine_error(error, sink.current) from error
    finally:
        sink.close()
    return ExtractReport(report, sink.files, sink.directories, sink.symlinks, sink.bytes, tuple(sink.skipped_links))


def _as_engine_error(error: OSError, path: str) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceError("disk is full while unpacking", path=path, hint="free some space and run it again")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST):
        return UnsafePathError("something in the stage is in the way of the archive", path=path)
    return ArchiveError(f"cannot be unpacked: {error.strerror}", path=path)


class StageSink(NullSink):
    """Writes beneath one directory and nowhere else."""

    def __init__(
        self,
        stage: Union[str, Path, int],
        select: Callable[[str], bool] = everything,
        on_entry: Optional[Callable[[Entry], None]] = None,
        first_names: AbstractSet[str] = frozenset(),
        on_written: Optional[OnWritten] = None,
        placed: Callable[[str], str] = as_archived,
    ) -> None:
        self._placed = placed
        self._on_written = on_written
        self._select = select
        self._first_names = first_names
        self._told = on_entry
        self._stage = os.dup(stage) if isinstance(stage, int) else os.open(stage, _DIRECTORY_FLAGS)
        self._open: OrderedDict[str, int] = OrderedDict()
        self.current = str(stage)
        self.files = self.directories = self.symlinks = self.bytes = 0
        self.skipped_links: dict[str, None] = {}

    def close(self) -> None:
        """Close all descriptors."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        if self._stage >= 0:
            os.close(self._stage)
            self._stage = -1

    def on_directory(self, member: Member) -> None:
        """Make the directory, unless it was made for something in it."""
        if not self._select(member.path):
            return
        self.current = member.path
        self._directory(self._placed(member.path))
        self.directories += 1

    def on_symlink(self, member: Member) -> None:
        """Make the symlink if it can only lead to something in the stage."""
        if not self._select(member.path):
            return
        self.current = member.path
        parent, name = self._parent(member.path)
        self._make_room(member, parent, name)
        if not member.target_stays_inside or member.target is None:
            self.skipped_links[member.path] = None
            return
        self.skipped_links.pop(member.path, None)
        os.symlink(os.fsencode(member.target), name, dir_fd=parent)
        self.symlinks += 1

    def on_hardlink(self, member: Member) -> None:
        """Write the content a second time: a link would tie the two names together for ever."""
        if not self._select(member.path) or member.target is None:
            return
        self.current = member.path
        source_parent, source_name = self._parent(member.target)
        try:
            source = os.open(source_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_parent)
        except FileNotFoundError as error:
            raise ArchiveError(
                f"is a hardlink to {member.target}, which was not selected", path=member.path, hint="select both"
            ) from error
        try:
            extents = extents_of(source, member.size)
            chunks = pieces_of(source, ((0, member.size),) if extents is None else extents)
            self._write(member._replace(extents=extents), chunks)
        finally:
            os.close(source)

    def on_file(self, member: Member, chunks: Iterator[bytes]) -> None:
        """Write a new file."""
        if not self._select(member.path) and member.path not in self._first_names:
            return
        self.current = member.path
        self._write(member, chunks)

    def remove_first_names(self) -> None:
        """Remove what was written for its other names alone."""
        for path in self._first_names:
            if not self._select(path):
                parent, name = self._parent(path)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=parent)

    def _write(self, member: Member, chunks: Iterator[bytes]) -> None:
        parent, name = self._parent(member.path)
        self._make_room(member, parent, name)
        descriptor = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            self.bytes += write_pieces(descriptor, member.size, member.extents, chunks)
            if self._on_written is not None:
                self._on_written(member.path, descriptor)
        finally:
            os.close(descriptor)
        self.files += 1

    @staticmethod
    def _make_room(member: Member, parent: int, name: bytes) -> None:
        """Remove the earlier entry of the same name and type, as tar does."""
        if member.again:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)

    def _parent(self, path: str) -> tuple[int, bytes]:
        directory, _slash, name = self._placed(path).rpartition("/")
        return self._directory(directory), os.fsencode(name)

    def _directory(self, path: str) -> int:
        """A descriptor of a directory beneath the stage, made where it is missing."""
        if not path:
            return self._stage
        descriptor = self._open.get(path)
        if descriptor is not None:
            self._open.move_to_end(path)
            return descriptor
        parent_path, _slash, last = path.rpartition("/")
        parent = self._directory(parent_path)
        name = os.fsencode(last)
        # Opening it without following links tells whether what exists is a directory.
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = self._open[path] = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
        if len(self._open) > _OPEN_DIRECTORIES:
            # The directory just opened and the one above it are the newest two: the oldest is neither.
            os.close(self._open.popitem(last=False)[1])
        return descriptor


class _TellingSink(StageSink):
    """The same for a caller who wants to hear of each entry, for which every line of the manifest has to be parsed."""

    def on_entry(self, entry: Entry) -> None:
        """Tell of an entry that was written and is as it was."""
        if self._told is not None and self._select(entry.path) and entry.path not in self.skipped_links:
            self.current = entry.path
            self._told(entry)
