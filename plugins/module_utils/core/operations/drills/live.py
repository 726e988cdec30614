# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The backup beside the live data, which is only read: what would be lost, and what is lost already."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...archive.manifest import Entry
from ...archive.safety import FILE
from ...errors import InterruptedBySignal, TradekeepError
from ...kinds.base import CaptureContext
from ...kinds.sqlite import SIDECAR_SUFFIXES
from ...kinds.sqlite_rows import COUNTED_BYTES, live_rows
from ...patterns import look_up
from ...ports import Ports
from ...storage.backup import Backup, iso, parse_iso
from ..apart import Telling, unusable, work_apart
from ..basis import basis_in, restored_at
from ..leftovers import reader_account
from ..scan import scan
from ..shrinking import fewer_rows, table_may_shrink
from ..text import counted
from .findings import Findings
from .source import Chosen
from .unpacking import Unpacked

_NANOSECONDS = 10**9
_LOOK_SECONDS = 4 * 3600.0
"""Every database has a deadline of its own; there may be hundreds."""
_LIVE = ("newer", "unchanged", "absent", "unknown")


@dataclass(frozen=True)
class RecoveryPoint:
    """To which moment the backup leads back, and how much time's work is lost with that.

    newest: the newest row or file that can be recovered. until: what was written up to then can be recovered, which is
    later where the application was idle before the backup. live: ``newer`` (something was written since),
    ``unchanged``, ``absent`` or ``unknown``.
    """

    newest: Optional[datetime]
    until: Optional[datetime]
    live: str
    seconds: Optional[int]

    def as_dict(self, target: int) -> dict[str, Any]:
        """For the record."""
        return {
            "seconds": self.seconds,
            "target": target,
            "met": self.seconds is not None and self.seconds <= target,
            "newest": None if self.newest is None else iso(self.newest),
            "until": None if self.until is None else iso(self.until),
            "live": self.live,
        }


def look_at_live(
    application: Application, chosen: Chosen, unpacked: Unpacked, scratch: Path, ports: Ports, findings: Findings
) -> RecoveryPoint:
    """Both of the following, in the owner's name: the live data is the bot's."""
    now = ports.clock.now()
    restored = restored_at(application, now)
    # Whoever works with less rights does not get at all of it; what cannot be known, the look at the data says.
    with contextlib.suppress(TradekeepError):
        look_up(application.profile)

    def look(_telling: Telling) -> dict[str, Any]:
        found = Findings()
        point = recovery_point(application, unpacked, now, found)
        if chosen.newest:
            compare_with_live(application, chosen.backup, unpacked, scratch, ports, restored, found)
        return {"findings": found.said(), "point": _point_as(point)}

    said = work_apart(look, ports, reader_account(application), seconds=_LOOK_SECONDS)
    if not isinstance(said, dict):
        raise unusable("does not say what it saw")
    findings.hear(said.get("findings"))
    return _point_from(said.get("point"))


def recovery_point(application: Application, unpacked: Unpacked, now: datetime, findings: Findings) -> RecoveryPoint:
    """The age of the newest recoverable row or file; nothing is lost where nothing was written since."""
    times = {entry.path: entry.mtime_ns for entry in unpacked.entries if entry.type == FILE}
    present = [item for item in times.values() if item <= now.timestamp() * _NANOSECONDS]
    if len(present) < len(times):
        findings.note(
            f"{counted(len(times) - len(present), 'file')} with a time in the future, which counts for nothing"
        )
    newest = _moment(max(present)) if present else None
    header = unpacked.report.header
    captured = None if header is None else parse_iso(header.created)
    # All that was there when the backup was made is in it, however long nothing had been written before.
    until = newest if captured is None or captured > now else max(captured, newest or captured)
    live = _written_since(application, times, until, findings)
    age = None if until is None else max(0, int((now - until).total_seconds()))
    return RecoveryPoint(newest, until, live, 0 if live == "unchanged" else age)


def compare_with_live(
    application: Application,
    backup: Backup,
    unpacked: Unpacked,
    scratch: Path,
    ports: Ports,
    restored: Optional[datetime],
    findings: Findings,
) -> None:
    """Whether the live databases hold what the newest backup leads to expect. restored: when they were put back."""
    if not Path(application.root).is_dir():
        findings.note(f"{application.root}: there is no live data to compare the backup with")
        return
    if restored is not None and restored >= backup.moment:
        findings.note("the live data was taken back in time since the backup, so that it is not compared")
        return
    context = CaptureContext(scratch, ports.clock)
    header = unpacked.report.header
    captured = None if header is None else parse_iso(header.created)
    since = 0 if captured is None else int(captured.timestamp() * _NANOSECONDS)
    for entry in unpacked.entries:
        tables = entry.facts.get("tables") if entry.kind == "sqlite" else None
        if tables is not None:
            _compare_database(application, backup, entry, tables, since, context, findings)


def _point_as(point: RecoveryPoint) -> list[Any]:
    moments = (None if moment is None else moment.isoformat() for moment in (point.newest, point.until))
    return [*moments, point.live, point.seconds]


def _point_from(said: Any) -> RecoveryPoint:
    try:
        newest, until, live, seconds = said
        moments = [None if text is None else datetime.fromisoformat(text) for text in (newest, until)]
        if live not in _LIVE or any(moment is not None and moment.tzinfo is None for moment in moments):
            raise ValueError(live)
        return RecoveryPoint(moments[0], moments[1], live, None if seconds is None else int(seconds))
    except (TypeError, ValueError, OverflowError):
        raise unusable("does not say what it saw") from None


def _compare_database(
    application: Application,
    backup: Backup,
    entry: Entry,
    tables: Mapping[str, int],
    since: int,
    context: CaptureContext,
    findings: Findings,
) -> None:
    live = Path(application.root) / entry.path
    if not live.exists():
        findings.problem(f"{live}: the live database is missing, and {backup.name} holds it")
        return
    try:
        rows = live_rows(live, context)
    except InterruptedBySignal:
        raise
    except TradekeepError as error:
        findings.note(f"the live database could not be compared: {error}")
        return
    if _last_written(str(live)) <= since and live.stat().st_size <= COUNTED_BYTES and rows != dict(tables):
        names = ", ".join(sorted(name for name in {*rows, *tables} if rows.get(name) != tables.get(name)))
        findings.problem(f"{live}: nothing was written since the backup, and yet it holds other rows of {names}")
        return
    for name, before in sorted(tables.items()):
        if name not in rows and not table_may_shrink(application, entry.path, name):
            findings.problem(f"{live}: table {name} is gone, the backup holds {counted(before, 'row')} of it")
    basis = basis_in(backup)
    for item in fewer_rows(application, entry.path, tables, rows, None if basis is None else basis.drained):
        if item.table in rows:
            text = f"{live}: table {item.table} has {counted(item.now, 'row')}, the backup holds {item.before}"
            findings.problem(text) if item.lost else findings.note(f"{text}; the rest of the database is there")


def _written_since(
    application: Application, times: dict[str, int], until: Optional[datetime], findings: Findings
) -> str:
    if not Path(application.root).is_dir():
        return "absent"
    try:
        if until is None:
            return "newer"
        return "newer" if _any_newer(application, times, int(until.timestamp() * _NANOSECONDS)) else "unchanged"
    except InterruptedBySignal:
        raise
    except TradekeepError as error:
        findings.note(f"the live data could not be looked at: {error}")
        return "newer"


def _any_newer(application: Application, times: dict[str, int], until: int) -> bool:
    for found in scan(application, refuse_links=False):
        if found.type != FILE:
            continue
        changed = found.signature.modified_ns
        if changed > until and changed != times.get(found.path):
            return True
        if found.kind == "sqlite" and _last_written(found.absolute) > max(until, changed):
            return True
    return False


def _last_written(database: str) -> int:
    return max(_changed(database + suffix) for suffix in ("", *SIDECAR_SUFFIXES))


def _changed(path: str) -> int:
    """When a companion of a database was written; one that is empty, or only an index, says nothing."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    return 0 if path.endswith("-shm") or status.st_size == 0 else status.st_mtime_ns


def _moment(nanoseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(nanoseconds // _NANOSECONDS, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, timezone.utc)
