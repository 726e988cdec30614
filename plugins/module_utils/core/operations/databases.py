# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Checking and optimizing the live databases of an application."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ..application import Application, CheckLevel
from ..archive.reported import texts_from
from ..errors import EmptyError, ExitStatus, OtherContentError, TradekeepError, UnsafePathError, UsageError
from ..host.files import components_of
from ..kinds.sqlite_live import examine, inspect_live, optimize
from ..patterns import classify, expected_files, look_up
from ..ports import Ports, Progress
from ..storage.local import LocalCatalog
from ..transaction.lock import application_lock
from .apart import Telling, unusable, work_apart
from .basis import basis_of
from .kind_of import SQLITE, kind_of
from .leftovers import reader_account, reading_scratch
from .links import place_of_data
from .outcome import Outcome
from .scan import check_root, scan
from .text import first_few, human_bytes, table

_CHECK_SECONDS = 1800.0
"""For one database: its copying and its check have deadlines of their own, which are shorter."""
_OPTIMIZE_SECONDS = 4 * 3600.0
"""For one database, which is written anew."""


def check_databases(
    application: Application,
    ports: Ports,
    *,
    paths: Sequence[str] = (),
    level: CheckLevel = CheckLevel.QUICK,
    foreign_keys: bool = False,
) -> Outcome:
    """Check live databases without keeping their writers waiting: integrity, WAL, rows per table.

    Without paths, all of them; then also those that are missing, though the profile requires or the last backup held
    them.
    """
    expected = {} if paths else _expected(application, ports)
    look_up(application.profile)
    with reading_scratch(application, "check") as scratch:

        def check(telling: Telling) -> list[Any]:
            chosen = _chosen(application, paths)
            missing = sorted(path for path in set(expected) - set(chosen) if not _is_there(application, path))
            results = [_failed(path, expected[path]) for path in missing]
            for path in chosen:
                telling.start(f"checking {path}", None, "databases")
                strict = bool(paths) or path in expected
                results.append(_inspect(application, path, scratch, ports, level, foreign_keys, strict))
            return results

        said = work_apart(check, ports, reader_account(application), seconds=_CHECK_SECONDS)
    results = _checks_from(said)
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
    account = reader_account(application)
    look_up(application.profile)
    with contextlib.ExitStack() as stack:
        if not dry_run:
            stack.enter_context(_lock(application, ports))
        scratch = stack.enter_context(reading_scratch(application, "optimize"))

        def work(telling: Telling) -> list[Any]:
            one = _Optimizing(application, ports, telling, scratch, vacuum=vacuum)
            return [one.foresee(path) if dry_run else one.optimize(path) for path in _chosen(application, paths)]

        results = _optimized_from(work_apart(work, ports, account, seconds=_OPTIMIZE_SECONDS))
    failed = any(item["problem"] for item in results)
    return Outcome(
        changed=any(item["changed"] for item in results),
        record={"databases": results},
        lines=tuple(_optimize_line(item, dry_run) for item in results) or ("no databases",),
        status=ExitStatus.FAILED if failed else ExitStatus.DONE,
    )


def _chosen(application: Application, paths: Sequence[str]) -> list[str]:
    root = check_root(application)
    if not paths:
        return [found.path for found in scan(application, refuse_links=False) if found.kind == SQLITE]
    chosen = []
    for path in paths:
        relative = os.path.relpath(path, root) if os.path.isabs(path) else path
        try:
            components_of(relative)
        except UnsafePathError as error:
            raise UsageError(error.message, path=path, hint="give a path relative to the root") from None
        if not os.path.lexists(root / relative):
            raise UsageError("no such database", path=root / relative, hint="give a path relative to the root")
        if kind_of(application.profile, relative) != SQLITE and not (root / relative).is_file():
            raise UsageError("not a database", path=root / relative, hint="give the path of a SQLite file")
        chosen.append(relative)
    return chosen


def _expected(application: Application, ports: Ports) -> dict[str, str]:
    """Databases that have to be there, with why."""
    basis = basis_of(application, LocalCatalog(application, ports.clock))
    held = {} if basis is None else dict.fromkeys(basis.databases, f"it is missing, and {basis.name} held it")
    expected = {path: why for path, why in held.items() if classify(application.profile, path) is not None}
    for _component, rule in expected_files(application.profile):
        if kind_of(application.profile, rule.pattern) == SQLITE:
            expected.setdefault(rule.pattern, "it is missing, and the profile requires it")
    return expected


def _is_there(application: Application, path: str) -> bool:
    return os.path.lexists(os.path.join(application.root, path))


def _failed(path: str, problem: str) -> dict[str, Any]:
    return {"path": path, "problems": [problem], "warnings": [], "facts": {}}


def _inspect(
    application: Application,
    path: str,
    scratch: Path,
    ports: Ports,
    level: CheckLevel,
    foreign_keys: bool,
    strict: bool,
) -> dict[str, Any]:
    """strict: nothing but a database may be there."""
    absolute = Path(place_of_data(application, path))
    try:
        report = inspect_live(absolute, scratch=scratch, clock=ports.clock, level=level, foreign_keys=foreign_keys)
    except (EmptyError, OtherContentError) as error:
        if strict:
            return _failed(path, error.message)
        return {"path": path, "problems": [], "warnings": [f"no database: {error.message}"], "facts": {}}
    except TradekeepError as error:
        return _failed(path, error.message)
    return {"path": path, "problems": list(report.problems), "warnings": list(report.warnings), "facts": report.facts}


def _lock(application: Application, ports: Ports) -> AbstractContextManager[None]:
    return application_lock(
        Path(application.application_state_dir),
        operation="db optimize",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.mention,
    )


@dataclass(frozen=True)
class _Optimizing:
    """Optimizes one database after the other; what is wrong with one is a part of its result."""

    application: Application
    ports: Ports
    progress: Progress
    scratch: Path
    vacuum: bool

    def foresee(self, path: str) -> dict[str, Any]:
        """What ``optimize`` would find and leave out."""
        self.progress.start(f"looking at {path}", None, "databases")
        try:
            renumbered = examine(self._place(path), scratch=self.scratch, clock=self.ports.clock)
        except TradekeepError as error:
            return _result(path, problem=error.message)
        return _result(path, changed=not renumbered and self.vacuum, renumbered=renumbered if self.vacuum else ())

    def optimize(self, path: str) -> dict[str, Any]:
        """Optimize one."""
        self.progress.start(f"optimizing {path}", None, "databases")
        try:
            done = optimize(self._place(path), scratch=self.scratch, clock=self.ports.clock, vacuum=self.vacuum)
        except TradekeepError as error:
            return _result(path, problem=error.message)
        return _result(
            path,
            changed=done.changed,
            before=done.size_before,
            after=done.size_after,
            renumbered=done.renumbered,
        )

    def _place(self, path: str) -> Path:
        return Path(place_of_data(self.application, path))


def _result(
    path: str,
    *,
    changed: bool = False,
    problem: Optional[str] = None,
    before: Optional[int] = None,
    after: Optional[int] = None,
    renumbered: tuple[str, ...] = (),
) -> dict[str, Any]:
    return {
        "path": path,
        "changed": changed,
        "problem": problem,
        "before": before,
        "after": after,
        "not_rewritten_for": list(renumbered),
    }


def _checks_from(said: Any) -> list[dict[str, Any]]:
    """The results of checks, as the process that carried them out says them."""
    try:
        return [
            {
                "path": str(item["path"]),
                "problems": list(texts_from(item["problems"])),
                "warnings": list(texts_from(item["warnings"])),
                "facts": _facts_from(item["facts"]),
            }
            for item in said
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise unusable("reports what is no check of a database") from None


def _facts_from(said: Any) -> dict[str, Any]:
    facts = dict(said)
    if "size" in facts:
        facts["size"] = int(facts["size"])
    if "tables" in facts:
        facts["tables"] = {str(name): None if rows is None else int(rows) for name, rows in facts["tables"].items()}
    if facts.get("wal") is not None:
        facts["wal"] = {key: int(facts["wal"][key]) for key in ("size", "frames")}
    return facts


def _optimized_from(said: Any) -> list[dict[str, Any]]:
    try:
        return [
            _result(
                str(item["path"]),
                changed=bool(item["changed"]),
                problem=None if item["problem"] is None else str(item["problem"]),
                before=None if item["before"] is None else int(item["before"]),
                after=None if item["after"] is None else int(item["after"]),
                renumbered=texts_from(item["not_rewritten_for"]),
            )
            for item in said
        ]
    except (KeyError, TypeError, ValueError):
        raise unusable("reports what is no optimization of a database") from None


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


def _optimize_line(item: dict[str, Any], dry_run: bool) -> str:
    path = item["path"]
    if item["problem"]:
        return f"{path}: {item['problem']}"
    if item["not_rewritten_for"]:
        tables = first_few(item["not_rewritten_for"], 5)
        return (
            f"{path}: not rewritten, as that numbers the rows of {tables} anew (no INTEGER PRIMARY KEY keeps their "
            "rowid): what refers to them by number would find others"
        )
    if dry_run:
        return f"would optimize {path}"
    return f"{path}: {human_bytes(item['before'])} -> {human_bytes(item['after'])}"
