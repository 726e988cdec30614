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
from ..errors import CaptureError, ChangedWhileReadError, CheckError, EmptyError, TimeUpError, TradekeepError
from ..formatting import counted
from ..host.runner import SystemClock
from .base import CaptureContext, Captured, CheckReport, FilePath, ScratchCaptured, Signature
from .bounded import Bounded, bounded, time_up
from .reading import keeps_changing, new_scratch_file, pauses, status_of
from .sqlite_database import (
    UNFINISHED,
    Deadline,
    connected,
    count_rows,
    fault_text,
    find_orphans,
    find_problems,
    find_problems_by_table,
    gather_facts,
    is_leak,
    journal_mode_of,
    read_header,
    require_database,
    translated,
    use_mmap,
)
from .sqlite_needs import Needs, need_of
from .sqlite_source import SIDECAR_SUFFIXES, open_source, refuse_unsafe_sidecars, sidecar, unsafe_sidecars

__all__ = [
    "SIDECAR_SUFFIXES",
    "DatabaseCheck",
    "SqliteKind",
    "check_copy",
    "copy_database",
    "unsafe_sidecars",
]

_SHOWN = 3
CHECK_SECONDS, LEAST_SECONDS = 120.0, 1.0
"""For the check of a small database; at least so many."""
BYTES_PER_SECOND = 1 << 20
"""Far less than a slow disk reads; so much longer a larger one may take."""


class SqliteKind:
    """A SQLite database, live or at rest."""

    name = "sqlite"
    append_only = False

    def capture(self, path: FilePath, context: CaptureContext, seen: Optional[Signature] = None) -> Captured:
        """A checked copy of all that was committed at one moment, the WAL included; it keeps the journal mode."""
        path = Path(path)
        status = status_of(path)
        quick = context.level is not CheckLevel.FULL
        copy, rows, found = _copied(path, context, checked=quick)
        try:
            if quick:
                report = _report(found, context.level)
            else:
                report = check_copy(copy, context.level, seconds=context.deadline_seconds)
            _require_good(path, report, rows)
            notes = {"notes": list(report.warnings)} if report.warnings else {}
            return ScratchCaptured(copy, {**report.facts, **notes}, status)
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
        return (
            f"{counted(len(tables), 'table')}, {counted(rows, 'row')}, {facts.get('journal_mode', 'unknown')} journal"
        )


def copy_database(path: Path, context: CaptureContext) -> tuple[Path, Optional[dict[str, int]]]:
    """An unchecked scratch copy, and the source's rows per table in the same transaction (None: cannot be counted)."""
    copy, rows, _found = _copied(path, context, checked=False)
    return copy, rows


def _copied(
    path: Path, context: CaptureContext, *, checked: bool
) -> tuple[Path, Optional[dict[str, int]], dict[str, Any]]:
    """The same; with what a quick check of the copy finds, which spares a process of its own."""
    descriptor, copy = new_scratch_file(context, ".db")
    os.close(descriptor)

    def work() -> tuple[Optional[dict[str, int]], dict[str, Any]]:
        rows = _copy_source(path, copy, context)
        if not checked:
            return rows, {}
        deadline = Deadline(context.clock, context.deadline_seconds)
        return rows, _examine(copy, CheckLevel.QUICK, False, False, deadline)

    try:
        rows, found = bounded(work, seconds=context.deadline_seconds * (2 if checked else 1), path=path)
    except BaseException:
        remove_copy(copy)
        raise
    return copy, rows, found


def _copy_source(path: Path, copy: Path, context: CaptureContext) -> Optional[dict[str, int]]:
    """Fill the copy, and count the source's rows.

    Copies of sidecars stay in the scratch directory when the process is killed meanwhile, and go with it.
    """
    deadline = Deadline(context.clock, context.deadline_seconds)
    for _attempt in pauses(context):
        try:
            with open_source(path, context, deadline) as source:
                _back_up(source, copy, path, deadline)
                return _count_source(source, path, deadline)
        except ChangedWhileReadError:
            remove_copy(copy)
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    raise keeps_changing(path, context)


def remove_copy(copy: Path) -> None:
    """Delete a scratch copy and whatever SQLite put beside it."""
    for path in (copy, *(sidecar(copy, suffix) for suffix in SIDECAR_SUFFIXES)):
        with suppress(FileNotFoundError):
            os.unlink(path)


def _back_up(source: sqlite3.Connection, copy: Path, path: Path, deadline: Deadline) -> None:
    def stop_when_over(_status: int, _remaining: int, _total: int) -> None:
        if deadline.over:
            raise time_up(path, deadline.seconds)

    with connected(copy, "mode=rw", deadline, writes=True) as target:
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
        raise CheckError(text, path=path)
    if "tables" not in report.facts:
        raise TimeUpError(report.warnings[-1], path=path, hint="exclude it, or find out what in it takes so long")
    if rows is None:
        raise CheckError("damaged: its rows cannot be counted", path=path)
    if rows != report.facts["tables"]:
        raise CaptureError("the copy does not hold the rows of the source", path=path)


def check_copy(
    path: Path, level: CheckLevel, *, foreign_keys: bool = False, seconds: Optional[float] = None
) -> CheckReport:
    """Check a database that nobody writes. Trouble of the machine raises; trouble of the content is reported.

    seconds: how long it may take; None chooses by its size.
    """
    begun = DatabaseCheck(path, level, foreign_keys=foreign_keys, seconds=seconds)
    try:
        return begun.result()
    finally:
        begun.end()


class DatabaseCheck:
    """A check beside the caller's own work. Call ``end`` in any case.

    A full check that cannot be finished becomes a quick one, with a warning: a full check computes what indexes should
    hold, and that can cost whatever the schema asks for. When a quick check is not finished after that either, there
    are no facts. In no case is a database called damaged because of it.
    """

    def __init__(
        self, path: Path, level: CheckLevel, *, foreign_keys: bool = False, seconds: Optional[float] = None
    ) -> None:
        self._path = path
        self._level = level
        self._foreign_keys = foreign_keys
        self._seconds = _patience.seconds_for(path) if seconds is None else seconds
        self._begun = self._begin(level, self._seconds)

    def result(self) -> CheckReport:
        """Wait for it. Raises TimeUpError when no more than a quick check was asked for, and took too long."""
        if self._level is not CheckLevel.FULL:
            return _report(self._begun.result(), self._level)
        told: list[str] = []
        for level in (CheckLevel.FULL, CheckLevel.QUICK):
            try:
                found = self._begun.result()
                why = found["unfinished"]
            except TimeUpError as error:
                _patience.wear()
                found, why = {}, error.message
            if why is None:
                return _report(found, level, tuple(told))
            told.append(f"the {level.value} check could not be finished and proves nothing: it {why}")
            self.end()
            if level is CheckLevel.FULL:
                self._begun = self._begin(CheckLevel.QUICK, self._seconds / 2)
        return CheckReport("sqlite", warnings=tuple(told))

    def end(self) -> None:
        """Nobody wants to know any more; may be called twice."""
        self._begun.end()

    def _begin(self, level: CheckLevel, seconds: float) -> Bounded:
        path, foreign_keys = self._path, self._foreign_keys
        # Constraints are computed too. Where they kept the full check from its end they are left out of the quick one.
        lenient = level is not self._level
        return Bounded(
            lambda: _examine(path, level, foreign_keys, lenient, Deadline(SystemClock(), seconds)),
            seconds=seconds,
            path=path,
        )


class _Patience:
    """How long a check may take. Each that was not finished halves the time of the next ones, so that thousands of such
    databases cannot hold the process for days."""

    def __init__(self) -> None:
        self._worn = 0

    def seconds_for(self, path: Path) -> float:
        """By the database's size."""
        try:
            size = os.lstat(path).st_size
        except OSError:
            size = 0
        return max(LEAST_SECONDS, (CHECK_SECONDS + size / BYTES_PER_SECOND) / (1 << min(self._worn, 30)))

    def wear(self) -> None:
        """A check was not finished."""
        self._worn += 1


_patience = _Patience()


def _report(found: dict[str, Any], level: CheckLevel, warnings: tuple[str, ...] = ()) -> CheckReport:
    if "unfit" in found:
        return CheckReport("sqlite", problems=(found["unfit"],))
    facts = {**found["facts"], "journal_mode": found["journal_mode"], "check": level.value}
    told = (*warnings, *found["notes"])
    return CheckReport("sqlite", problems=tuple(found["problems"]), warnings=told, facts=facts)


def _examine(path: Path, level: CheckLevel, foreign_keys: bool, lenient: bool, deadline: Deadline) -> dict[str, Any]:
    """What a check finds, as JSON says it: ``unfit`` alone, or all the rest."""
    try:
        header = read_header(path)
        require_database(path, header)
        found = _look_inside(path, level, foreign_keys, lenient, deadline)
    except TradekeepError as error:
        if isinstance(error, (CheckError, EmptyError)):
            return {"unfit": error.message, "unfinished": None}
        raise
    return {**found, "journal_mode": journal_mode_of(header)}


def _problems(connection: sqlite3.Connection, level: CheckLevel, lenient: bool, needs: Needs) -> tuple[str, ...]:
    """What a check finds. What indexes hold is looked at where nothing else than SQLite is needed to know it."""

    def work() -> tuple[str, ...]:
        possible = CheckLevel.QUICK if needs.told else level
        return find_problems(connection, possible, constraints=not lenient and not needs.told)

    try:
        return needs.run(work)
    except sqlite3.OperationalError as error:
        need = need_of(error)
        if need is None:
            raise
        needs.tell(need)
        return find_problems_by_table(connection)


def _notes(needs: Needs, leaks: tuple[str, ...]) -> list[str]:
    notes = needs.notes
    if leaks:
        notes.append(f"has pages that nothing uses, and all its rows: {'; '.join(leaks[:_SHOWN])}")
    return notes


def _look_inside(
    path: Path, level: CheckLevel, foreign_keys: bool, lenient: bool, deadline: Deadline
) -> dict[str, Any]:
    # Old archives hold x.db with its x.db-wal, which has to be read as well; else nothing is put beside the file.
    with_wal = os.path.lexists(sidecar(path, "-wal"))
    had_shm = os.path.lexists(sidecar(path, "-shm"))
    if with_wal:
        refuse_unsafe_sidecars(path)
    try:
        parameters = "mode=ro" if with_wal else "mode=ro&immutable=1"
        with connected(path, parameters, deadline) as connection, translated(path, deadline):
            use_mmap(connection)
            needs = Needs(connection)
            try:
                problems = _problems(connection, level, lenient, needs)
            except UNFINISHED as error:
                if level is not CheckLevel.FULL or deadline.over:
                    raise
                return {"unfinished": f"ended with: {fault_text(error)}", "problems": [], "facts": {}, "notes": []}
            leaks = tuple(filter(is_leak, problems))
            if len(leaks) == len(problems):
                problems = ()
            facts = {} if problems else gather_facts(connection, needs)
            if foreign_keys and not problems:
                problems = needs.run(lambda: find_orphans(connection))
            if needs.told and facts:
                facts["needs"] = needs.told
            notes = _notes(needs, leaks if not problems else ())
            return {"unfinished": None, "problems": list(problems), "facts": facts, "notes": notes}
    finally:
        if with_wal and not had_shm and os.path.lexists(sidecar(path, "-shm")):
            os.unlink(sidecar(path, "-shm"))
