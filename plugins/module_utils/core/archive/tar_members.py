# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a header of a tar, and the records before it, say of an entry: judged, and tamed in what is not ours."""

from __future__ import annotations

from typing import Callable, Optional

from ..errors import HostileArchiveError
from ..host.filesystem.attributes import Attributes
from .attributes import NO_ATTRIBUTES, Allowance, attributes_in
from .holes import MapReader, checked
from .members import Member
from .safety import DIRECTORY, FILE, SYMLINK, check_mode, safe_relative, storable_mode
from .tar_foreign import (
    DUMPED_DIRECTORY,
    OLD_SPARSE,
    REPACK,
    Sparse,
    is_incremental,
    old_sparse,
    plain_name,
    real_size,
    sparse_by_records,
)
from .tar_headers import BLOCK, NANOSECONDS, RawHeader, apply_records, nanoseconds
from .tar_source import Source

HARDLINK = "hardlink"
_INCREMENTAL = "made by tar -g: it may hold only what had changed since the archive before it"


class MemberMaker:
    """Makes members of headers.

    source: where the map of a sparse file follows. targets: judges where a link leads, and says whether it stays
    inside. note, note_once: told what was tamed. ours: whether the archive has the mark of tradekeep.
    """

    def __init__(
        self,
        source: Source,
        targets: Callable[[str, str, str], bool],
        note: Callable[[str], None],
        note_once: Callable[[str], None],
    ) -> None:
        self._source = source
        self._targets = targets
        self._note = note
        self._note_once = note_once
        self._owners: dict[tuple[bytes, int], str] = {}
        self._allowance = Allowance()
        self.ours = False

    def member(self, raw: RawHeader, entry_type: str, records: dict[str, bytes], block: bytes) -> Member:
        """The entry of a header. block: the header as it lies there; records: what was said of it before."""
        if records:
            raw = apply_records(raw, records)
        if entry_type == FILE and raw.name[-1:] == b"/" and not self.ours:
            entry_type = DIRECTORY
        path = self.path(raw.name, entry_type)
        mode = raw.mode if self.ours else raw.mode & 0o7777  # old programs added the type
        if storable_mode(mode, entry_type) != mode:
            mode = self._tame_mode(mode, entry_type, path)
        mtime_ns = raw.mtime * NANOSECONDS
        if "mtime" in records:
            mtime_ns = nanoseconds(records["mtime"], path)
        target: Optional[str] = None
        inside = True
        if entry_type in (SYMLINK, HARDLINK):
            target = raw.linkname.decode("utf-8", "surrogateescape")
            if entry_type == HARDLINK:
                target = plain_name(target)
            inside = self._targets(path, entry_type, target)
        owner = self._owner(raw.uname, raw.uid)
        group = self._owner(raw.gname, raw.gid)
        if not self.ours and is_incremental(raw.typeflag, records):
            self._note_once(_INCREMENTAL)
        has_size = entry_type == FILE or raw.typeflag == DUMPED_DIRECTORY
        size = raw.size if has_size else self.no_size(raw, path)
        extents = None
        if entry_type == FILE and (records or raw.typeflag == OLD_SPARSE):
            sparse = self._sparse(raw, records, block, path)
            if sparse is not None:
                size, extents = sparse.size, sparse.extents
        attributes = self._attributes(records, path) if records else NO_ATTRIBUTES
        return Member(path, entry_type, size, mode, owner, group, mtime_ns, target, inside, extents, attributes)

    def _attributes(self, records: dict[str, bytes], path: str) -> Attributes:
        attributes = attributes_in(records)
        if not attributes or self._allowance.has_room_for(attributes):
            return attributes
        if self.ours:
            raise HostileArchiveError("entry has more extended attributes than tradekeep writes", path=path)
        self._note(f"{path}: its extended attributes are too many or too large, left out")
        return NO_ATTRIBUTES

    def _sparse(self, raw: RawHeader, records: dict[str, bytes], block: bytes, path: str) -> Optional[Sparse]:
        if raw.typeflag == OLD_SPARSE:
            return old_sparse(block, self._source, raw.size, path)
        version = records.get("GNU.sparse.major"), records.get("GNU.sparse.minor")
        if version == (None, None):
            return sparse_by_records(records, raw.size, path)
        if version != (b"1", b"0"):
            raise HostileArchiveError("entry is a sparse file of an unknown form", path=path, hint=REPACK)
        return self._mapped(raw.size, records, path)

    def _mapped(self, stored: int, records: dict[str, bytes], path: str) -> Sparse:
        """A sparse file whose map lies in front of its data."""
        reader, more = MapReader(path), True
        while more:
            if stored < BLOCK:
                raise HostileArchiveError("map of the sparse file does not fit its content", path=path)
            more = reader.takes(self._source.take(BLOCK))
            stored -= BLOCK
        size = real_size(records, path)
        return Sparse(size, checked(reader.numbers, stored, size, path), stored)

    def path(self, name: bytes, entry_type: str) -> str:
        """Its path, as it may be written beneath a directory."""
        path = name.decode("utf-8", "surrogateescape")
        if not self.ours:
            path = plain_name(path)
            if path == "." and entry_type == DIRECTORY:
                return path
        if entry_type == DIRECTORY and path[-1:] == "/":
            path = path[:-1]
        return safe_relative(path)

    def _owner(self, name: bytes, number: int) -> str:
        owner = self._owners.get((name, number))
        if owner is None:
            owner = name.decode("utf-8", "surrogateescape") if name else f"#{number}"
            if len(self._owners) < 10_000:
                self._owners[name, number] = owner
        return owner

    def _tame_mode(self, mode: int, entry_type: str, path: str) -> int:
        if self.ours:
            check_mode(mode, entry_type, path)
        self._note(f"{path}: mode {mode:04o} was read as {storable_mode(mode, entry_type):04o}")
        return storable_mode(mode, entry_type)

    def no_size(self, raw: RawHeader, path: str) -> int:
        """The size of an entry that has no content."""
        if raw.size and (self.ours or raw.typeflag != b"1"):
            raise HostileArchiveError("entry has a size although it has no content", path=path)
        return 0
