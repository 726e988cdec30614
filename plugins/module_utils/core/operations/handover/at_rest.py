# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Databases that nobody uses: what a WAL left by a killed application holds, and rows counted in a private copy."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ...errors import CaptureError
from ...kinds.sqlite_database import Deadline, connected, count_rows, translated, use_mmap
from ...kinds.sqlite_source import SIDECAR_SUFFIXES, sidecar
from .blocks import PAGE

_HEADER, _FRAME_HEADER = 32, 24
_PAGE_SIZE = struct.Struct(">I")
_CHUNK = 1 << 20
_SECONDS = 600.0


def wal_pages(wal: Path) -> set[int]:
    """Offsets, in steps of PAGE, of all that the frames of a WAL may change in the database."""
    with open(wal, "rb", buffering=0) as stream:
        header = stream.read(_HEADER)
        if len(header) < _HEADER:
            return set()
        size = _PAGE_SIZE.unpack_from(header, 8)[0]
        size = 65536 if size == 1 else size
        if not 512 <= size <= 65536 or size & (size - 1):
            raise CaptureError("has no readable header", path=wal, hint="start and stop the bot once, then run again")
        found: set[int] = set()
        position, end = _HEADER, os.fstat(stream.fileno()).st_size
        while position + _FRAME_HEADER + size <= end:
            number = _PAGE_SIZE.unpack(os.pread(stream.fileno(), 4, position))[0]
            start = (number - 1) * size
            found.update(range(start - start % PAGE, start + size, PAGE))
            position += _FRAME_HEADER + size
        return found


def bring_in_wal(wal: Path, copy: Path) -> None:
    """Have SQLite recover a WAL in a private copy of its database."""
    beside = sidecar(copy, "-wal")
    try:
        with open(wal, "rb", buffering=0) as source, open(beside, "xb", buffering=0) as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)
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


def rows_of(copy: Path) -> dict[str, int]:
    """Rows per table of a private copy that nobody writes."""
    deadline = Deadline(None, _SECONDS)
    with connected(copy, "mode=ro&immutable=1", deadline) as connection, translated(copy, deadline):
        use_mmap(connection)
        return count_rows(connection)
