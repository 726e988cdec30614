# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Looking after live SQLite databases: a report that only reads, an optimisation where it is safe."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ..application import CheckLevel
from ..errors import CaptureError, CheckError, SpaceError
from ..ports import Clock
from .base import CaptureContext, CheckReport
from .bounded import bounded
from .sqlite import check_copy, copy_database, remove_copy
from .sqlite_database import Deadline, connected, pragma, read_header, require_database, translated
from .sqlite_rowids import renumbered_tables
from .sqlite_source import refuse_unsafe_sidecars, sidecar

_WAL_HEADER = 32
_FRAME_HEADER = 24
_SPARE_BYTES = 16 << 20
_TO_CHECK = "see what is wrong: tradekeep db check"
OPTIMIZE_SECONDS = 600.0
OPTIMIZED_BYTES_PER_SECOND = 1 << 20
"""A tenth of what a slow disk does: the database is rewritten twice."""


@dataclass(frozen=True)
class Optimized:
    """What an optimisation did. Sizes are of the main file; ``vacuumed`` is False when it was not rewritten.

    renumbered: the tables for whose sake it was not.
    """

    size_before: int
    size_after: int
    free_pages_before: int
    free_pages_after: int
    vacuumed: bool
    renumbered: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the file was rewritten."""
        return self.vacuumed


def inspect_live(
    path: Path,
    *,
    scratch: Path,
    clock: Clock,
    level: CheckLevel = CheckLevel.QUICK,
    foreign_keys: bool = False,
    deadline_seconds: float = 300.0,
) -> CheckReport:
    """Check a live database on a scratch copy: a check of the original would keep its writers waiting.

    The facts hold what a capture's hold, and ``size`` and ``wal`` (None, or its size and frames).
    """
    context = CaptureContext(scratch, clock, level, deadline_seconds)
    size = _file_size(path) or 0
    wal = _wal_state(path)
    _require_space(scratch, size + (wal["size"] if wal else 0), path)
    copy, _rows = copy_database(path, context)
    try:
        report = check_copy(copy, level, foreign_keys=foreign_keys, seconds=deadline_seconds)
    finally:
        remove_copy(copy)
    return CheckReport(report.kind, report.problems, report.warnings, {**report.facts, "size": size, "wal": wal})


def examine(path: Path, *, scratch: Path, clock: Clock, wait_seconds: float = 5.0) -> tuple[str, ...]:
    """The tables whose rows a VACUUM would number anew, read from a copy.

    Raises CheckError for a database that is damaged: to open it for writing brings what its WAL holds into the main
    file, which may be the better half.
    """
    size = _file_size(path) or 0
    wal = _wal_state(path)
    _require_space(scratch, size + (wal["size"] if wal else 0), path)
    seconds = wait_seconds + size / OPTIMIZED_BYTES_PER_SECOND
    copy, _rows = copy_database(path, CaptureContext(scratch, clock, CheckLevel.QUICK, seconds))
    try:
        report = check_copy(copy, CheckLevel.QUICK)
        if report.problems:
            raise CheckError(f"damaged, and left as it is: {report.problems[0]}", path=path, hint=_TO_CHECK)
        if report.facts.get("needs"):
            raise CaptureError(f"left as it is: {report.warnings[0]}", path=path)
        deadline = Deadline(clock, seconds)
        with connected(copy, "mode=ro", deadline) as connection, translated(path, deadline):
            return renumbered_tables(connection)
    finally:
        remove_copy(copy)


def optimize(path: Path, *, scratch: Path, clock: Clock, vacuum: bool = False, wait_seconds: float = 5.0) -> Optimized:
    """Refresh the statistics, and rewrite the file without its free pages if told to, and if no row changes its number.

    Raises CheckError when it is damaged, CaptureError when another process is in the middle of something, SpaceError
    before it could run out of space.
    """
    refuse_unsafe_sidecars(path)
    require_database(path, read_header(path))
    before = os.stat(path)
    renumbered = examine(path, scratch=scratch, clock=clock, wait_seconds=wait_seconds)
    rewrite = vacuum and not renumbered
    if rewrite:
        _require_space_for_vacuum(path, before.st_size)
    seconds = OPTIMIZE_SECONDS + before.st_size / OPTIMIZED_BYTES_PER_SECOND
    free_before, free_after = bounded(
        lambda: _optimized(path, Deadline(clock, wait_seconds), rewrite), seconds=seconds, path=path
    )
    left = renumbered if vacuum else ()
    return Optimized(before.st_size, os.stat(path).st_size, free_before, free_after, rewrite, left)


def _optimized(path: Path, deadline: Deadline, vacuum: bool) -> tuple[int, int]:
    """Free pages before and after. A process that is killed meanwhile leaves a journal, as any crash does."""
    with _writable(path, deadline) as connection:
        free_before = int(pragma(connection, "freelist_count"))
        connection.execute("ANALYZE")
        connection.execute("PRAGMA optimize")
        if vacuum:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return free_before, int(pragma(connection, "freelist_count"))


@contextmanager
def _writable(path: Path, deadline: Deadline) -> Iterator[sqlite3.Connection]:
    """A connection that has proved that it can write. SQLite gives sidecars made by root to the database's owner."""
    with connected(path, "mode=rw", deadline, writes=True) as connection, translated(path, deadline):
        # This deadline is for waiting; the work itself may take longer.
        connection.set_progress_handler(None, 0)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        yield connection


def _wal_state(path: Path) -> Optional[dict[str, Any]]:
    size = _file_size(sidecar(path, "-wal"))
    if size is None:
        return None
    page_size = int.from_bytes(read_header(path)[16:18], "big")
    # SQLite writes 1 for pages of 65536 bytes.
    frame = _FRAME_HEADER + (65536 if page_size == 1 else page_size)
    return {"size": size, "frames": max(0, size - _WAL_HEADER) // frame}


def _file_size(path: Path) -> Optional[int]:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return None


def _require_space_for_vacuum(path: Path, size: int) -> None:
    """VACUUM builds the new file in SQLite's temporary directory, then writes it twice beside the old one."""
    _require_space(path.parent, 2 * size, path)
    temporary = Path(os.environ.get("SQLITE_TMPDIR") or tempfile.gettempdir())
    for directory in dict.fromkeys((temporary, Path("/var/tmp"))):  # noqa: S108 (SQLite's own choice)
        if directory.is_dir():
            _require_space(directory, size, path)


def _require_space(directory: Path, needed: int, path: Path) -> None:
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if free < needed + _SPARE_BYTES:
        raise SpaceError(
            f"needs {needed >> 20} MiB free in {directory}, which has {free >> 20} MiB", path=path, hint="make room"
        )
