# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What GNU tar and bsdtar write and tradekeep does not: judged as strictly, and read.

What is still refused says how to pack it again.
"""

from __future__ import annotations

import os
import shlex
from typing import NamedTuple, Optional

from ..errors import HostileArchiveError
from ..host.filesystem.holes import Extents
from .holes import checked, listed_numbers
from .tar_headers import SPARSE_MAP, number
from .tar_source import Source

ARCHIVE = "<ARCHIVE>"
"""Stands for the archive's file in a hint, until who knows it puts it in."""
PACK_AGAIN = "pack it again, and name repacked.tar.gz"
REPACK = f"{PACK_AGAIN}: mkdir unpacked && tar -xf {ARCHIVE} -C unpacked && tar -czf repacked.tar.gz -C unpacked ."
_JOIN = (
    "unpack all parts in their order, a -f for each, and name repacked.tar.gz: mkdir unpacked && "
    f"tar -C unpacked -xM -f FIRST -f {ARCHIVE} && tar -czf repacked.tar.gz -C unpacked ."
)

LEFT_OUT = {b"3": "a character device", b"4": "a block device", b"6": "a FIFO"}
LABEL, DUMPED_DIRECTORY, OLD_SPARSE = b"V", b"D", b"S"
_PARTS = (b"M", b"N")

_OF_ONE_ENTRY = frozenset(("path", "linkpath", "size"))
"""A global header that says these would give every entry after it one name or one size."""
_SPARSE = "GNU.sparse."

_OLD_MAP, _OLD_MORE, _OLD_SIZE = 386, 482, 483
_OLD_PIECES, _MORE_PIECES = 4, 21
_NUMBER = 12


def named(hint: Optional[str], path: object) -> Optional[str]:
    """A hint that works when it is pasted."""
    return None if hint is None else hint.replace(ARCHIVE, shlex.quote(str(path)))


def unknown_type(typeflag: bytes, path: str) -> HostileArchiveError:
    """For an entry that cannot be read alone, or that nobody knows."""
    if typeflag in _PARTS:
        return HostileArchiveError("archive is one part of several (tar -M)", path=path, hint=_JOIN)
    return HostileArchiveError(f"entry is of the unknown type {typeflag!r}", path=path, hint=REPACK)


def global_records(records: dict[str, bytes]) -> dict[str, bytes]:
    """What a global header says of all entries after it. Raises HostileArchiveError for what no honest one says."""
    for key in records:
        if key in _OF_ONE_ENTRY or key.startswith(_SPARSE):
            raise HostileArchiveError(
                "global extended header changes the entries after it",
                path=records.get("path", b"").decode("utf-8", "surrogateescape") or key,
                hint=REPACK,
            )
    return records


def plain_name(name: str) -> str:
    """A relative name without the components that mean nothing: ``./a//b/./c`` is ``a/b/c``; ``..`` stays."""
    if name[:1] == "/" or not ("//" in name or "./" in name or name[-1:] in ("/", ".")):
        return name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts) if parts else ("." if name else name)


def is_incremental(typeflag: bytes, records: dict[str, bytes]) -> bool:
    """Whether a directory comes with the list of its names, as ``tar -g`` adds it."""
    return typeflag == DUMPED_DIRECTORY or "GNU.dumpdir" in records


class Sparse(NamedTuple):
    """A sparse file of an archive: its length, and where the data lies that is stored."""

    size: int
    extents: Extents
    stored: int


def sparse_by_records(records: dict[str, bytes], stored: int, path: str) -> Optional[Sparse]:
    """A sparse file in the forms 0.0 and 0.1, whose map is in the extended header; None for any other file."""
    if SPARSE_MAP not in records:
        return None
    size = real_size(records, path)
    return Sparse(size, checked(listed_numbers(records[SPARSE_MAP], path), stored, size, path), stored)


def real_size(records: dict[str, bytes], path: str) -> int:
    """The length of a sparse file."""
    digits = records.get("GNU.sparse.realsize") or records.get("GNU.sparse.size") or b""
    if not digits.isdigit() or len(digits) > 18:
        raise HostileArchiveError("sparse file has no length", path=path)
    return int(digits)


def old_sparse(block: bytes, source: Source, stored: int, path: str) -> Sparse:
    """A sparse file in the form of GNU's own format: the map in the header, and in blocks behind it."""
    name = os.fsencode(path)
    size = number(block[_OLD_SIZE : _OLD_SIZE + _NUMBER], name)
    numbers = _pieces(block[_OLD_MAP:], _OLD_PIECES, name)
    more = block[_OLD_MORE]
    while more:
        block = source.take(512)
        numbers += _pieces(block, _MORE_PIECES, name)
        # Refused as soon as it is too long.
        if len(numbers) > 2_000_000:
            raise HostileArchiveError("sparse file has more parts than can be looked at", path=path)
        more = block[504]
    return Sparse(size, checked(numbers, stored, size, path), stored)


def _pieces(fields: bytes, most: int, name: bytes) -> list[int]:
    numbers: list[int] = []
    for at in range(0, most * 2 * _NUMBER, 2 * _NUMBER):
        pair = fields[at : at + 2 * _NUMBER]
        if not pair.strip(b"\0"):
            break
        numbers += (number(pair[:_NUMBER], name), number(pair[_NUMBER:], name))
    return numbers
