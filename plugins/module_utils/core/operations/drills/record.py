# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What drills leave behind: one record each under ``<state_dir>/<app>/drills``, and a word in the catalog."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...application import Application
from ...errors import ExitStatus, TradekeepError
from ...host.files import atomic_write, make_private_directory
from ...ports import Ports
from ...storage.backup import Backup, read_backup, read_small
from ...storage.choice import is_future, said_of_the_future
from ...storage.local import LocalCatalog
from ...transaction.lock import application_lock
from ..outcome import Outcome
from ..text import counted, first_lines, human_bytes, human_seconds, table

LARGEST_RECORD = 16 << 20
_LOCK_SECONDS = 60.0
_STAMP = "%Y%m%d_%H%M%S"
_SHOWN = 20


def records_directory(application: Application) -> Path:
    """Where the records lie."""
    return Path(application.application_state_dir) / "drills"


def write_record(application: Application, record: Mapping[str, Any]) -> None:
    """Keep the record of one drill."""
    make_private_directory(Path(application.application_state_dir))
    make_private_directory(records_directory(application))
    atomic_write(Path(record["record"]), (json.dumps(dict(record), indent=1, sort_keys=True) + "\n").encode("ascii"))


def record_path(application: Application, moment: datetime) -> Path:
    """A name that no record has yet."""
    return unused_path(records_directory(application), moment)


def unused_path(directory: Path, moment: datetime) -> Path:
    """The name of a record of a moment, in a directory where that moment may have one already."""
    stem = moment.astimezone(timezone.utc).strftime(_STAMP)
    path = directory / f"{stem}.json"
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{stem}-{number:03d}.json")
    return path


def remember(application: Application, ports: Ports, backup: Backup, source: str, verdict: str) -> None:
    """Tell the catalog. The record is what counts: a backup that is being made is not waited for very long.

    Of a copy that lies elsewhere it is the backup here, if there is one with the same checksum, that was drilled.
    """
    ours = Path(application.backup_dir) / backup.name
    if backup.path != ours:
        if not ours.exists():
            return
        twin = read_backup(ours, application.profile.archive_prefix)
        if backup.sha256 is None or twin.sha256 != backup.sha256:
            return
        backup = twin
    state_dir = Path(application.application_state_dir)
    catalog = LocalCatalog(application, ports.clock, note=ports.progress.note)
    if not catalog.maker.keeps_record_of(backup):
        return
    now = ports.clock.now()
    try:
        with application_lock(state_dir, operation="drill", clock=ports.clock, wait_seconds=_LOCK_SECONDS):
            catalog.record_drilled(backup, source, now, verdict)
    except TradekeepError as error:
        ports.progress.note(f"'tradekeep list' will not show this drill: {error}")


def dated_records(directory: Path, now: datetime) -> list[Path]:
    """The files of records, newest first, and after all others those of a clock that was wrong: dated in the future."""

    def order(path: Path) -> tuple[bool, str]:
        return not _is_of_future(path, now), path.stem

    return sorted(directory.glob("*.json"), key=order, reverse=True) if directory.is_dir() else []


def _is_of_future(path: Path, now: datetime) -> bool:
    """By its name; one that says no moment comes last as well."""
    with contextlib.suppress(ValueError):
        return is_future(datetime.strptime(path.stem[:15], _STAMP).replace(tzinfo=timezone.utc), now)
    return True


def drill_log(application: Application, ports: Ports) -> Outcome:
    """All records, newest first; a damaged one says so in its place."""
    now = ports.clock.now()
    paths = dated_records(records_directory(application), now)
    records = [_read(path) for path in paths]
    heads = ["drill", "backup", "verdict", "RTO", "RPO"]
    rows = [_row(item) for item in records]
    lines = table(heads, rows) if rows else ["no drills yet"]
    ahead = sum(_is_of_future(path, now) for path in paths)
    if ahead:
        lines = [*lines, f"note: {said_of_the_future(counted(ahead, 'record'), now)}"]
    return Outcome(changed=False, record={"drills": records}, lines=tuple(lines))


def drill_lines(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The account of one drill for people."""
    return tuple(_lines(record))


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    yield from first_lines([f"PROBLEM: {text}" for text in record["problems"]], _SHOWN, "see its record")
    yield target_line("RTO", record["rto"])
    yield target_line("RPO", record["rpo"])
    yield from first_lines([f"note: {text}" for text in record["notes"]], _SHOWN, "see its record")
    yield from table(["phase", "time"], [[name, drill_span(spent)] for name, spent in record["phases"].items()])
    opened = ", ".join(f"{count} {kind}" for kind, count in sorted(record["opened"].items())) or "nothing"
    drilled = record["drilled"]
    part = "" if drilled["whole"] else f" of {human_bytes(drilled['of_bytes'])}"
    rows = sum(item["rows"] for item in record["databases"])
    yield f"opened {opened}; {human_bytes(drilled['bytes'])}{part}, {counted(rows, 'row')}"
    backup = record["backup"] or {"name": "no backup"}
    yield f"drill of {backup['name']}: {record['verdict'].upper()}"


def target_line(word: str, found: Mapping[str, Any]) -> str:
    """How long it took, and whether that is short enough."""
    if found["seconds"] is None:
        return f"{word} not known, at most {human_seconds(found['target'])} wanted"
    verdict = "met" if found["met"] else "MISSED"
    return f"{word} {drill_span(found['seconds'])}, at most {human_seconds(found['target'])} wanted: {verdict}"


def drill_span(seconds: float) -> str:
    """A duration; short ones with tenths."""
    return f"{seconds:.1f} s" if seconds < 60 else human_seconds(seconds)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_small(path, LARGEST_RECORD))
    except (OSError, ValueError, RecursionError) as error:
        return {"record": str(path), "verdict": "damaged", "problems": [f"cannot be read: {type(error).__name__}"]}
    if not isinstance(found, dict) or not isinstance(found.get("verdict"), str):
        return {"record": str(path), "verdict": "damaged", "problems": ["no record of a drill"]}
    return found


def _row(record: Mapping[str, Any]) -> list[str]:
    seconds = []
    for key in ("rto", "rpo"):
        found = record.get(key)
        spent = found.get("seconds") if isinstance(found, dict) else None
        seconds.append(drill_span(spent) if isinstance(spent, (int, float)) else "-")
    backup = record.get("backup")
    name = str(backup.get("name")) if isinstance(backup, dict) else "-"
    when = str(record.get("started") or Path(record["record"]).stem)
    return [when, name, record["verdict"], *seconds]


def status_of(verdict: str) -> ExitStatus:
    """Anything but ``passed`` is a finding."""
    return ExitStatus.DONE if verdict == "passed" else ExitStatus.FINDINGS
