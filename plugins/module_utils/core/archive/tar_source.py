# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Exact reads from a stream that gives what it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from .safety import damaged

CHUNK = 1 << 20


class Readable(Protocol):
    """Where an archive comes from; ``read`` may return less than asked, and nothing only at the end."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""


class Source:
    """Exact reads from a stream of chunks."""

    def __init__(self, stream: Readable) -> None:
        self._read = stream.read
        self._buffer = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        end = self._at + size
        if end > len(self._buffer):
            self._fill(size)
            end = size
        data = self._buffer[self._at : end]
        self._at = end
        return data

    def pieces(self, size: int) -> Iterator[bytes]:
        """``size`` bytes as they come."""
        while size:
            if self._at == len(self._buffer):
                self._fill(1)
            data = self._buffer[self._at : self._at + size] if self._at else self._buffer[:size]
            self._at += len(data)
            size -= len(data)
            yield data

    def rest(self) -> Iterator[bytes]:
        """Everything up to the end of the stream."""
        yield self._buffer[self._at :]
        while True:
            data = self._read(CHUNK)
            if not data:
                return
            yield data

    def _fill(self, size: int) -> None:
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < size:
            data = self._read(CHUNK)
            if not data:
                raise damaged("archive ends in the middle: it is truncated")
            parts.append(data)
            have += len(data)
        self._buffer = parts[0] + parts[1] if len(parts) == 2 else b"".join(parts)
        self._at = 0
