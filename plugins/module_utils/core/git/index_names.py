# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The names in a git index, read without git: who only asks what is tracked starts no program in the bot's checkout."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

MOST_NAMES = 200_000
_HEAD = struct.Struct("!4sLL")
_FIXED = 40
"""Bytes of an entry before the object's name, the mode at 24."""
_MODES = frozenset((0o100644, 0o100755, 0o120000, 0o160000, 0o040000))
_EXTENDED = 0x4000


def index_names(data: bytes) -> frozenset[str]:
    """Every path of an index of version 2, 3 or 4. Raises ValueError for what is none."""
    for digest in (20, 32):
        try:
            return frozenset(os.fsdecode(name) for name in _names(data, digest))
        except (struct.error, IndexError, ValueError):
            continue
    raise ValueError("no index of git")


def _names(data: bytes, digest: int) -> Iterator[bytes]:
    magic, version, count = _HEAD.unpack_from(data)
    if magic != b"DIRC" or version not in (2, 3, 4) or count > MOST_NAMES:
        raise ValueError("another format")
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
        yield name
        position = end + 1 if version == 4 else begin + (end - begin + 8) // 8 * 8


def _number_at(data: bytes, position: int) -> tuple[int, int]:
    """A number of variable length, as offsets in packs are written, and where it ends."""
    byte = data[position]
    value = byte & 0x7F
    while byte & 0x80:
        position += 1
        byte = data[position]
        value = ((value + 1) << 7) | (byte & 0x7F)
    return value, position + 1
