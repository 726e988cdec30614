# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Everything that was restored, looked at where it lies: type, size, and what is inside, by its kind."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Optional

from ...application import Application, CheckLevel
from ...archive.manifest import Entry
from ...archive.safety import DIRECTORY, FILE, SYMLINK
from ...errors import InterruptedBySignal, TradekeepError
from ...kinds import default_kind, kind_named
from ...kinds.base import CheckReport
from ...patterns import classify
from ...ports import Ports
from .findings import Findings
from .unpacking import Unpacked

_TYPES = {FILE: stat.S_ISREG, DIRECTORY: stat.S_ISDIR, SYMLINK: stat.S_ISLNK, "hardlink": stat.S_ISREG}
_LEFT_TO_THE_WRITER = ("file", "log", "jsonl")


def check_unpacked(application: Application, unpacked: Unpacked, ports: Ports, findings: Findings) -> None:
    """Judge every entry; the digests were compared while it was written."""
    findings.notes.extend(unpacked.report.notes)
    for path in sorted(unpacked.skipped_links):
        findings.note(f"{path}: a symlink that leads out of the data, left out as in a restore")
    ports.progress.start("checking", unpacked.bytes)
    for entry in unpacked.entries:
        if entry.path in unpacked.skipped_links:
            continue
        where = Path(unpacked.root) / entry.path
        fault = _fault_of(entry, where)
        if fault is not None:
            findings.problem(f"{entry.path}: {fault}")
        elif entry.type == FILE:
            _open_file(application, entry, where, findings, unpacked.foreign)
            ports.progress.advance(entry.size)
    ports.progress.finish()


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


def _open_file(application: Application, entry: Entry, where: Path, findings: Findings, foreign: bool) -> None:
    kind = entry.kind or _kind(application, entry.path)
    findings.opened[kind] = findings.opened.get(kind, 0) + 1
    report = _checked(kind, where)
    # The bytes are those that were captured: what was odd about them then was said then, and is its writer's matter.
    known = not foreign and (kind in _LEFT_TO_THE_WRITER or bool(entry.facts.get("warnings")))
    for text in report.problems:
        (findings.note if known else findings.problem)(f"{entry.path}: {text}")
    for text in report.warnings:
        findings.note(f"{entry.path}: {text}")
    if kind == "sqlite":
        _compare_rows(entry, report, findings)


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
