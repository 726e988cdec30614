# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The manifest: what an archive holds, written and read as a stream.

The text is one JSON document with one entry per line, in the order of the archive. It is the archive's last member,
and its own last line carries the digest of the lines before, so that it vouches for itself as well.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from json.encoder import encode_basestring_ascii as quote
from types import MappingProxyType
from typing import Any, Callable, NamedTuple, Optional

from ..errors import ArchiveError
from .compression import fast_compressor
from .safety import DIRECTORY, FILE, SYMLINK, damaged
from .telling import Span, Tell, tell_nobody

MANIFEST_NAME = "MANIFEST.json"
FORMAT = 1
LONGEST_LINE = 16 << 20

NO_FACTS: Mapping[str, Any] = MappingProxyType({})
TYPES = (FILE, DIRECTORY, SYMLINK)
DATA_BYTES = "data_bytes"
"""The fact that a file is a sparse one: how much of it is no hole. Its digest is that of ``holes.DataDigest``."""
LINKED = "linked_to"
"""The fact that a file of a foreign archive is another name of an earlier one."""
_SIZE = re.compile(rb',"size":(\d{1,19}),')


class Entry(NamedTuple):
    """One thing in an archive. ``owner`` and ``group`` are names, or ``#1234`` where the number has no name."""

    path: str
    type: str
    size: int = 0
    mode: int = 0
    owner: str = ""
    group: str = ""
    mtime_ns: int = 0
    sha256: Optional[str] = None
    target: Optional[str] = None
    kind: Optional[str] = None
    component: Optional[str] = None
    facts: Mapping[str, Any] = NO_FACTS

    @property
    def sparse(self) -> bool:
        """Whether it is a file with holes."""
        return DATA_BYTES in self.facts

    @property
    def linked_to(self) -> Optional[str]:
        """The earlier file of a foreign archive that this is another name of."""
        said = self.facts.get(LINKED)
        return said if isinstance(said, str) else None

    @property
    def data_bytes(self) -> int:
        """How much space its content takes: all but its holes."""
        said = self.facts.get(DATA_BYTES)
        if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= self.size:
            return said
        return self.size


@dataclass(frozen=True)
class Header:
    """What the archive as a whole is. ``missing``: what the profile expects and was not there yet."""

    application: str
    profile: str
    prefix: str
    created: str
    tier: str = "manual"
    name: Optional[str] = None
    tool: str = "tradekeep"
    host: str = ""
    root: str = ""
    compression: str = "gzip"
    encrypted: bool = False
    check_level: str = "quick"
    missing: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True)
class Totals:
    """What was written: number of entries (without the manifest), bytes of file content, digest of the manifest."""

    entries: int
    bytes: int
    manifest_sha256: str


_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True, ensure_ascii=True).encode


def encode_facts(facts: Mapping[str, Any]) -> str:
    """Facts as JSON."""
    return _encode(dict(facts))


MOST_PLAIN_TEXT = 32 << 20
"""Bytes of a manifest's text that are kept as they are."""


def last_line(entries: int, content_bytes: int, lines_sha256: str) -> str:
    """The end of the text; the digest is of all before."""
    return f'"totals":{{"entries":{entries},"bytes":{content_bytes},"lines_sha256":"{lines_sha256}"}}}}\n'


def line_head(path: str, entry_type: str, size: int, mode: int, owner: str, group: str, mtime: int) -> str:
    """The beginning of an entry's line, which says what a tar header says too."""
    return (
        f'{{"path":{quote(path)},"type":"{entry_type}","size":{size},"mode":"{mode:04o}",'
        f'"owner":{quote(owner)},"group":{quote(group)},"mtime_ns":{mtime}'
    )


def entry_line(
    entry: Entry, sha256: Optional[str] = None, encode: Callable[[Mapping[str, Any]], str] = encode_facts
) -> str:
    """The entry as one line of JSON; empty fields are left out."""
    path, entry_type, size, mode, owner, group, mtime_ns, own_sha256, target, kind, component, facts = entry
    line = line_head(path, entry_type, size, mode, owner, group, mtime_ns)
    sha256 = sha256 or own_sha256
    if sha256 is not None:
        line += f',"sha256":"{sha256}"'
    if target is not None:
        line += f',"target":{quote(target)}'
    if kind is not None:
        line += f',"kind":{quote(kind)}'
    if component is not None:
        line += f',"component":{quote(component)}'
    if facts:
        line += f',"facts":{encode(facts)}'
    return line + "}"


class LinePattern:
    """The lines of many files that differ in path, size, time and digest alone."""

    def __init__(self, entry: Entry) -> None:
        self._owner = f'"mode":"{entry.mode:04o}","owner":{quote(entry.owner)},"group":{quote(entry.group)}'
        marked = entry_line(entry._replace(path="", type=FILE), sha256="?")
        self._ending = marked.partition('"sha256":"?"')[2]

    def fill(self, path: str, size: int, mtime_ns: int, sha256: str) -> str:
        """One line, as ``entry_line`` makes it."""
        return (
            f'{{"path":{quote(path)},"type":"{FILE}","size":{size},{self._owner},'
            f'"mtime_ns":{mtime_ns},"sha256":"{sha256}"{self._ending}'
        )


def parse_entry(line: bytes) -> Entry:
    """Read back one line of ``entry_line``."""
    try:
        fields = json.loads(line)
        get = fields.get
        entry = Entry(
            fields["path"],
            fields["type"],
            fields["size"],
            int(fields["mode"], 8),
            fields["owner"],
            fields["group"],
            fields["mtime_ns"],
            get("sha256"),
            get("target"),
            get("kind"),
            get("component"),
            get("facts", NO_FACTS),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged("manifest has a line that is no entry", path=MANIFEST_NAME) from error
    if entry.type not in TYPES or not _is_number(entry.size) or not _is_number(entry.mtime_ns):
        raise damaged("manifest has an entry of no known type", path=MANIFEST_NAME)
    if entry.facts is not NO_FACTS and not isinstance(entry.facts, dict):
        raise damaged("manifest has an entry with malformed facts", path=MANIFEST_NAME)
    return entry


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class LongText:
    """A text in memory, whose older part is compressed when it becomes too long: about 80 bytes of it per entry."""

    def __init__(self) -> None:
        self._pack = fast_compressor(zlib.MAX_WBITS)
        self._packed: Optional[list[bytes]] = None
        self._plain: list[bytes] = []
        self._plain_bytes = 0

    def add(self, text: bytes) -> None:
        """The next of it."""
        self._plain.append(text)
        self._plain_bytes += len(text)
        if self._plain_bytes > MOST_PLAIN_TEXT:
            self._packed = self._packed or []
            self._packed.extend(filter(None, map(self._pack.compress, self._plain)))
            self._plain.clear()
            self._plain_bytes = 0

    def chunks(self) -> Iterator[bytes]:
        """All of it, once."""
        if self._packed is not None:
            unpack = zlib.decompressobj()
            for packed in (*self._packed, self._pack.flush()):
                yield unpack.decompress(packed)
        yield from self._plain


class ManifestWriter:
    """Gathers the manifest's text while the archive is written.

    The text is kept in memory: an encrypted archive's list of names must not lie on the disk in the clear.
    """

    def __init__(self, header: Header, tell: Tell = tell_nobody) -> None:
        self._tell = tell
        self._text = LongText()
        self._pending: list[str] = []
        self._digest = hashlib.sha256()
        self._entries = 0
        self._latest_facts: tuple[Mapping[str, Any], str] = (NO_FACTS, "{}")
        self.size = 0
        fields = asdict(header)
        marker = {"tradekeep_manifest": fields.pop("format"), "header": fields}
        self._append("{" + _encode_in_order(marker)[1:-1] + ',"entries":[\n')

    def add(self, entry: Entry, sha256: Optional[str] = None) -> None:
        """One more entry, in the order of the archive. sha256: where the entry does not have it itself."""
        comma = ",\n" if self._entries else ""
        self._entries += 1
        line = entry_line(entry, sha256, self._facts)
        if len(line) > LONGEST_LINE:
            raise ArchiveError(
                f"what is known of it comes to {len(line)} bytes, more than would be read back",
                path=entry.path,
                hint="exclude it in the profile",
            )
        self._pending.append(comma + line)
        if len(self._pending) >= 512:
            self._flush()

    def add_lines(self, text: bytes, span: Span) -> None:
        """Lines of further entries, made by a ``LinePattern`` each, and joined."""
        self._flush()
        self._tell(span)
        self._write((b",\n" if self._entries else b"") + text)
        self._entries += span.entries

    def finish(self, content_bytes: int) -> str:
        """Write the totals; returns the digest of the whole text."""
        self._append("\n],\n" if self._entries else "],\n")
        self._append(last_line(self._entries, content_bytes, self._digest.hexdigest()))
        return self._digest.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """The finished text."""
        return self._text.chunks()

    def _facts(self, facts: Mapping[str, Any]) -> str:
        """Thousands of entries share one object of facts; its text is made once."""
        if facts is not self._latest_facts[0]:
            self._latest_facts = facts, encode_facts(facts)
        return self._latest_facts[1]

    def _append(self, text: str) -> None:
        self._pending.append(text)
        self._flush()

    def _flush(self) -> None:
        if self._pending:
            text = "".join(self._pending).encode("ascii")
            self._pending.clear()
            self._tell(text)
            self._write(text)

    def _write(self, text: bytes) -> None:
        self.size += len(text)
        self._digest.update(text)
        self._text.add(text)


def _encode_in_order(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


class ManifestReader:
    """Takes the manifest's text chunk by chunk and gives its entries one by one."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._rest = b""
        self._state = self._first_line
        self.header: Optional[Header] = None
        self.entries = 0
        self.bytes = 0
        self.sha256: Optional[str] = None

    def feed(self, chunk: bytes) -> Iterator[Entry]:
        """The entries that are whole with this chunk."""
        return map(parse_entry, self.lines(chunk))

    def lines(self, chunk: bytes) -> Iterator[bytes]:
        """The lines of entries that are whole with this chunk, not parsed yet."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LONGEST_LINE:
            raise damaged("manifest has a line without an end", path=MANIFEST_NAME)
        if self._state == self._entry_line and b"]," not in lines:
            yield from self._entries_alone(lines)
            return
        for line in lines:
            if self._state(line):
                self.entries += 1
                line = line[:-1] if line[-1:] == b"," else line
                self.bytes += _size_in(line)
                yield line

    def _entries_alone(self, lines: list[bytes]) -> Iterator[bytes]:
        """Nothing but lines of entries, hashed all at once."""
        if lines:
            self._digest.update(b"\n".join(lines) + b"\n")
        for line in lines:
            self.entries += 1
            line = line[:-1] if line[-1:] == b"," else line
            self.bytes += _size_in(line)
            yield line

    def finish(self) -> None:
        """The text has ended; refuse one that is not whole."""
        if self._rest or self._state != self._after_end:
            raise damaged("manifest is not whole", path=MANIFEST_NAME)
        self.sha256 = self._digest.hexdigest()

    # What may come next; true for the line of an entry

    def _first_line(self, line: bytes) -> bool:
        self._digest.update(line + b"\n")
        self.header = parse_first_line(line)
        self._state = self._entry_line
        return False

    def _entry_line(self, line: bytes) -> bool:
        self._digest.update(line + b"\n")
        if line != b"],":
            return True
        self._state = self._last_line
        return False

    def _last_line(self, line: bytes) -> bool:
        self._state = self._after_end
        if line + b"\n" != last_line(self.entries, self.bytes, self._digest.hexdigest()).encode("ascii"):
            raise damaged("manifest's own totals or digest are wrong", path=MANIFEST_NAME)
        self._digest.update(line + b"\n")
        return False

    def _after_end(self, line: bytes) -> bool:
        raise damaged("manifest has text after its end", path=MANIFEST_NAME)


def _size_in(line: bytes) -> int:
    """The size in an entry's line. Quotes inside of strings are escaped, so the first of these is the field."""
    found = _SIZE.search(line)
    return int(found[1]) if found else parse_entry(line).size


def parse_first_line(line: bytes) -> Header:
    """The header in the manifest's first line; a newer format is refused by name."""
    try:
        document = json.loads(line + b"]}")
        version = document["tradekeep_manifest"]
        fields = document["header"]
        if _is_number(version) and version > FORMAT:
            raise ArchiveError(
                f"archive has format {version}, made by a newer tradekeep",
                path=MANIFEST_NAME,
                hint="update tradekeep on this host",
            )
        known = {key: fields[key] for key in Header.__dataclass_fields__ if key in fields}
        for key in ("missing", "excluded"):
            known[key] = tuple(known.get(key, ()))
        return Header(format=version, **known)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged("manifest has no readable header", path=MANIFEST_NAME) from error
