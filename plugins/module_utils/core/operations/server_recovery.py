# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a host remembers of its recovery from an archive: how long each phase took, and what runs now.

The recovery itself is a play, since it begins where there is no program yet. It ends here: what was recovered once must
not be recovered again by the same command, or the bot's work since would be taken back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from ..application import Application
from ..errors import ExitStatus
from ..host.files import atomic_write, make_private_directory
from ..ports import Ports
from ..storage.backup import iso, read_small
from ..storage.choice import is_future
from ..transaction.fence_file import fence_in_words, read_fence
from .controller import services_of
from .deploy.survey import missing_files
from .drills.record import (
    LARGEST_RECORD,
    dated_records,
    drill_span,
    record_path,
    target_line,
    unused_path,
    write_record,
)
from .outcome import Outcome
from .text import counted, table

VERSION = 1
RECOVERED, REHEARSED, FAILED = "recovered", "rehearsed", "failed"


@dataclass(frozen=True)
class Recovery:
    """One recovery, as the play tells it.

    state: RECOVERED, REHEARSED (a drill on a spare host: nothing was started) or FAILED. phases: name and seconds, in
    order. created: when the archive was made, as its manifest says. migration: the record of how the data came here.
    """

    state: str
    archive: str
    sha256: str
    phases: Sequence[tuple[str, float]] = ()
    created: str = ""
    commit: str = ""
    migration: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def last_recovery(application: Application, ports: Ports, *, sha256: str = "") -> Outcome:
    """The last recovery that succeeded, whether it was from this very archive, and what runs. Writes nothing."""
    now = ports.clock.now()
    done = next((item for item in _records(application, now) if item.get("state") in (RECOVERED, REHEARSED)), None)
    known = bool(sha256) and done is not None and (done.get("state"), done.get("sha256")) == (RECOVERED, sha256)
    fence = read_fence(Path(application.application_state_dir))
    words = None if fence is None else fence_in_words(fence)
    lines = ["this host was not recovered from an archive yet"]
    if done is not None:
        lines = [f"recovered from {done.get('archive')} at {done.get('finished')}"]
    record = {"last": done, "known": known, "fenced": words, "running": _running(application, ports)}
    return Outcome(changed=False, record=record, lines=tuple(lines))


def keep_recovery(
    application: Application, ports: Ports, recovery: Recovery, *, dry_run: bool = False, expect_services: bool = True
) -> Outcome:
    """Look at what runs now, judge the targets, and keep the record; of a rehearsal among the drills too.

    Status FINDINGS where the recovery is not what it should be. expect_services: whether they were to be started.
    """
    record = _record(application, ports, recovery, expect_services)
    lines = list(_lines(record))
    record["table"] = lines
    if not dry_run:
        make_private_directory(Path(application.application_state_dir))
        make_private_directory(_directory(application))
        path = Path(record["record"])
        atomic_write(path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode("ascii"))
        if recovery.state == REHEARSED or (recovery.state == FAILED and not expect_services):
            write_record(application, _as_drill(application, record))
    status = ExitStatus.DONE if recovery.state != FAILED and not record["problems"] else ExitStatus.FINDINGS
    return Outcome(changed=True, record=record, lines=tuple(lines), status=status)


def _record(application: Application, ports: Ports, recovery: Recovery, expect_services: bool) -> dict[str, Any]:
    now, settings = ports.clock.now(), application.profile.drill
    total = round(sum(seconds for _name, seconds in recovery.phases), 3)
    age = _age(recovery.created, now)
    running = _running(application, ports)
    installed = services_of(application, ports).installed()
    idle = [name for entry in installed for name in entry["running"] if name not in running]
    missing = list(missing_files(application))
    fence = read_fence(Path(application.application_state_dir))
    problems = [recovery.error] if recovery.error else []
    problems += [f"{path} is missing: the bot has no credentials" for path in missing]
    if expect_services and fence is None and recovery.state == RECOVERED:
        problems += [f"{name} does not run" for name in idle]
    if recovery.state == REHEARSED:
        problems += [f"{name} runs on a spare host" for name in running]
    holds = recovery.migration.get("holds") or {}
    return {
        "version": VERSION,
        "application": application.name,
        "host": os.uname().nodename,
        "record": str(unused_path(_directory(application), now)),
        "state": recovery.state,
        "archive": recovery.archive,
        "sha256": recovery.sha256,
        "created": recovery.created or None,
        "finished": iso(now),
        "commit": recovery.commit or None,
        "phases": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in recovery.phases],
        "rto": {"seconds": total, "target": settings.rto_seconds, "met": total <= settings.rto_seconds},
        "rpo": {"seconds": age, "target": settings.rpo_seconds, "met": age is not None and age <= settings.rpo_seconds},
        "files": holds.get("files", 0),
        "bytes": holds.get("bytes", 0),
        "databases": [
            {"path": path, "tables": found["tables"], "rows": sum(found["tables"].values())}
            for path, found in sorted((holds.get("databases") or {}).items())
        ],
        "kept_aside": [path for key in ("backup", "safety_backup") if (path := recovery.migration.get(key))],
        "migration": recovery.migration.get("record"),
        "running": running,
        "idle": idle,
        "missing": missing,
        "fenced": None if fence is None else fence_in_words(fence),
        "problems": problems,
    }


def _as_drill(application: Application, record: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a drill tells it, so that it is listed with the others."""
    met = record["rto"]["met"] and record["rpo"]["met"]
    failed = record["state"] == FAILED or bool(record["problems"])
    return {
        "version": VERSION,
        "application": record["application"],
        "host": record["host"],
        "record": str(record_path(application, datetime.fromisoformat(record["finished"].replace("Z", "+00:00")))),
        "started": record["finished"],
        "finished": record["finished"],
        "source": "a spare host",
        "backup": {"name": os.path.basename(record["archive"]), "moment": record["created"]},
        "verdict": "failed" if failed else "passed" if met else "missed",
        "weaker_checks": False,
        "phases": {item["name"]: item["seconds"] for item in record["phases"]},
        "rto": {**record["rto"], "scaled": False},
        "rpo": record["rpo"],
        "drilled": {
            "files": record["files"],
            "bytes": record["bytes"],
            "of_bytes": record["bytes"],
            "whole": True,
        },
        "opened": {"sqlite": len(record["databases"])},
        "databases": record["databases"],
        "problems": record["problems"],
        "notes": [],
    }


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"PROBLEM: {text}" for text in record["problems"])
    rows = [[item["name"], drill_span(item["seconds"])] for item in record["phases"]]
    yield from table(["phase", "time"], [*rows, ["all", drill_span(record["rto"]["seconds"])]])
    yield target_line("RTO", record["rto"])
    yield target_line("RPO", record["rpo"])
    yield from (f"kept aside: {path}" for path in record["kept_aside"])
    if record["fenced"]:
        yield f"this host is {record['fenced']}; nothing was started"
    if record["running"]:
        yield f"runs: {', '.join(record['running'])}"
    elif record["idle"]:
        yield f"does not run: {', '.join(record['idle'])}"
    total = sum(item["rows"] for item in record["databases"])
    yield f"{counted(record['files'], 'file')}, {counted(total, 'row')}"
    yield f"{record['state']} from {os.path.basename(record['archive'])}"


def _running(application: Application, ports: Ports) -> list[str]:
    return [name for entry in services_of(application, ports).snapshot() for name in entry["running"]]


def _age(created: str, now: datetime) -> Optional[int]:
    try:
        moment = datetime.fromisoformat(created.replace("Z", "+00:00"))
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return None if is_future(moment, now) else max(0, int((now - moment).total_seconds()))


def _directory(application: Application) -> Path:
    return Path(application.application_state_dir) / "recoveries"


def _records(application: Application, now: datetime) -> Iterator[dict[str, Any]]:
    """Newest first; what cannot be read counts for nothing."""
    for path in dated_records(_directory(application), now):
        try:
            found = json.loads(read_small(path, LARGEST_RECORD))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found
