# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Writes an application's archive to a stream: each byte of content is read once and hashed on the way."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import BinaryIO, Optional, Protocol

from ..errors import ArchiveError, ChangedWhileReadError
from ..host.filesystem.holes import Extents, data_bytes, placed
from ..signals import answer
from .alike import Sealed
from .attributes import FACT, of_facts, records_of
from .holes import DataDigest, pack_map
from .manifest import DATA_BYTES, MANIFEST_NAME, Entry, Header, ManifestWriter, Totals
from .safety import DIRECTORY, FILE, SYMLINK, Limits, Names, all_safe_relative, check_mode, safe_relative
from .tar_headers import (
    LARGEST_USTAR_SIZE,
    MARK,
    NANOSECONDS,
    HeaderTemplate,
    OwnerFields,
    owner_fields,
    pack_header,
    pack_pax,
    padding,
    split_name,
)
from .telling import Span, Tell, tell_nobody

CHUNK = 1 << 20
RECORD = 10240
Records = tuple[tuple[str, bytes], ...]
_SPARSE_NAME = "GNUSparseFile.0/sparse"
"""What a tar that knows no sparse files would call them; the others take the name of the extended header."""
_TYPEFLAGS = {FILE: b"0", DIRECTORY: b"5", SYMLINK: b"2"}


class Writable(Protocol):
    """Where the archive goes."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""


class ArchiveWriter:
    """An archive in the making. Entries keep the order in which they are added; the manifest comes last.

    tell: gets the manifest's text as soon as it is known.
    """

    def __init__(self, stream: Writable, header: Header, tell: Tell = tell_nobody) -> None:
        self._stream = stream
        self._created = header.created
        self._manifest = ManifestWriter(header, tell)
        self._names = Names(Limits())
        self._owners: dict[tuple[str, str], OwnerFields] = {}
        self._templates: dict[tuple[str, int, str, str], HeaderTemplate] = {}
        self._pending: list[bytes] = [pack_pax((("comment", MARK.encode("ascii")),), b"g")]
        self._pending_bytes = len(self._pending[0])
        self._written = 0
        self._content_bytes = 0
        self._holes = 0

    def add_directory(self, entry: Entry) -> Entry:
        """A directory, empty or not."""
        return self._add_bare(entry._replace(type=DIRECTORY, size=0, sha256=None, target=None))

    def add_symlink(self, entry: Entry) -> Entry:
        """A symlink as such; what it points to is not followed."""
        if not entry.target or "\0" in entry.target:
            raise ArchiveError("symlink has no usable target", path=entry.path)
        return self._add_bare(entry._replace(type=SYMLINK, size=0, sha256=None))

    def add_file(self, entry: Entry, source: BinaryIO, size: int) -> Entry:
        """Exactly ``size`` bytes of ``source``; returns the entry with size and digest.

        Raises ChangedWhileReadError when the source ends early. The archive is useless then: nothing can be taken
        back from a stream.
        """
        entry = entry._replace(type=FILE, size=size, target=None, owner=entry.owner or "#0", group=entry.group or "#0")
        self._put_header(entry)
        digest = sha256()
        left = size
        while left:
            answer()
            data = source.read(left if left < CHUNK else CHUNK)
            if not data:
                raise ChangedWhileReadError(f"file ended {left} bytes early while it was read", path=entry.path)
            digest.update(data)
            self._put(data)
            left -= len(data)
        if size % 512:
            self._put(padding(size))
        self._content_bytes += size
        entry = entry._replace(sha256=digest.hexdigest())
        self._manifest.add(entry)
        return entry

    def add_sparse(self, entry: Entry, chunks: Iterable[bytes], size: int, extents: Extents) -> Entry:
        """A file of ``size`` bytes of which the extents alone are data: their chunks. Returns it with its digest.

        Stored as GNU tar and bsdtar store and unpack it (PAX 1.0): a map of the data, and the data.
        """
        stored = data_bytes(extents)
        facts = {**entry.facts, DATA_BYTES: stored}
        entry = entry._replace(type=FILE, size=size, target=None, facts=facts)
        packed = pack_map(extents, size)
        self._put_header(entry, sparse=len(packed) + stored)
        self._put(packed)
        digest, left = DataDigest(), stored
        for offset, data in placed(extents, chunks):
            digest.add(offset, data)
            self._put(data)
            left -= len(data)
        if left:
            raise ChangedWhileReadError(f"file ended {left} bytes early while it was read", path=entry.path)
        self._put(padding(stored))
        self._content_bytes += stored
        self._holes += size - stored
        entry = entry._replace(sha256=digest.hexdigest(size))
        self._manifest.add(entry)
        return entry

    def add_content(self, entry: Entry, content: bytes) -> None:
        """A file that is whole in memory; ``entry`` has its type, size and owners already."""
        self._put_header(entry)
        self._put(content + padding(len(content)))
        self._content_bytes += len(content)
        self._manifest.add(entry, sha256(content).hexdigest())

    def add_batch(self, batch: Sealed) -> None:
        """Small files, at least one, whose headers and lines are made already."""
        all_safe_relative(batch.paths)
        first = self._names.count
        self._names.add_files(batch.paths)
        span = Span(first, len(batch.paths), batch.bytes, len(batch.data), batch.sha256)
        self._manifest.add_lines(batch.text, span)
        self._put(batch.data)
        self._content_bytes += batch.bytes

    def finish(self) -> Totals:
        """Write the manifest and the end of the archive. The stream stays open."""
        manifest_sha256 = self._manifest.finish(self._content_bytes + self._holes)
        size = self._manifest.size
        mtime_ns = _seconds(self._created) * NANOSECONDS
        self._put_tar_header(Entry(MANIFEST_NAME, FILE, size, 0o600, "#0", "#0", mtime_ns))
        for chunk in self._manifest.chunks():
            self._put(chunk)
        self._put(padding(size) + bytes(1024))
        self._put(bytes(-(self._written + self._pending_bytes) % RECORD))
        self._flush()
        return Totals(self._names.count, self._content_bytes, manifest_sha256)

    def _add_bare(self, entry: Entry) -> Entry:
        entry = entry._replace(owner=entry.owner or "#0", group=entry.group or "#0")
        self._put_header(entry)
        self._manifest.add(entry)
        return entry

    def _put_header(self, entry: Entry, sparse: Optional[int] = None) -> None:
        """sparse: how many bytes of a sparse file follow, its map included."""
        path = safe_relative(entry.path)
        if path == MANIFEST_NAME:
            raise ArchiveError(
                "this name is the archive's own", path=path, hint="exclude the file in the profile, or rename it"
            )
        check_mode(entry.mode, entry.type, path)
        self._names.add(path, entry.type)
        attributes = of_facts(entry.facts) if FACT in entry.facts else ()
        if sparse is not None or attributes:
            self._put_extended(entry, sparse, records_of(attributes))
        else:
            self._put_tar_header(entry)

    def _put_extended(self, entry: Entry, sparse: Optional[int], records: Records) -> None:
        """What no plain header can say: the length of a sparse file, attributes."""
        if sparse is not None:
            name = entry.path.encode("utf-8", "surrogateescape")
            sizes = (("GNU.sparse.name", name), ("GNU.sparse.realsize", b"%d" % entry.size))
            records = (("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), *sizes, *records)
            entry = entry._replace(path=_SPARSE_NAME, size=sparse)
        self._put_tar_header(entry, records)

    def _put_tar_header(self, entry: Entry, more: Records = ()) -> None:
        """more: records of an extended header."""
        path, entry_type, size, mode, owner, group, mtime_ns, _sha256, target = entry[:9]
        template = self._templates.get((entry_type, mode, owner, group))
        mtime = mtime_ns // NANOSECONDS
        if (
            template is not None
            and not more
            and len(path) <= 100
            and path.isascii()
            and size <= LARGEST_USTAR_SIZE
            and 0 <= mtime <= LARGEST_USTAR_SIZE
        ):
            self._put(template.pack(path.encode("ascii"), size, mtime))
            return
        packed_owner = self._owners.get((owner, group))
        if packed_owner is None:
            packed_owner = self._owners[owner, group] = owner_fields(owner, group)
        records = packed_owner.records + more
        if entry_type == FILE and not records:
            self._templates[entry_type, mode, owner, group] = HeaderTemplate(mode, packed_owner, _TYPEFLAGS[FILE])
        name = path.encode("utf-8", "surrogateescape")
        if entry_type == DIRECTORY:
            name += b"/"
        parts = split_name(name)
        if parts is None:
            records += (("path", name),)
            parts = b"", name[:100]
        link = target.encode("utf-8", "surrogateescape") if target else b""
        if len(link) > 100:
            records += (("linkpath", link),)
            link = link[:100]
        if not 0 <= mtime <= LARGEST_USTAR_SIZE:
            records += (("mtime", b"%d" % mtime),)
            mtime = 0
        if size > LARGEST_USTAR_SIZE:
            records += (("size", b"%d" % size),)
            size = 0
        if records:
            self._put(pack_pax(records))
        self._put(pack_header(parts[1], parts[0], mode, packed_owner, size, mtime, _TYPEFLAGS[entry_type], link))

    def _put(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._written += len(data)
        self._pending_bytes = 0
        self._stream.write(data)


def _seconds(created: str) -> int:
    """Seconds since 1970 of the header's time; 0 when it is not one (the tar field is decoration here)."""
    try:
        return max(0, int(datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp()))
    except ValueError:
        return 0
