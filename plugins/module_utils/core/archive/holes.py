# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Sparse files in an archive: how it says which parts of a file are data, and one digest for equal content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Optional

from ..errors import HostileArchiveError
from ..host.filesystem.holes import BLOCK, MOST_EXTENTS, Extents, extents_of, pieces_of, placed

_MOST_DIGITS = 19
_TAR_BLOCK = 512
_ZEROS = bytes(BLOCK)

# The digest


class DataDigest:
    """SHA-256 of what a sparse file holds: of the place, length and SHA-256 of every run of blocks that are not empty.

    Equal for equal content, however its zeros are kept: as holes of any grain, or written.
    """

    def __init__(self) -> None:
        self._all = sha256()
        self._run = sha256()
        self._start = self._length = 0
        self._partial = bytearray()
        self._block = 0
        """Number of the block that ``partial`` belongs to, or that comes next."""

    def add(self, offset: int, data: bytes) -> None:
        """Data of the file, at a place behind all before."""
        block, within = divmod(offset, BLOCK)
        if self._partial and block != self._block:
            self._end_partial()
        if not self._partial and block != self._block:
            self._block = block
        if within or self._partial:
            self._partial.extend(bytes(within - len(self._partial)))
            room = BLOCK - within
            self._partial += data[:room]
            data = data[room:]
            if len(self._partial) < BLOCK:
                return
            self._end_partial()
        whole = len(data) - len(data) % BLOCK
        self._blocks(data[:whole] if whole < len(data) else data)
        self._partial += data[whole:]

    def hexdigest(self, size: int) -> str:
        """For a file of that size; nothing may be added any more."""
        return self.digest(size).hex()

    def digest(self, size: int) -> bytes:
        """The same as bytes."""
        if self._partial:
            self._end_partial()
        self._end_run()
        self._all.update(size.to_bytes(16, "big"))
        return self._all.digest()

    def _end_partial(self) -> None:
        block = bytes(self._partial.ljust(BLOCK, b"\0"))
        self._partial.clear()
        self._blocks(block)

    def _blocks(self, data: bytes) -> None:
        start = at = 0
        while at < len(data):
            if data[at : at + BLOCK] == _ZEROS:
                self._hash(data[start:at])
                self._block += 1
                start = at + BLOCK
            at += BLOCK
        self._hash(data if start == 0 else data[start:])

    def _hash(self, data: bytes) -> None:
        """A run of blocks, none of them empty, that begins at the block that comes next."""
        if not data:
            return
        begins = self._block * BLOCK
        if begins != self._start + self._length:
            self._end_run()
            self._start = begins
        self._run.update(data)
        self._length += len(data)
        self._block += len(data) // BLOCK

    def _end_run(self) -> None:
        if self._length:
            self._all.update(self._start.to_bytes(16, "big") + self._length.to_bytes(16, "big") + self._run.digest())
        self._run = sha256()
        self._start, self._length = self._start + self._length, 0


def digest_of_sparse(descriptor: int, size: int) -> str:
    """The digest of an open file, whether it is sparse or not."""
    extents = extents_of(descriptor, size)
    if extents is None:
        extents = ((0, size),)
    digest = DataDigest()
    for offset, data in placed(extents, pieces_of(descriptor, extents)):
        digest.add(offset, data)
    return digest.hexdigest(size)


# The map in an archive


def checked(numbers: Iterable[int], stored: int, size: int, path: str) -> Extents:
    """The map that an archive gives, as pairs of offset and length. Raises HostileArchiveError."""
    extents: list[tuple[int, int]] = []
    position = total = 0
    pairs = iter(numbers)
    for offset, length in zip(pairs, pairs):
        if offset < position or offset + length > size:
            raise HostileArchiveError("map of the sparse file is out of order", path=path)
        if length:
            extents.append((offset, length))
        position, total = offset + length, total + length
        if len(extents) > MOST_EXTENTS + 1:
            raise HostileArchiveError("sparse file has more parts than can be looked at", path=path)
    if total != stored:
        raise HostileArchiveError("map of the sparse file does not fit its content", path=path)
    return tuple(extents)


def listed_numbers(text: bytes, path: str) -> Iterator[int]:
    """The numbers of a map in an extended header."""
    for digits in text.split(b",") if text else ():
        yield _number(digits, path)


def pack_map(extents: Extents, size: int) -> bytes:
    """The map as it lies in front of the data (GNU, PAX 1.0). It ends at the end of the file, as GNU tar writes it."""
    if not extents or sum(extents[-1]) < size:
        extents = (*extents, (size, 0))
    numbers = [len(extents)]
    for extent in extents:
        numbers += extent
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + bytes(-len(text) % _TAR_BLOCK)


class MapReader:
    """Reads such a map block by block."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest = b""
        self._wanted: Optional[int] = None
        self.numbers: list[int] = []

    def takes(self, block: bytes) -> bool:
        """One block more; returns whether another one is needed."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            value = _number(line, self._path)
            if self._wanted is None:
                if value > MOST_EXTENTS + 2:
                    raise HostileArchiveError("sparse file has more parts than can be looked at", path=self._path)
                self._wanted = 2 * value
                continue
            self.numbers.append(value)
            if len(self.numbers) == self._wanted:
                return False
        if len(self._rest) > _MOST_DIGITS:
            _number(self._rest, self._path)
        return self._wanted is None or len(self.numbers) < self._wanted


def _number(digits: bytes, path: str) -> int:
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        raise HostileArchiveError("map of the sparse file has something that is no number", path=path)
    return int(digits)
