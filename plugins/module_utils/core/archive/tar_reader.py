# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Reads archives as a stream: strict about everything that could harm the host, exact against the manifest.

Headers of one pattern are judged in full once; of the next ones only what differs is, which nearly all files share.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple, Optional

from ..errors import HostileArchiveError
from ..host.filesystem.holes import Extents, data_bytes, placed
from ..signals import answer
from .attributes import FACT, as_fact, is_record
from .comparison import NO_CONTENT, Comparison, ManifestRead, Told
from .holes import DataDigest
from .manifest import DATA_BYTES, LINKED, MANIFEST_NAME, NO_FACTS, Entry
from .members import LayoutOfForeign, Member, NullSink, ReadReport, Sink
from .safety import (
    DIRECTORY,
    FILE,
    SPECIAL,
    SYMLINK,
    Limits,
    Names,
    check_ratio,
    check_total,
    damaged,
    link_stays_inside,
    safe_relative,
)
from .tar_foreign import (
    DUMPED_DIRECTORY,
    LABEL,
    LEFT_OUT,
    OLD_SPARSE,
    REPACK,
    global_records,
    unknown_type,
)
from .tar_headers import (
    BLOCK,
    MARK,
    NANOSECONDS,
    HeaderPattern,
    RawHeader,
    parse_header,
    parse_pax,
)
from .tar_members import HARDLINK, MemberMaker
from .tar_source import CHUNK, Readable, Source

__all__ = ["Readable", "read_archive"]

_ZERO_BLOCK = bytes(BLOCK)
_MOST_MESSAGES = 100
_MOST_PATTERNS = 1000
_TWICE = "is in the archive more than once"
_MOST_LISTED = 256 << 20
_OWN_PAX_KEYS = frozenset(("path", "linkpath", "size", "mtime", "uname", "gname", "uid", "gid"))
_TYPES = {b"0": FILE, b"\0": FILE, b"7": FILE, b"5": DIRECTORY, b"2": SYMLINK, b"1": HARDLINK}
_FOREIGN_TYPES = {**_TYPES, OLD_SPARSE: FILE, DUMPED_DIRECTORY: DIRECTORY}
_SPARSE_KEYS = frozenset(("GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize"))


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


class _ForeignFile(NamedTuple):
    """What is kept of a file, for other names of it, and other files of its name."""

    size: int
    digest: bytes
    extents: Optional[Extents]

    @property
    def data_bytes(self) -> int:
        """How much of it is no hole."""
        return self.size if self.extents is None else data_bytes(self.extents)


class _ForeignContents:
    """What an archive without a manifest has held so far."""

    def __init__(self) -> None:
        self.files: dict[str, _ForeignFile] = {}
        self.links: dict[str, str] = {}

    def entry(self, member: Member, content: bytes) -> Entry:
        """A member as an entry, with the facts that a manifest would say."""
        facts: dict[str, Any] = {}
        if member.extents is not None:
            facts[DATA_BYTES] = member.data_bytes
        if member.attributes:
            facts[FACT] = as_fact(member.attributes)
        is_file = member.type == FILE
        if is_file and member.target is not None:
            facts[LINKED] = member.target
        return Entry(
            *member[:7],
            content.hex() if is_file else None,
            None if is_file else member.target,
            facts=facts or NO_FACTS,
        )


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
        self._hashed = b""
        self._holes = 0
        self._globals: dict[str, bytes] = {}
        self._foreign = _ForeignContents()
        self._members = MemberMaker(self._source, self._check_target, self._note, self._note_once)

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
        kind_of_entry = (_TYPES if self._ours else _FOREIGN_TYPES).get(raw.typeflag)
        if kind_of_entry is None:
            self._special(raw)
            return
        records = self._records() if self._extended.present or self._globals else {}
        member = self._members.member(raw, kind_of_entry, records, block)
        if self._manifest is not None:
            raise HostileArchiveError("entry comes after the manifest", path=member.path)
        if member.type == FILE:
            if self._ours and member.path == MANIFEST_NAME:
                self._read_manifest(member)
                return
            if self._commented and member.path == MANIFEST_NAME:
                raise damaged("archive has a manifest, but not the mark of tradekeep at its front", path=member.path)
            self._file(self._claimed(member))
            if alone:
                self._learn(block, member)
        elif member.type == HARDLINK:
            self._hardlink(member)
        else:
            self._bare(member._replace(size=0))
            self._pass_names(member)

    def _pass_names(self, member: Member) -> None:
        """Read over the names that ``tar -g`` lists behind a directory."""
        if member.size > _MOST_LISTED:
            raise HostileArchiveError(f"directory with a list of {member.size} bytes", path=member.path)
        for _names in self._source.pieces(member.size + -member.size % BLOCK):
            pass

    def _claimed(self, member: Member) -> Member:
        """The member, its name noted; in a foreign archive it may take the place of one of its type, as in tar."""
        entry_type = FILE if member.type == HARDLINK else member.type
        if self._ours:
            self._names.add(member.path, entry_type)
            return member
        try:
            again = self._names.add_or_repeat(member.path, entry_type)
        except HostileArchiveError as error:
            error.hint = REPACK
            raise
        return member._replace(again=True) if again else member

    def _special(self, raw: RawHeader) -> None:
        if raw.typeflag in (b"x", b"g", b"L", b"K"):
            self._extend(raw)
            return
        path = _text(self._extended.records.get("path", raw.name))
        what = LEFT_OUT.get(raw.typeflag)
        if self._ours or (what is None and raw.typeflag != LABEL):
            error = unknown_type(raw.typeflag, path)
            raise error if what is None else HostileArchiveError(f"entry is {what}", path=path)
        self._extended = _Extended()
        self._members.no_size(raw, path)
        if what is not None:
            path = self._members.path(path.encode("utf-8", "surrogateescape"), FILE)
            self._claimed(Member(path, SPECIAL, 0, 0, "", "", 0))
            self._note(f"{path}: {what}, left out")

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
        if self._ours and (self._extended.present or raw.typeflag != b"x" or not _is_own(records)):
            raise HostileArchiveError("extended header that tradekeep does not write", path=_text(raw.name))
        self._extended.records.update(records)
        self._extended.present = True

    def _global(self, records: dict[str, bytes]) -> None:
        if records.get("comment") == MARK.encode("ascii") and self._first:
            self._ours = self._members.ours = True
            return
        if self._ours:
            raise HostileArchiveError("global extended header changes the entries after it", path=_text(b"", records))
        self._globals.update(global_records(records))
        # Where our mark would be, whatever has become of it.
        self._commented = self._commented or self._first or "comment" in records

    def _records(self) -> dict[str, bytes]:
        """What was said of the entry that comes now; a record without a value says that there is none."""
        records, self._extended = self._extended.records, _Extended()
        if not self._ours:
            records = {key: value for key, value in {**self._globals, **records}.items() if value}
        if "GNU.sparse.name" in records:
            records["path"] = records["GNU.sparse.name"]
        return records

    def _check_target(self, path: str, entry_type: str, target: str) -> bool:
        if not target or "\0" in target:
            raise HostileArchiveError("link has no usable target", path=path)
        if entry_type == HARDLINK:
            if self._ours:
                raise HostileArchiveError("entry is a hardlink, which tradekeep does not write", path=path)
            if self._names.type_of(safe_relative(target)) not in (FILE, SYMLINK, SPECIAL):
                raise HostileArchiveError(f"hardlink to {target}, which is no file of this archive", path=path)
            return True
        return self._stays_inside(path, target)

    def _stays_inside(self, path: str, target: str) -> bool:
        inside = link_stays_inside(path, target)
        if not inside and len(self._unsafe_links) < _MOST_MESSAGES:
            self._unsafe_links.append(path)
        return inside

    # Content

    def _file(self, member: Member) -> None:
        size = member.data_bytes
        self._count(member.path, size)
        if member.extents is not None:
            self._holes += member.size - size
            self._take(member, self._placing(member.extents, size, member.size))
            digest = self._hashed
        elif size <= CHUNK:
            data = self._source.take(size)
            digest = sha256(data).digest()
            self._sink.on_file(member, iter((data,) if size else ()))
        else:
            self._take(member, self._hashing(size))
            digest = self._hashed
        if size % BLOCK and self._source.take(-size % BLOCK).strip(b"\0"):
            raise damaged("the filling after the file's content is not empty", path=member.path)
        self._observe(member, digest)

    def _count(self, path: str, size: int) -> None:
        self._files += 1
        self._bytes += size
        check_total(self._bytes, self._limits, path)
        if self._limits.ratio is not None:
            check_ratio(self._bytes, getattr(self._stream, "archive_bytes", None), self._limits, path)

    def _take(self, member: Member, chunks: Iterator[bytes]) -> None:
        self._sink.on_file(member, chunks)
        for _rest in chunks:
            pass

    def _placing(self, extents: Extents, stored: int, size: int) -> Iterator[bytes]:
        """The data of a sparse file, on whose digest its holes have no say."""
        digest = DataDigest()
        for offset, piece in placed(extents, self._source.pieces(stored)):
            digest.add(offset, piece)
            yield piece
        self._hashed = digest.digest(size)

    def _hashing(self, size: int) -> Iterator[bytes]:
        digest = sha256()
        for piece in self._source.pieces(size):
            answer()
            digest.update(piece)
            self._hashed = digest.digest() if (size := size - len(piece)) == 0 else b""
            yield piece

    def _bare(self, member: Member) -> None:
        if member.path == ".":
            return
        member = self._claimed(member)
        if member.type == DIRECTORY:
            self._sink.on_directory(member)
        else:
            self._sink.on_symlink(member)
        self._observe(member, NO_CONTENT)

    def _hardlink(self, member: Member) -> None:
        """Another name of what a foreign archive had before: it becomes one more file, or symlink."""
        path, target = member.path, member.target or ""
        if path == target:  # GNU tar writes a file so that its arguments name twice
            self._note(f"{path}: {_TWICE}, with the same content")
            return
        first = self._names.type_of(target)
        if first == SYMLINK:
            link = self._foreign.links[target]
            inside = self._stays_inside(path, link)
            self._bare(member._replace(type=SYMLINK, target=link, target_stays_inside=inside))
        elif first == SPECIAL:
            self._note(f"{path}: another name of a device or FIFO, left out")
        else:
            found = self._foreign.files[target]
            self._count(path, found.data_bytes)
            member = self._claimed(member._replace(size=found.size, extents=found.extents))
            self._sink.on_hardlink(member)
            self._observe(member._replace(type=FILE), found.digest)

    def _observe(self, member: Member, content: bytes) -> None:
        if self._ours:
            self._comparison.see(member, content)
            return
        self._layout.see(member)
        if member.type == SYMLINK:
            self._foreign.links[member.path] = member.target or ""
        elif member.type == FILE:
            self._keep(member, content)
        self._sink.on_entry(self._foreign.entry(member, content))

    def _keep(self, member: Member, content: bytes) -> None:
        before = self._foreign.files.get(member.path)
        if before is not None:
            what = "with the same content" if before.digest == content else "the last one counts"
            self._note(f"{member.path}: {_TWICE}, {what}")
        self._foreign.files[member.path] = _ForeignFile(member.size, content, member.extents)

    # The manifest and the end

    def _read_manifest(self, member: Member) -> None:
        pieces = self._source.pieces(member.size)
        self._manifest = self._comparison.read_manifest(pieces, self._names.count, self._bytes + self._holes)
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

    def _note_once(self, text: str) -> None:
        if text not in self._notes:
            self._note(text)

    def _note(self, text: str) -> None:
        if len(self._notes) < _MOST_MESSAGES:
            self._notes.append(text)


def _is_own(records: dict[str, bytes]) -> bool:
    return all(key in _OWN_PAX_KEYS or key in _SPARSE_KEYS or is_record(key) for key in records)


def _text(name: bytes, records: Optional[dict[str, bytes]] = None) -> str:
    return (records or {}).get("path", name).decode("utf-8", "surrogateescape")
