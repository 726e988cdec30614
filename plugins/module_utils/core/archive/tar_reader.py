# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Reads archives as a stream: strict about everything that could harm the host, exact against the manifest.

Headers of one pattern are judged in full once; of the next ones only what differs is, which nearly all files share.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Optional

from ..errors import HostileArchiveError
from .comparison import NO_CONTENT, Comparison, ManifestRead, Told
from .manifest import MANIFEST_NAME, Entry
from .members import LayoutOfForeign, Member, NullSink, ReadReport, Sink
from .safety import (
    DIRECTORY,
    FILE,
    SYMLINK,
    Limits,
    Names,
    check_mode,
    check_ratio,
    check_total,
    damaged,
    link_stays_inside,
    safe_relative,
    storable_mode,
)
from .tar_headers import (
    BLOCK,
    MARK,
    NANOSECONDS,
    HeaderPattern,
    RawHeader,
    apply_records,
    nanoseconds,
    parse_header,
    parse_pax,
)
from .tar_source import CHUNK, Readable, Source

__all__ = ["Readable", "read_archive"]

HARDLINK = "hardlink"
_ZERO_BLOCK = bytes(BLOCK)
_MOST_MESSAGES = 100
_MOST_PATTERNS = 1000
_OWN_PAX_KEYS = frozenset(("path", "linkpath", "size", "mtime", "uname", "gname", "uid", "gid"))
_TYPES = {b"0": FILE, b"\0": FILE, b"7": FILE, b"5": DIRECTORY, b"2": SYMLINK, b"1": HARDLINK}
_REFUSED = {b"3": "a character device", b"4": "a block device", b"6": "a FIFO", b"S": "a sparse file"}


def read_archive(
    stream: Readable,
    sink: Optional[Sink] = None,
    limits: Optional[Limits] = None,
    *,
    strict: bool = True,
    told: Optional[Told] = None,
) -> ReadReport:
    """Read an archive to its very end, handing its entries to ``sink``.

    Raises HostileArchiveError with the entry's name for anything that could do harm, ArchiveError for damage. Entries
    that differ from the manifest raise at the end, or with ``strict`` off are the report's ``problems``. told: what the
    writer says of the manifest while the archive is read.
    """
    report = _Reader(stream, sink or NullSink(), limits or Limits(), told).read()
    if strict and report.problems:
        more = f" (and {len(report.problems) - 1} more)" if len(report.problems) > 1 else ""
        raise damaged(f"archive and manifest disagree: {report.problems[0]}{more}")
    return report


class _Extended:
    """What extended headers say of the next entry."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.present = False


class _Reader:
    def __init__(self, stream: Readable, sink: Sink, limits: Limits, told: Optional[Told]) -> None:
        self._source = Source(stream)
        self._stream = stream
        self._sink = sink
        self._limits = limits
        self._names = Names(limits)
        self._ours = False
        self._commented = False
        self._first = True
        self._extended = _Extended()
        self._comparison = Comparison(sink, self._problem, told)
        self._patterns: dict[bytes, HeaderPattern] = {}
        self._bytes = 0
        self._files = 0
        self._manifest: Optional[ManifestRead] = None
        self._layout = LayoutOfForeign()
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._unsafe_links: list[str] = []
        self._owners: dict[tuple[bytes, int], str] = {}
        self._hashed = b""

    def read(self) -> ReadReport:
        take = self._source.take
        while True:
            if self._ours:
                self._recognize()
            block = take(BLOCK)
            pattern = self._patterns.get(HeaderPattern.key_of(block))
            if pattern is not None and self._one_more_file(block, pattern):
                continue
            if block == _ZERO_BLOCK:
                break
            self._one(block)
            self._first = False
        self._finish()
        header = self._manifest.header if self._manifest else None
        return ReadReport(
            layout="tradekeep" if self._ours else "foreign",
            header=header,
            entries=self._names.count,
            files=self._files,
            bytes=self._bytes,
            stripped_prefix="" if self._ours else self._layout.prefix,
            manifest_sha256=self._manifest.sha256 if self._manifest else None,
            problems=tuple(self._problems),
            notes=tuple(self._notes),
            unsafe_links=tuple(self._unsafe_links),
        )

    # One header and what follows it

    def _recognize(self) -> None:
        """Take the files of which the writer told one digest, byte for byte as they were captured."""
        span = self._comparison.expected_after(self._names.count)
        while span is not None:
            if sha256(self._source.take(span.size)).digest() != span.sha256:
                raise damaged("what was read back is not what was written")
            self._names.count += span.entries
            self._files += span.entries
            self._bytes += span.content
            span = self._comparison.expected_after(self._names.count)

    def _one_more_file(self, block: bytes, pattern: HeaderPattern) -> bool:
        """A file whose header has a known pattern; false, with nothing done, when it needs to be judged in full."""
        read = pattern.read(block)
        if read is None or self._extended.present:
            return False
        name, size, mtime = read
        path = name.decode("utf-8", "surrogateescape")
        if path == MANIFEST_NAME:
            return False
        safe_relative(path)
        self._names.add(path, FILE)
        self._file(Member(path, FILE, size, pattern.mode, pattern.owner, pattern.group, mtime * NANOSECONDS))
        return True

    def _learn(self, block: bytes, member: Member) -> None:
        """Remember the pattern of a header of ours that was judged in full, and that no other header spoke of."""
        if self._ours and len(self._patterns) < _MOST_PATTERNS:
            pattern = HeaderPattern.of(block, member.mode, member.owner, member.group)
            if pattern is not None:
                self._patterns[HeaderPattern.key_of(block)] = pattern

    def _one(self, block: bytes) -> None:
        raw, alone = parse_header(block), not self._extended.present
        kind_of_entry = _TYPES.get(raw.typeflag)
        if kind_of_entry is None:
            self._special(raw)
            return
        member = self._member(raw, kind_of_entry)
        if self._manifest is not None:
            raise HostileArchiveError("entry comes after the manifest", path=member.path)
        if member.type == FILE:
            if self._ours and member.path == MANIFEST_NAME:
                self._read_manifest(member)
                return
            if self._commented and member.path == MANIFEST_NAME:
                raise damaged("archive has a manifest, but not the mark of tradekeep at its front", path=member.path)
            self._names.add(member.path, FILE)
            self._file(member)
            if alone:
                self._learn(block, member)
        else:
            self._bare(member)

    def _special(self, raw: RawHeader) -> None:
        if raw.typeflag in (b"x", b"g", b"L", b"K"):
            self._extend(raw)
            return
        what = _REFUSED.get(raw.typeflag, f"of the unknown type {raw.typeflag!r}")
        raise HostileArchiveError(f"entry is {what}", path=_text(self._extended.records.get("path", raw.name)))

    def _extend(self, raw: RawHeader) -> None:
        if raw.size > self._limits.extended_header_bytes:
            raise HostileArchiveError(f"extended header of {raw.size} bytes", path=_text(raw.name))
        body = self._source.take(raw.size + -raw.size % BLOCK)[: raw.size]
        if raw.typeflag == b"g":
            self._global(parse_pax(body))
            return
        if raw.typeflag == b"x":
            records = parse_pax(body)
        else:
            records = {"path" if raw.typeflag == b"L" else "linkpath": body.rstrip(b"\0")}
        if self._ours and (self._extended.present or raw.typeflag != b"x" or not _OWN_PAX_KEYS.issuperset(records)):
            raise HostileArchiveError("extended header that tradekeep does not write", path=_text(raw.name))
        if any(key.startswith("GNU.sparse") for key in records):
            raise HostileArchiveError("entry is a sparse file", path=_text(records.get("path", raw.name)))
        self._extended.records.update(records)
        self._extended.present = True

    def _global(self, records: dict[str, bytes]) -> None:
        if records.get("comment") == MARK.encode("ascii") and self._first:
            self._ours = True
            return
        if self._ours or not {"comment"}.issuperset(records):
            raise HostileArchiveError("global extended header changes the entries after it", path=_text(b"", records))
        self._commented = True

    def _member(self, raw: RawHeader, entry_type: str) -> Member:
        records: dict[str, bytes] = {}
        if self._extended.present:
            records, self._extended = self._extended.records, _Extended()
            raw = apply_records(raw, records)
        if entry_type == FILE and raw.name[-1:] == b"/" and not self._ours:
            entry_type = DIRECTORY
        path = self._path(raw.name, entry_type)
        mode = raw.mode
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
                target = target.removeprefix("./")
            inside = self._check_target(path, entry_type, target)
        owner = self._owner(raw.uname, raw.uid)
        group = self._owner(raw.gname, raw.gid)
        size = raw.size if entry_type == FILE else self._no_size(raw, path)
        return Member(path, entry_type, size, mode, owner, group, mtime_ns, target, inside)

    def _path(self, name: bytes, entry_type: str) -> str:
        path = name.decode("utf-8", "surrogateescape")
        if not self._ours:
            while path.startswith("./"):
                path = path[2:].lstrip("/") if path != "./" else "."
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
        if self._ours:
            check_mode(mode, entry_type, path)
        self._note(f"{path}: mode {mode:04o} was read as {storable_mode(mode, entry_type):04o}")
        return storable_mode(mode, entry_type)

    def _check_target(self, path: str, entry_type: str, target: str) -> bool:
        if not target or "\0" in target:
            raise HostileArchiveError("link has no usable target", path=path)
        if entry_type == HARDLINK:
            if self._ours:
                raise HostileArchiveError("entry is a hardlink, which tradekeep does not write", path=path)
            if self._names.type_of(safe_relative(target)) != FILE:
                raise HostileArchiveError(f"hardlink to {target}, which is no file of this archive", path=path)
            return True
        inside = link_stays_inside(path, target)
        if not inside and len(self._unsafe_links) < _MOST_MESSAGES:
            self._unsafe_links.append(path)
        return inside

    def _no_size(self, raw: RawHeader, path: str) -> int:
        if raw.size and (self._ours or raw.typeflag != b"1"):
            raise HostileArchiveError("entry has a size although it has no content", path=path)
        return 0

    # Content

    def _file(self, member: Member) -> None:
        size = member.size
        self._files += 1
        self._bytes += size
        check_total(self._bytes, self._limits, member.path)
        if self._limits.ratio is not None:
            check_ratio(self._bytes, getattr(self._stream, "archive_bytes", None), self._limits, member.path)
        if size <= CHUNK:
            data = self._source.take(size)
            digest = sha256(data).digest()
            self._sink.on_file(member, iter((data,) if size else ()))
        else:
            chunks = self._hashing(size)
            self._sink.on_file(member, chunks)
            for _rest in chunks:
                pass
            digest = self._hashed
        if size % BLOCK and self._source.take(-size % BLOCK).strip(b"\0"):
            raise damaged("the filling after the file's content is not empty", path=member.path)
        self._observe(member, digest)

    def _hashing(self, size: int) -> Iterator[bytes]:
        digest = sha256()
        for piece in self._source.pieces(size):
            digest.update(piece)
            self._hashed = digest.digest() if (size := size - len(piece)) == 0 else b""
            yield piece

    def _bare(self, member: Member) -> None:
        if member.path == ".":
            return
        self._names.add(member.path, FILE if member.type == HARDLINK else member.type)
        if member.type == DIRECTORY:
            self._sink.on_directory(member)
        elif member.type == SYMLINK:
            self._sink.on_symlink(member)
        else:
            self._sink.on_hardlink(member)
        self._observe(member, NO_CONTENT)

    def _observe(self, member: Member, content: bytes) -> None:
        if self._ours:
            self._comparison.see(member, content)
            return
        self._layout.see(member)
        self._sink.on_entry(Entry(*member[:7], content.hex() if member.type == FILE else None, member.target))

    # The manifest and the end

    def _read_manifest(self, member: Member) -> None:
        pieces = self._source.pieces(member.size)
        self._manifest = self._comparison.read_manifest(pieces, self._names.count, self._bytes)
        self._patterns.clear()
        self._source.take(-member.size % BLOCK)

    def _finish(self) -> None:
        if self._extended.present:
            raise damaged("archive ends after an extended header")
        if self._source.take(BLOCK) != _ZERO_BLOCK:
            raise damaged("archive has a lone empty block in the middle")
        filling = 0
        for data in self._source.rest():
            if data.strip(b"\0"):
                raise HostileArchiveError("archive goes on after its end: several were joined, or garbage was added")
            filling += len(data)
            if filling > self._limits.padding_bytes:
                raise HostileArchiveError("archive is filled up with nothing after its end: a decompression bomb")
        if self._ours and self._manifest is None:
            raise damaged("archive has lost its manifest", path=MANIFEST_NAME)

    def _problem(self, text: str) -> None:
        if len(self._problems) < _MOST_MESSAGES:
            self._problems.append(text)

    def _note(self, text: str) -> None:
        if len(self._notes) < _MOST_MESSAGES:
            self._notes.append(text)


def _text(name: bytes, records: Optional[dict[str, bytes]] = None) -> str:
    return (records or {}).get("path", name).decode("utf-8", "surrogateescape")
