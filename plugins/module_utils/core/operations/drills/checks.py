# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Everything that was restored, looked at where it lies: type, size, and what is inside, by its kind.

Databases are checked in processes of their own: several at once, and because neither a signal nor a deadline ends
SQLite while it is at work (see ``kinds/bounded.py``).
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Optional

from ...application import Application, CheckLevel
from ...archive.manifest import Entry
from ...archive.safety import DIRECTORY, FILE, SYMLINK
from ...errors import InterruptedBySignal, TradekeepError
from ...kinds import kind_named
from ...kinds.base import CheckReport
from ...kinds.sqlite import DatabaseCheck
from ...ports import Ports, Progress
from ..apart import Telling, patience, work_apart
from ..kind_of import kind_inside, kind_of_entry
from ..leftovers import reader_account
from ..links import left_out_line
from ..restore_stage import differing_tables, weighed
from ..text import counted
from .findings import Findings
from .unpacking import Unpacked

_TYPES = {FILE: stat.S_ISREG, DIRECTORY: stat.S_ISDIR, SYMLINK: stat.S_ISLNK}
_LEFT_TO_THE_WRITER = ("file", "log", "jsonl")
_MOST_PROCESSES = 4


def check_unpacked(application: Application, unpacked: Unpacked, ports: Ports, findings: Findings) -> None:
    """Judge every entry, in the owner's name; the digests were compared while it was written."""
    findings.notes.extend(unpacked.report.notes)
    for path in sorted(unpacked.skipped_links):
        findings.note(f"{left_out_line(path)} as in a restore")

    def check(telling: Telling) -> dict[str, Any]:
        found = Findings()
        _check_all(application, unpacked, telling, found)
        return found.said()

    ports.progress.start("checking", unpacked.bytes)
    account, seconds = reader_account(application), patience(unpacked.bytes)
    findings.hear(work_apart(check, ports, account, seconds=seconds))
    ports.progress.finish()


def _check_all(application: Application, unpacked: Unpacked, progress: Progress, findings: Findings) -> None:
    with _DatabaseChecks() as databases:
        for entry in unpacked.entries:
            where = Path(unpacked.root) / entry.path
            fault = None if entry.path in unpacked.skipped_links else _fault_of(entry, where)
            if fault is not None:
                findings.problem(f"{entry.path}: {fault}")
            elif entry.type != FILE:
                continue
            elif (kind := _kind(application, entry, where)) == "sqlite":
                databases.add(entry, where)
            else:
                _judge(entry, kind, _checked(kind, where), findings, unpacked.foreign)
                progress.advance(entry.size)
        for entry, report in databases.reports():
            _judge(entry, "sqlite", report, findings, unpacked.foreign)
            _compare_rows(entry, report, findings)
            progress.advance(entry.size)


class _DatabaseChecks:
    """Checks of databases, some of them at once; a context manager that ends those that still run."""

    def __init__(self) -> None:
        self._most = min(_MOST_PROCESSES, os.cpu_count() or 1)
        self._waiting: deque[tuple[Entry, Path]] = deque()
        self._running: deque[tuple[Entry, Path, DatabaseCheck]] = deque()

    def __enter__(self) -> _DatabaseChecks:
        """The checks themselves."""
        return self

    def __exit__(self, *_exception: object) -> None:
        for _entry, _where, check in self._running:
            check.end()

    def add(self, entry: Entry, where: Path) -> None:
        """One more, which begins when there is room."""
        self._waiting.append((entry, where))
        self._begin()

    def reports(self) -> Iterator[tuple[Entry, CheckReport]]:
        """What was found, in the order in which they were added."""
        while self._running:
            entry, where, check = self._running[0]
            report = _reported(check)
            check.end()
            if report.problems:
                report = weighed(entry, report, partial(_reported_quickly, entry, where))
            self._running.popleft()
            self._begin()
            yield entry, report

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self._most:
            entry, where = self._waiting.popleft()
            self._running.append((entry, where, DatabaseCheck(where, CheckLevel.FULL)))


def _reported(check: DatabaseCheck) -> CheckReport:
    try:
        return check.result()
    except InterruptedBySignal:
        raise
    except TradekeepError as error:
        return CheckReport("sqlite", problems=(error.message,))


def _kind(application: Application, entry: Entry, where: Path) -> str:
    kind = kind_of_entry(application.profile, entry)
    return kind if entry.kind else kind_inside(kind, where)


def _reported_quickly(entry: Entry, where: Path) -> CheckReport:
    check = DatabaseCheck(where, CheckLevel.QUICK)
    try:
        return _reported(check)
    finally:
        check.end()


def _fault_of(entry: Entry, where: Path) -> Optional[str]:
    try:
        status = os.lstat(where)
    except OSError:
        return "was not restored"
    if not _TYPES[entry.type](status.st_mode):
        return f"is no {entry.type} any more"
    if entry.type == FILE and status.st_size != entry.size:
        return f"has {status.st_size} bytes, should have {entry.size}"
    if entry.type == SYMLINK and os.readlink(where) != entry.target:
        return "leads elsewhere"
    return None


def _judge(entry: Entry, kind: str, report: CheckReport, findings: Findings, foreign: bool) -> None:
    findings.opened[kind] = findings.opened.get(kind, 0) + 1
    # The bytes are those that were captured: what was odd about them then was said then, and is its writer's matter.
    known = not foreign and (kind in _LEFT_TO_THE_WRITER or bool(entry.facts.get("warnings")))
    for text in report.problems:
        (findings.note if known else findings.problem)(f"{entry.path}: {text}")
    for text in report.warnings:
        findings.note(f"{entry.path}: {text}")


def _compare_rows(entry: Entry, report: CheckReport, findings: Findings) -> None:
    tables = report.facts.get("tables", {})
    facts = {"path": entry.path, "size": entry.size, "ok": report.ok, "tables": tables}
    findings.databases.append({**facts, "rows": sum(tables.values())})
    if report.problems or report.unfinished:
        return
    expected = entry.facts.get("tables", {})
    for name in differing_tables(entry.facts, report):
        there = counted(tables[name], "row") if name in tables else "no rows"
        findings.problem(f"{entry.path}: table {name} has {there}, the manifest says {expected.get(name, 'no')}")
    if entry.facts.get("schema_sha256", report.facts.get("schema_sha256")) != report.facts.get("schema_sha256"):
        findings.problem(f"{entry.path}: the schema is not the one that the manifest says")


def _checked(kind: str, where: Path) -> CheckReport:
    try:
        return kind_named(kind).check(where, level=CheckLevel.FULL)
    except InterruptedBySignal:
        raise
    except TradekeepError as error:
        return CheckReport(kind, problems=(error.message,))
