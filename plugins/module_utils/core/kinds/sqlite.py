# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""SQLite databases: captured through the online backup API, counted against the source, checked as a copy."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from ..application import CheckLevel
from ..errors import CaptureError, ChangedWhileReadError, CheckError, TradekeepError
from .base import CaptureContext, Captured, CheckReport, FilePath, ScratchCaptured, Signature
from .reading import keeps_changing, new_scratch_file, pauses, status_of
from .sqlite_database import (
    Deadline,
    connected,
    count_rows,
    find_orphans,
    find_problems,
    gather_facts,
    journal_mode_of,
    read_header,
    require_database,
    translated,
    use_mmap,
)
from .sqlite_source import SIDECAR_SUFFIXES, open_source, sidecar

__all__ = ["SIDECAR_SUFFIXES", "SqliteKind", "check_copy", "copy_database"]

_SHOWN = 3


class SqliteKind:
    """A SQLite database, live or at rest."""

    name = "sqlite"
    append_only = False

    def capture(self, path: FilePath, context: CaptureContext, seen: Optional[Signature] = None) -> Captured:
        """A checked copy of all that was committed at one moment, the WAL included; it keeps the journal mode."""
        path = Path(path)
        status = status_of(path)
        copy, rows = copy_database(path, context)
        try:
            report = check_copy(copy, context.level, deadline=Deadline(context.clock, context.deadline_seconds))
            _require_good(path, report, rows)
            return ScratchCaptured(copy, report.facts, status)
        except BaseException:
            remove_copy(copy)
            raise

    def check(self, path: Path, *, level: CheckLevel) -> CheckReport:
        """``quick_check`` or ``integrity_check`` of a file that nobody writes, with its facts."""
        return check_copy(path, level)

    def describe(self, facts: dict[str, Any]) -> str:
        """Tables, rows and journal mode."""
        tables = facts.get("tables", {})
        rows = sum(tables.values())
        return f"{len(tables)} tables, {rows} rows, {facts.get('journal_mode', 'unknown')} journal"


def copy_database(path: Path, context: CaptureContext) -> tuple[Path, Optional[dict[str, int]]]:
    """An unchecked scratch copy, and the source's rows per table in the same transaction (None: cannot be counted)."""
    deadline = Deadline(context.clock, context.deadline_seconds)
    for _attempt in pauses(context):
        descriptor, copy = new_scratch_file(context, ".db")
        os.close(descriptor)
        try:
            with open_source(path, context, deadline) as source:
                _back_up(source, copy, path, deadline)
                return copy, _count_source(source, path, deadline)
        except ChangedWhileReadError:
            remove_copy(copy)
        except BaseException:
            remove_copy(copy)
            raise
    raise keeps_changing(path, context)


def remove_copy(copy: Path) -> None:
    """Delete a scratch copy and whatever SQLite put beside it."""
    for path in (copy, *(sidecar(copy, suffix) for suffix in SIDECAR_SUFFIXES)):
        with suppress(FileNotFoundError):
            os.unlink(path)


def _back_up(source: sqlite3.Connection, copy: Path, path: Path, deadline: Deadline) -> None:
    def stop_when_over(_status: int, _remaining: int, _total: int) -> None:
        if deadline.over:
            raise CaptureError(f"took longer than {deadline.seconds:g} s", path=path, hint="raise the deadline")

    with connected(copy, "mode=rw", deadline) as target:
        # Durability of the scratch copy does not matter: after a crash it is thrown away.
        target.execute("PRAGMA synchronous = OFF")
        target.execute("PRAGMA journal_mode = OFF")
        with translated(path, deadline):
            # One step: a copy in several steps starts anew whenever another process writes.
            source.backup(target, pages=-1, progress=stop_when_over)


def _count_source(source: sqlite3.Connection, path: Path, deadline: Deadline) -> Optional[dict[str, int]]:
    """Rows of the source. Damage is left to the check of the copy, which names every problem."""
    try:
        with translated(path, deadline):
            return count_rows(source)
    except CheckError:
        return None


def _require_good(path: Path, report: CheckReport, rows: Optional[dict[str, int]]) -> None:
    if report.problems:
        shown = "; ".join(report.problems[:_SHOWN])
        more = len(report.problems) - _SHOWN
        text = f"damaged: {shown}" + (f"; and {more} more problems" if more > 0 else "")
        raise CheckError(text, path=path, hint="restore it from the last good backup")
    if rows is None:
        raise CheckError("damaged: its rows cannot be counted", path=path)
    if rows != report.facts["tables"]:
        raise CaptureError("the copy does not hold the rows of the source", path=path)


def check_copy(
    path: Path, level: CheckLevel, *, foreign_keys: bool = False, deadline: Optional[Deadline] = None
) -> CheckReport:
    """Check a database that nobody writes. Trouble of the machine raises; trouble of the content is reported."""
    limit = deadline or Deadline(None, 30.0)
    try:
        header = read_header(path)
        require_database(path, header)
        found, facts = _examine(path, level, foreign_keys, limit)
    except TradekeepError as error:
        if isinstance(error, CheckError) or "empty" in error.message:
            return CheckReport("sqlite", problems=(error.message,))
        raise
    facts["journal_mode"] = journal_mode_of(header)
    facts["check"] = level.value
    return CheckReport("sqlite", problems=found, facts=facts)


def _examine(
    path: Path, level: CheckLevel, foreign_keys: bool, deadline: Deadline
) -> tuple[tuple[str, ...], dict[str, Any]]:
    # Old archives hold x.db with its x.db-wal, which has to be read as well; else nothing is put beside the file.
    with_wal = sidecar(path, "-wal").exists()
    had_shm = sidecar(path, "-shm").exists()
    try:
        parameters = "mode=ro" if with_wal else "mode=ro&immutable=1"
        with connected(path, parameters, deadline) as connection, translated(path, deadline):
            use_mmap(connection)
            problems = find_problems(connection, level)
            facts = {} if problems else gather_facts(connection)
            if foreign_keys and not problems:
                problems = find_orphans(connection)
            return problems, facts
    finally:
        if with_wal and not had_shm and sidecar(path, "-shm").exists():
            os.unlink(sidecar(path, "-shm"))
