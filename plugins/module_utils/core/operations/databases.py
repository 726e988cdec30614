# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Checking and optimizing the live databases of an application."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..application import Application, CheckLevel
from ..errors import ExitStatus, TradekeepError, UnsafePathError, UsageError
from ..host.files import components_of
from ..kinds import default_kind
from ..kinds.sqlite_live import inspect_live, optimize
from ..ports import Ports
from ..transaction.lock import application_lock
from .leftovers import reading_scratch
from .outcome import Outcome
from .scan import check_root, scan
from .text import human_bytes, table


def check_databases(
    application: Application,
    ports: Ports,
    *,
    paths: Sequence[str] = (),
    level: CheckLevel = CheckLevel.QUICK,
    foreign_keys: bool = False,
) -> Outcome:
    """Check live databases without keeping their writers waiting: integrity, WAL, rows per table."""
    results = []
    with reading_scratch(application, "check") as scratch:
        for path in _chosen(application, paths):
            ports.progress.note(f"checking {path}")
            results.append(_inspect(application, path, scratch, ports, level, foreign_keys))
    bad = any(item["problems"] for item in results)
    return Outcome(
        changed=False,
        record={"databases": results, "level": level.value},
        lines=tuple(_check_lines(results)),
        status=ExitStatus.FINDINGS if bad else ExitStatus.DONE,
    )


def optimize_databases(
    application: Application, ports: Ports, *, paths: Sequence[str] = (), dry_run: bool = False, vacuum: bool = True
) -> Outcome:
    """ANALYZE and, where the space allows it, VACUUM. Each database is skipped with an error while it is in use."""
    chosen = _chosen(application, paths)
    if dry_run:
        lines = tuple(f"would optimize {path}" for path in chosen)
        return Outcome(changed=bool(chosen), record={"databases": [{"path": path} for path in chosen]}, lines=lines)
    results: list[dict[str, Any]] = []
    with application_lock(
        Path(application.application_state_dir),
        operation="db optimize",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.note,
    ):
        results = [_optimize(application, path, ports, vacuum) for path in chosen]
    failed = any(item["problem"] for item in results)
    return Outcome(
        changed=any(item["changed"] for item in results),
        record={"databases": results},
        lines=tuple(_optimize_line(item) for item in results) or ("no databases",),
        status=ExitStatus.FAILED if failed else ExitStatus.DONE,
    )


def _chosen(application: Application, paths: Sequence[str]) -> list[str]:
    root = check_root(application)
    if not paths:
        return [found.path for found in scan(application) if found.kind == "sqlite"]
    chosen = []
    for path in paths:
        relative = os.path.relpath(path, root) if os.path.isabs(path) else path
        try:
            components_of(relative)
        except UnsafePathError as error:
            raise UsageError(error.message, path=path, hint="give a path relative to the root") from None
        if not os.path.lexists(root / relative):
            raise UsageError("no such database", path=root / relative, hint="give a path relative to the root")
        if default_kind(os.path.basename(relative)) != "sqlite" and not (root / relative).is_file():
            raise UsageError("not a database", path=root / relative, hint="give the path of a SQLite file")
        chosen.append(relative)
    return chosen


def _inspect(
    application: Application, path: str, scratch: Path, ports: Ports, level: CheckLevel, foreign_keys: bool
) -> dict[str, Any]:
    absolute = Path(application.root) / path
    try:
        report = inspect_live(absolute, scratch=scratch, clock=ports.clock, level=level, foreign_keys=foreign_keys)
    except TradekeepError as error:
        return {"path": path, "problems": [error.message], "warnings": [], "facts": {}}
    return {"path": path, "problems": list(report.problems), "warnings": list(report.warnings), "facts": report.facts}


def _optimize(application: Application, path: str, ports: Ports, vacuum: bool) -> dict[str, Any]:
    ports.progress.note(f"optimizing {path}")
    try:
        done = optimize(Path(application.root) / path, clock=ports.clock, vacuum=vacuum)
    except TradekeepError as error:
        return {"path": path, "changed": False, "problem": error.message, "before": None, "after": None}
    return {
        "path": path,
        "changed": done.changed,
        "problem": None,
        "before": done.size_before,
        "after": done.size_after,
    }


def _check_lines(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    for item in results:
        yield from (f"{item['path']}: PROBLEM: {text}" for text in item["problems"])
        yield from (f"{item['path']}: {text}" for text in item["warnings"])
    rows = []
    for item in results:
        facts = item["facts"]
        wal = facts.get("wal")
        rows.append(
            [
                item["path"],
                "BAD" if item["problems"] else "ok",
                human_bytes(facts.get("size", 0)),
                human_bytes(wal["size"]) if wal else "-",
                str(sum(count for count in facts.get("tables", {}).values() if count is not None)),
            ]
        )
    yield from table(["database", "result", "size", "wal", "rows"], rows) if rows else ["no databases"]


def _optimize_line(item: dict[str, Any]) -> str:
    if item["problem"]:
        return f"{item['path']}: {item['problem']}"
    return f"{item['path']}: {human_bytes(item['before'])} -> {human_bytes(item['after'])}"
