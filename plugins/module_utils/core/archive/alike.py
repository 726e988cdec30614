# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Small files by the thousand: their tar headers and manifest lines, of which little differs from file to file.

What comes out is byte for byte what ``ArchiveWriter`` writes of the same files one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple, Optional

from .manifest import MANIFEST_NAME, Entry, LinePattern
from .safety import FILE, storable_mode
from .tar_headers import BLOCK, LARGEST_USTAR_SIZE, NANOSECONDS, HeaderTemplate, owner_fields, padding

LONGEST_NAME = 100
"""What a plain header has room for."""


class Pattern:
    """What the headers and lines of many files have in common."""

    def __init__(self, header: HeaderTemplate, line: LinePattern) -> None:
        self.header = header
        self.line = line

    @classmethod
    def of(cls, entry: Entry) -> Optional[Pattern]:
        """The pattern of files like this one; None when each of them needs more than a plain header."""
        owner = owner_fields(entry.owner, entry.group)
        if owner.records or storable_mode(entry.mode, FILE) != entry.mode:
            return None
        return cls(HeaderTemplate(entry.mode, owner, b"0"), LinePattern(entry))


class Sealed(NamedTuple):
    """Files of one component that follow one another in an archive, ready to be written."""

    component: str
    paths: Sequence[str]
    text: bytes
    """Their lines of the manifest."""
    data: bytes
    """Headers, contents and filling."""
    sha256: bytes
    """Of ``data``, from when it was captured."""
    bytes: int
    """Content alone."""


class Batch:
    """The same in the making."""

    def __init__(self, component: str) -> None:
        self.component = component
        self.paths: list[str] = []
        self.parts: list[bytes] = []
        self.lines: list[str] = []
        self.bytes = 0
        """Content alone."""
        self.size = 0
        """All of ``parts``."""

    def sealed(self) -> Sealed:
        """Nothing more is added."""
        data = b"".join(self.parts)
        text = ",\n".join(self.lines).encode("ascii")
        return Sealed(self.component, self.paths, text, data, sha256(data).digest(), self.bytes)

    def add(self, pattern: Pattern, path: str, mtime_ns: int, content: bytes) -> bool:
        """One more file; false, with nothing done, when a plain header has no room for what it is."""
        size = len(content)
        mtime = mtime_ns // NANOSECONDS
        if (
            len(path) > LONGEST_NAME
            or not path.isascii()
            or not 0 <= mtime <= LARGEST_USTAR_SIZE
            or path == MANIFEST_NAME
        ):
            return False
        self.paths.append(path)
        filling = padding(size)
        self.parts += (pattern.header.pack(path.encode("ascii"), size, mtime), content, filling)
        self.lines.append(pattern.line.fill(path, size, mtime_ns, sha256(content).hexdigest()))
        self.bytes += size
        self.size += BLOCK + size + len(filling)
        return True
