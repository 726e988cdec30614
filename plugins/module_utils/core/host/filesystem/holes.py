# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Sparse files on a disk: which parts of a file are data, and reading and writing these alone.

A database of LMDB may be 400 GiB long and hold one. Everything here takes the time and the memory that the data takes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Optional

BLOCK = 4096
"""As much as the usual filesystems allocate at once."""
LEAST_HOLES = 1 << 20
"""Bytes of holes from which on a file is kept as a sparse one."""
MOST_EXTENTS = 100_000
"""Of one file; what lies close together becomes one."""
_SECTOR = 512
"""What ``stat`` counts blocks in."""
_PIECE = 1 << 20

Extents = tuple[tuple[int, int], ...]
"""Offset and length of each part that is data, in order; everything between them is zeros."""


def data_bytes(extents: Extents) -> int:
    """How much of a file is data."""
    return sum(length for _offset, length in extents)


def data_at(path: str, size: int) -> int:
    """How much of a file of that size is no hole; all of it where that cannot be found out."""
    if size < LEAST_HOLES:
        return size
    try:
        if os.lstat(path).st_blocks * _SECTOR + LEAST_HOLES > size:
            return size
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return size
    try:
        extents = extents_of(descriptor, size)
    except OSError:
        return size
    finally:
        os.close(descriptor)
    return size if extents is None else data_bytes(extents)


def extents_of(descriptor: int, size: int) -> Optional[Extents]:
    """The data of an open file of that size; None where it has no holes worth the trouble, or none can be asked for."""
    if os.fstat(descriptor).st_blocks * _SECTOR + LEAST_HOLES > size:
        return None
    try:
        found = _joined(_data_in(descriptor, size))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return None
        raise
    return found if size - data_bytes(found) >= LEAST_HOLES else None


def _data_in(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        position = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        if start >= size:
            return
        yield start, position - start


def _joined(found: Iterable[tuple[int, int]]) -> Extents:
    """The same parts, neighbours made one where there would be too many otherwise."""
    gap = 0
    extents: list[tuple[int, int]] = []
    for offset, length in found:
        if extents and offset - sum(extents[-1]) <= gap:
            extents[-1] = extents[-1][0], offset + length - extents[-1][0]
            continue
        extents.append((offset, length))
        if len(extents) > MOST_EXTENTS:
            gap = max(BLOCK, gap * 2)
            extents = list(_closer(extents, gap))
    return tuple(extents)


def _closer(extents: list[tuple[int, int]], gap: int) -> Iterator[tuple[int, int]]:
    start, length = extents[0]
    for offset, more in islice(extents, 1, None):
        if offset - (start + length) <= gap:
            length = offset + more - start
        else:
            yield start, length
            start, length = offset, more
    yield start, length


def pieces_of(descriptor: int, extents: Extents) -> Iterator[bytes]:
    """The data of an open file, part by part. Ends early where the file has become shorter."""
    for offset, length in extents:
        end = offset + length
        while offset < end:
            data = os.pread(descriptor, min(_PIECE, end - offset), offset)
            if not data:
                return
            offset += len(data)
            yield data


def write_pieces(descriptor: int, size: int, extents: Optional[Extents], chunks: Iterable[bytes]) -> int:
    """Write a file's content into a new, empty file; holes stay holes. Returns how many bytes were written."""
    written = 0
    if extents is None:
        for data in chunks:
            _write(descriptor, data)
            written += len(data)
        return written
    os.ftruncate(descriptor, size)
    for offset, data in placed(extents, chunks):
        os.lseek(descriptor, offset, os.SEEK_SET)
        _write(descriptor, data)
        written += len(data)
    return written


def expanded(size: int, extents: Optional[Extents], chunks: Iterable[bytes]) -> bytes:
    """The whole content of a small file, its holes as zeros."""
    if extents is None:
        return b"".join(chunks)
    content = bytearray(size)
    for offset, data in placed(extents, chunks):
        content[offset : offset + len(data)] = data
    return bytes(content)


def _write(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def placed(extents: Extents, chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each piece of the data with its place in the file."""
    parts = iter(extents)
    offset = left = 0
    for data in chunks:
        while data:
            while not left:
                part = next(parts, None)
                if part is None:
                    raise ValueError("more data than the parts of the file have room for")
                offset, left = part
            piece, data = data[:left], data[left:]
            yield offset, piece
            offset, left = offset + len(piece), left - len(piece)
