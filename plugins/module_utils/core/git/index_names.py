# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The names in a git index, read without git: who only asks what is tracked starts no program in the bot's checkout.

``index_names`` takes what it finds; ``all_tracked`` gives an answer to rely on, or none (gitformat-index(5)).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

MOST_NAMES = 200_000
MOST_BYTES = 32 << 20
_HEAD = struct.Struct("!4sLL")
_FIXED = 40
"""Bytes of an entry before the object's name, the mode at 24."""
_MODES = frozenset((0o100644, 0o100755, 0o120000, 0o160000, 0o040000))
_EXTENDED = 0x4000
_SPARSE_DIRECTORY = 0o040000
_EXTENSION = struct.Struct("!4sL")
_WHOLE_AGAIN = {b"sdir": "sparse-checkout disable", b"link": "update-index --no-split-index"}


def index_names(data: bytes) -> frozenset[str]:
    """Every path of an index of version 2, 3 or 4. Raises ValueError for what is none."""
    for digest in (20, 32):
        try:
            return frozenset(os.fsdecode(entry.name) for entry in _entries(data, digest))
        except (struct.error, IndexError, ValueError):
            continue
    raise ValueError("no index of git")


def all_tracked(data: bytes) -> frozenset[str]:
    """Every path that git tracks, where an index says all of it.

    Raises ValueError for any other, with the reason and, where that differs, the arguments by which git writes a whole
    one.
    """
    for algorithm in ("sha1", "sha256"):
        digest = hashlib.new(algorithm, usedforsecurity=False).digest_size
        body, checksum = data[:-digest], data[-digest:]
        # git writes zeros with index.skipHash.
        if checksum not in (hashlib.new(algorithm, body, usedforsecurity=False).digest(), bytes(digest)):
            continue
        try:
            entries = list(_bounded(_entries(data, digest)))
            end = entries[-1].end if entries else _HEAD.size
            _refuse_extensions(body, end)
        except (struct.error, IndexError):
            raise ValueError("it is damaged") from None
        if any(entry.mode == _SPARSE_DIRECTORY for entry in entries):
            raise ValueError("it leaves out names", _WHOLE_AGAIN[b"sdir"])
        return frozenset(os.fsdecode(entry.name) for entry in entries)
    raise ValueError("it is damaged, or no index of git")


def _bounded(entries: Iterator[_Entry]) -> Iterator[_Entry]:
    """The same; version 4 can say much with few bytes."""
    left = MOST_BYTES
    for entry in entries:
        left -= len(entry.name)
        if left < 0:
            raise ValueError(f"its names have more than {MOST_BYTES:,} bytes")
        yield entry


def _refuse_extensions(body: bytes, position: int) -> None:
    """What git itself must understand has a small letter: names that are elsewhere, for instance."""
    while position < len(body):
        name, size = _EXTENSION.unpack_from(body, position)
        if not b"A" <= name[:1] <= b"Z":
            mended = (_WHOLE_AGAIN[name],) if name in _WHOLE_AGAIN else ()
            raise ValueError(f"its extension {name.decode('ascii', 'replace')!r} leaves out names", *mended)
        position += _EXTENSION.size + size
    if position != len(body):
        raise IndexError


class _Entry(NamedTuple):
    """end: where the next one begins."""

    name: bytes
    mode: int
    end: int


def _entries(data: bytes, digest: int) -> Iterator[_Entry]:
    magic, version, count = _HEAD.unpack_from(data)
    if magic != b"DIRC" or version not in (2, 3, 4):
        raise ValueError("another format")
    if count > MOST_NAMES:
        raise ValueError(f"it has more than {MOST_NAMES:,} names")
    position, name = _HEAD.size, b""
    for _number in range(count):
        begin = position
        (mode,) = struct.unpack_from("!L", data, begin + 24)
        (flags,) = struct.unpack_from("!H", data, begin + _FIXED + digest)
        if mode not in _MODES:
            raise ValueError("no such mode")
        position = begin + _FIXED + digest + (4 if flags & _EXTENDED else 2)
        kept = b""
        if version == 4:
            dropped, position = _number_at(data, position)
            kept = name[: len(name) - dropped]
        end = data.index(0, position)
        name = kept + data[position:end]
        if not name:
            raise ValueError("an entry without a name")
        position = end + 1 if version == 4 else begin + (end - begin + 8) // 8 * 8
        yield _Entry(name, mode, position)


def _number_at(data: bytes, position: int) -> tuple[int, int]:
    """A number of variable length, as offsets in packs are written, and where it ends."""
    byte = data[position]
    value = byte & 0x7F
    while byte & 0x80:
        position += 1
        byte = data[position]
        value = ((value + 1) << 7) | (byte & 0x7F)
    return value, position + 1
