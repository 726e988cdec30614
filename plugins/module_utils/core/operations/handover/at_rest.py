# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Databases that nobody uses: what a WAL left by a killed application holds, and rows counted in a private copy."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from ...errors import CaptureError
from ...kinds.reading import open_regular
from ...kinds.sqlite_database import Deadline, connected, count_rows, translated, use_mmap
from ...kinds.sqlite_source import SIDECAR_SUFFIXES, sidecar
from .blocks import PAGE

_HEADER, _FRAME_HEADER = 32, 24
_SALTS_OF_ALL, _SALTS = slice(16, 24), slice(8, 16)
_PAGE_SIZE = struct.Struct(">I")
_CHUNK = 1 << 20
_SECONDS = 600.0


def wal_pages(wal: Path) -> set[int]:
    """Offsets, in steps of PAGE, of all that the frames of a WAL may change in the database."""
    descriptor = open_regular(wal)
    try:
        found: set[int] = set()
        for number, size, _end in _frames(descriptor, wal):
            start = (number - 1) * size
            found.update(range(start - start % PAGE, start + size, PAGE))
        return found
    finally:
        os.close(descriptor)


def _frames(descriptor: int, wal: Path) -> Iterator[tuple[int, int, int]]:
    """Page, its size, and the end in the file of each frame, up to the first that SQLite cannot take for one.

    A file that goes on behind that, and be it for a terabyte of nothing, is looked at no further.
    """
    header = os.pread(descriptor, _HEADER, 0)
    if len(header) < _HEADER:
        return
    size = _PAGE_SIZE.unpack_from(header, 8)[0]
    size = 65536 if size == 1 else size
    if not 512 <= size <= 65536 or size & (size - 1):
        raise CaptureError("has no readable header", path=wal, hint="start and stop the bot once, then run again")
    position, end = _HEADER, os.fstat(descriptor).st_size
    while position + _FRAME_HEADER + size <= end:
        frame = os.pread(descriptor, _FRAME_HEADER, position)
        if frame[_SALTS] != header[_SALTS_OF_ALL]:
            return
        position += _FRAME_HEADER + size
        yield _PAGE_SIZE.unpack_from(frame)[0], size, position


def bring_in_wal(wal: Path, copy: Path) -> None:
    """Have SQLite recover a WAL in a private copy of its database."""
    beside = sidecar(copy, "-wal")
    try:
        _copy_frames(wal, beside)
        deadline = Deadline(None, _SECONDS)
        with connected(copy, "mode=rw", deadline) as connection, translated(copy, deadline):
            # Worth nothing after a crash, so nothing is synced.
            connection.execute("PRAGMA synchronous = OFF")
            busy, _log, _done = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise CaptureError("its WAL cannot be brought in", path=copy)
    finally:
        for suffix in SIDECAR_SUFFIXES:
            sidecar(copy, suffix).unlink(missing_ok=True)


def _copy_frames(wal: Path, beside: Path) -> None:
    source = open_regular(wal)
    try:
        end = max((end for _number, _size, end in _frames(source, wal)), default=_HEADER)
        with open(beside, "xb", buffering=0) as target:
            for position in range(0, end, _CHUNK):
                target.write(os.pread(source, min(_CHUNK, end - position), position))
    finally:
        os.close(source)


def rows_of(copy: Path) -> dict[str, int]:
    """Rows per table of a private copy that nobody writes."""
    deadline = Deadline(None, _SECONDS)
    with connected(copy, "mode=ro&immutable=1", deadline) as connection, translated(copy, deadline):
        use_mmap(connection)
        return count_rows(connection)
