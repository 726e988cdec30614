# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What was read of an archive's entries against what its manifest says of them.

The manifest comes last, so 48 bytes are kept of each entry: the digest of its content, and a digest of its metadata.
The latter is taken of the line that the manifest should hold: nearly all lines are then compared without parsing them.
Who reads what is still being written may be told the lines earlier; they prove to be the manifest's in the end.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from hashlib import blake2b, sha256
from typing import Callable, NamedTuple, Optional

from ..formatting import counted
from ..host.filesystem.attributes import Attributes
from .attributes import FACT, NO_ATTRIBUTES, of_facts
from .manifest import MANIFEST_NAME, Entry, Header, ManifestReader, last_line, line_head, parse_entry
from .members import Member, NullSink, Sink
from .safety import damaged
from .tar_headers import NANOSECONDS
from .telling import Span

NO_CONTENT = bytes(32)
_NO_CONTENT_HEX = NO_CONTENT.hex()
_SHA256 = b',"sha256":"'
_ENTRY = b'{"path":'
_MOST_ENDINGS = 1000
_ENDING_FIELDS = frozenset(("sha256", "kind", "component", "facts"))


class ManifestRead(NamedTuple):
    """A manifest that was read to its end."""

    header: Optional[Header]
    """None when nobody asked for it."""
    sha256: str


class Told:
    """What a manifest says, ahead of its place at the end, so that entries can be compared as they are read."""

    def __init__(self) -> None:
        self.lines: deque[bytes] = deque()
        """Of entries."""
        self.spans: deque[Span] = deque()
        """In place of the lines of their entries."""
        self._rest = b""
        self._last = b""

    def hear(self, text: bytes) -> None:
        """The next of it."""
        *lines, self._rest = (self._rest + text).split(b"\n")
        for line in lines:
            if line.startswith(_ENTRY):
                self.lines.append(line[:-1] if line[-1:] == b"," else line)
            self._last = line + b"\n"

    def prove(self, chunks: Iterable[bytes], entries: int, content_bytes: int) -> ManifestRead:
        """The manifest itself: it ends as was told, with the totals of what was read and the digest of all before."""
        length = len(self._last)
        digest, end = sha256(), b""
        for chunk in chunks:
            text = memoryview(end + chunk)
            before = max(0, len(text) - length)
            digest.update(text[:before])
            end = bytes(text[before:])
        if not end == self._last == last_line(entries, content_bytes, digest.hexdigest()).encode("ascii"):
            raise damaged("manifest is not the one that was told", path=MANIFEST_NAME)
        digest.update(end)
        return ManifestRead(None, digest.hexdigest())


class Comparison:
    """Takes the entries as they are read, then the manifest; what differs goes to ``problem``."""

    def __init__(self, sink: Sink, problem: Callable[[str], None], told: Optional[Told] = None) -> None:
        self._sink = sink
        self._problem = problem
        self._observed = bytearray()
        self._endings: set[bytes] = set()
        # Lines need not become entries when nobody asks for them.
        self._parse_all = type(sink).on_entry is not NullSink.on_entry
        self._told = None if self._parse_all else told
        self._agreed = 0

    def expected_after(self, entries: int) -> Optional[Span]:
        """The files that, as was told, follow so many entries."""
        if self._told is None or not self._told.spans or self._told.spans[0].first != entries:
            return None
        return self._told.spans.popleft()

    def see(self, member: Member, content: bytes) -> None:
        """One more entry of the archive, with the digest of its content."""
        self._observed += content
        self._observed += _metadata_digest(
            *member[:6], member.mtime_ns // NANOSECONDS, member.target, member.attributes
        )
        if self._told is not None:
            self._compare_told(self._told)

    def read_manifest(self, chunks: Iterable[bytes], entries: int, content_bytes: int) -> ManifestRead:
        """Compare every line with the entry at its place, and hand those that agree to the sink.

        entries, content_bytes: what was read of the archive.
        """
        if self._told is not None:
            self._compare_told(self._told)
            if not self._told.lines and not self._told.spans and self._agreed == len(self._observed):
                return self._told.prove(chunks, entries, content_bytes)
        reader = ManifestReader()
        observed = bytes(self._observed)
        self._observed.clear()
        at = 0
        for chunk in chunks:
            for line in reader.lines(chunk):
                if self._parse_all or not self._agrees(line, observed[at : at + 48]):
                    self._compare(parse_entry(line), observed[at : at + 48])
                at += 48
        reader.finish()
        if at != len(observed):
            self._problem(f"archive holds {counted(len(observed) // 48, 'entry', 'entries')}, the manifest {at // 48}")
        return ManifestRead(reader.header, reader.sha256 or "")

    def _compare_told(self, told: Told) -> None:
        """As many entries as were read, and told of, by now."""
        while told.lines and self._agreed < len(self._observed):
            line, observed = told.lines.popleft(), bytes(self._observed[self._agreed : self._agreed + 48])
            if not self._agrees(line, observed):
                self._compare(parse_entry(line), observed)
            self._agreed += 48

    def _agrees(self, line: bytes, observed: bytes) -> bool:
        """Whether a line is, byte for byte, what tradekeep writes of the file that was read; if not, it is parsed."""
        # Quotes inside of strings are escaped, so the first of these is the field.
        end = line.find(_SHA256)
        start = end + len(_SHA256)
        # The archive has whole seconds: the last nine digits of the time are the manifest's alone.
        return (
            end > 0
            and blake2b(line[: end - 9], digest_size=16).digest() == observed[32:]
            and line[end - 9 : end].isdigit()
            and line[start : start + 64] == observed[:32].hex().encode("ascii")
            and (line[start + 64 :] in self._endings or self._learn(line[start + 64 :]))
        )

    def _learn(self, ending: bytes) -> bool:
        """Whether what follows the digest is well-formed; it is the same in most lines."""
        try:
            fields = json.loads(b'{"sha256":"' + ending)
        except (ValueError, RecursionError):
            return False
        if not _ENDING_FIELDS.issuperset(fields) or not isinstance(fields.get("facts", {}), dict):
            return False
        if len(self._endings) < _MOST_ENDINGS:
            self._endings.add(ending)
        return True

    def _compare(self, entry: Entry, observed: bytes) -> None:
        content = entry.sha256 or _NO_CONTENT_HEX
        attributes = of_facts(entry.facts) if FACT in entry.facts else NO_ATTRIBUTES
        expected = _metadata_digest(*entry[:6], entry.mtime_ns // NANOSECONDS, entry.target, attributes)
        if observed[32:] != expected:
            self._problem(f"{entry.path}: name, type, size, mode, owner, time or target differs from the manifest")
        elif observed[:32].hex() != content:
            self._problem(f"{entry.path}: content differs from the manifest")
        else:
            self._sink.on_entry(entry)


def _metadata_digest(
    path: str,
    entry_type: str,
    size: int,
    mode: int,
    owner: str,
    group: str,
    mtime: int,
    target: Optional[str],
    attributes: Attributes,
) -> bytes:
    text = line_head(path, entry_type, size, mode, owner, group, mtime)
    if target is not None:
        text += "\0" + target
    if attributes:
        text += "\0" + repr(attributes)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
