# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What two servers compare a file by: a digest of each block, and one digest over those."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from ...signals import take_no_signals

BLOCK = 1 << 16
PAGE = 1 << 12
"""What is sent where the old content is at hand to compare with; databases change page by page."""
DIGEST = 32
_SPAN = 1 << 18
_COMPARING = 2


class Digests:
    """The blocks of one file as digests."""

    __slots__ = ("_blocks", "size")

    def __init__(self, size: int = 0, blocks: bytes = b"") -> None:
        self.size = size
        self._blocks = bytearray(blocks)

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return len(self._blocks) // DIGEST

    @property
    def raw(self) -> bytes:
        """All digests, one after the other."""
        return bytes(self._blocks)

    def resize(self, size: int) -> None:
        """The file has this size now; blocks that it has gained have no digest yet."""
        self.size = size
        wanted = blocks_in(size) * DIGEST
        del self._blocks[wanted:]
        self._blocks.extend(bytes(wanted - len(self._blocks)))

    def differs(self, number: int, data: bytes) -> bool:
        """Whether a block is not this; it is from now on."""
        digest = hashlib.sha256(data).digest()
        place = slice(number * DIGEST, (number + 1) * DIGEST)
        if self._blocks[place] == digest:
            return False
        self._blocks[place] = digest
        return True

    def tree(self) -> str:
        """The digest of the whole."""
        return hashlib.sha256(b"%d\0" % self.size + self._blocks).hexdigest()


def blocks_in(size: int) -> int:
    """How many blocks a file of a size has."""
    return -(-size // BLOCK)


def resized_blocks(before: int, after: int) -> set[int]:
    """The blocks that are not what they were when a file of one size gets another."""
    return set() if before == after else set(range(min(before, after) // BLOCK, blocks_in(after)))


def refresh(digests: Digests, descriptor: int, numbers: Iterable[int]) -> None:
    """Read these blocks of a file again."""
    for number in numbers:
        digests.differs(number, os.pread(descriptor, BLOCK, number * BLOCK))


def digests_of(descriptor: int) -> Digests:
    """Read a file whole."""
    found = Digests()
    found.resize(os.fstat(descriptor).st_size)
    refresh(found, descriptor, range(found.count))
    return found


class Touched:
    """The blocks of an open file whose digests are to be known anew, while it is changed from its beginning to its end.

    What lies before the latest change is read at once, while the other side is at work; at the end only the rest is.
    """

    def __init__(self, digests: Digests, descriptor: int, numbers: set[int]) -> None:
        self._digests = digests
        self._descriptor = descriptor
        self._numbers = numbers
        self._passed = 0

    def changed(self, offset: int, length: int) -> None:
        """These bytes have been written."""
        first = offset // BLOCK
        if first > self._passed:
            self._refresh([number for number in range(self._passed, first) if number in self._numbers])
            self._passed = first
        self._numbers.update(range(first, (offset + length - 1) // BLOCK + 1))

    def finish(self) -> None:
        """Nothing more is written."""
        self._refresh(sorted(self._numbers))

    def _refresh(self, numbers: Sequence[int]) -> None:
        refresh(self._digests, self._descriptor, numbers)
        self._numbers.difference_update(numbers)


def changed_pages(live: int, copy: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes wherever a file differs from its copy. Comparing is cheaper than hashing."""
    for start in _differing(live, copy, size):
        span = min(_SPAN, size - start)
        here, there = os.pread(live, span, start), os.pread(copy, span, start)
        for at in range(0, len(here), PAGE):
            page = here[at : at + PAGE]
            if page != there[at : at + PAGE]:
                yield start + at, page


def _differing(live: int, copy: int, size: int) -> list[int]:
    """Where each span begins that is not the same in both, found side by side."""
    with ThreadPoolExecutor(max_workers=_COMPARING, initializer=take_no_signals) as pool:
        parts = pool.map(lambda number: _every(number, live, copy, size), range(_COMPARING))
        return sorted(start for part in parts for start in part)


def _every(number: int, live: int, copy: int, size: int) -> list[int]:
    """One of so many parts; what is read lands in the same memory each time, which is twice as fast."""
    found, here, there = [], bytearray(_SPAN), bytearray(_SPAN)
    for start in range(number * _SPAN, size, _COMPARING * _SPAN):
        span = min(_SPAN, size - start)
        whole = os.preadv(live, [here], start) >= span and os.preadv(copy, [there], start) >= span
        if not whole or (here != there if span == _SPAN else here[:span] != there[:span]):
            found.append(start)
    return found


def joined(changed: list[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """Neighbours as one, up to a block; nothing beyond the end."""
    start = end = -1
    for offset, length in changed:
        length = min(length, size - offset)
        if length <= 0:
            continue
        if offset <= end and offset + length - start <= BLOCK:
            end = max(end, offset + length)
            continue
        if end > start:
            yield start, end - start
        start, end = offset, offset + length
    if end > start:
        yield start, end - start
