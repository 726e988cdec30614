# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Everything that was restored, looked at where it lies: type, size, and what is inside, by its kind.

Databases are checked by threads of their own: several at once, and because a signal that arrives while SQLite is at
work would be lost inside of it in the main thread.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

from ...application import Application, CheckLevel
from ...archive.manifest import Entry
from ...archive.safety import DIRECTORY, FILE, SYMLINK
from ...errors import InterruptedBySignal, TradekeepError
from ...kinds import default_kind, kind_named
from ...kinds.base import CheckReport
from ...kinds.sqlite import check_copy
from ...kinds.sqlite_database import Deadline
from ...patterns import classify
from ...ports import Ports, Progress
from ..apart import Telling, patience, work_apart
from ..leftovers import reader_account
from .findings import Findings
from .unpacking import Unpacked

_TYPES = {FILE: stat.S_ISREG, DIRECTORY: stat.S_ISDIR, SYMLINK: stat.S_ISLNK, "hardlink": stat.S_ISREG}
_LEFT_TO_THE_WRITER = ("file", "log", "jsonl")
_MOST_THREADS = 4

_Checker = Callable[[Path], "Future[CheckReport]"]


def check_unpacked(application: Application, unpacked: Unpacked, ports: Ports, findings: Findings) -> None:
    """Judge every entry, in the owner's name; the digests were compared while it was written."""
    findings.notes.extend(unpacked.report.notes)
    for path in sorted(unpacked.skipped_links):
        findings.note(f"{path}: a symlink that leads out of the data, left out as in a restore")

    def check(telling: Telling) -> dict[str, Any]:
        found = Findings()
        _check_all(application, unpacked, telling, found)
        return found.said()

    ports.progress.start("checking", unpacked.bytes)
    account, seconds = reader_account(application), patience(unpacked.bytes)
    findings.hear(work_apart(check, ports, account, seconds=seconds))
    ports.progress.finish()


def _check_all(application: Application, unpacked: Unpacked, progress: Progress, findings: Findings) -> None:
    with _database_checks() as begin:
        begun: list[tuple[Entry, Future[CheckReport]]] = []
        for entry in unpacked.entries:
            where = Path(unpacked.root) / entry.path
            fault = None if entry.path in unpacked.skipped_links else _fault_of(entry, where)
            if fault is not None:
                findings.problem(f"{entry.path}: {fault}")
            elif entry.type != FILE:
                continue
            elif (kind := entry.kind or _kind(application, entry.path)) == "sqlite":
                begun.append((entry, begin(where)))
            else:
                _judge(entry, kind, _checked(kind, where), findings, unpacked.foreign)
                progress.advance(entry.size)
        for entry, check in begun:
            report = check.result()
            _judge(entry, "sqlite", report, findings, unpacked.foreign)
            _compare_rows(entry, report, findings)
            progress.advance(entry.size)


class _UntilStopped(Deadline):
    """Time without end, until somebody says stop; that is heard within some tenths of a second."""

    opcodes = 5_000_000

    def __init__(self) -> None:
        super().__init__(None, 30.0)
        self.stopped = threading.Event()

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return self.stopped.is_set()


@contextmanager
def _database_checks() -> Iterator[_Checker]:
    """Begins checks of databases; when the block is left early, those that still run are stopped."""
    deadline = _UntilStopped()

    def check(where: Path) -> CheckReport:
        try:
            return check_copy(where, CheckLevel.FULL, deadline=deadline)
        except TradekeepError as error:
            return CheckReport("sqlite", problems=(error.message,))

    count = min(_MOST_THREADS, os.cpu_count() or 1)
    workers = ThreadPoolExecutor(max_workers=count)
    started = threading.Barrier(count + 1)
    try:
        # All threads at once and before there is work: a signal between a thread's start and its entry in the pool's
        # books would leave that one behind, at work on a scratch that is removed.
        for _number in range(count):
            workers.submit(started.wait)
        started.wait()
        yield lambda where: workers.submit(check, where)
    except BaseException:
        deadline.stopped.set()
        started.abort()
        raise
    finally:
        workers.shutdown(wait=True, cancel_futures=True)


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
    if report.problems:
        return
    expected = entry.facts.get("tables")
    if expected is not None and expected != tables:
        for name in sorted({*expected, *tables}):
            if expected.get(name) != tables.get(name):
                there, told = tables.get(name, "no"), expected.get(name, "no")
                findings.problem(f"{entry.path}: table {name} has {there} rows, the manifest says {told}")
    if entry.facts.get("schema_sha256", report.facts.get("schema_sha256")) != report.facts.get("schema_sha256"):
        findings.problem(f"{entry.path}: the schema is not the one that the manifest says")


def _kind(application: Application, path: str) -> str:
    classified = classify(application.profile, path)
    return (classified.kind if classified else None) or default_kind(os.path.basename(path))


def _checked(kind: str, where: Path) -> CheckReport:
    try:
        return kind_named(kind).check(where, level=CheckLevel.FULL)
    except InterruptedBySignal:
        raise
    except TradekeepError as error:
        return CheckReport(kind, problems=(error.message,))
