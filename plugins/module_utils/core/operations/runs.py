# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How the last run of each job of the timers ended: recorded by the run itself, and read by ``list``.

``<state_dir>/<app>/runs/JOB.json`` says how the last run of a job ended, in words. ``JOB.running`` is there while one
runs, and its process holds a lock on it: one that nobody holds is left by a run that was cut off, by a power loss or by
the kernel. ``failures.log`` beside the directory has a line for each failure, written by the unit that systemd starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Optional

from ..application import Application, Tier
from ..errors import ExitStatus, TradekeepError
from ..faults import foreseen, unforeseen
from ..formatting import LINE_LIMIT, shortened
from ..host.files import atomic_write, fsync_directory, make_private_directory, write_all
from ..host.unit_manager import UnitManager
from ..ports import Ports
from ..storage.backup import iso, parse_iso, read_small
from .outcome import Outcome

CUT_OFF = "was cut off: the power went, its process was killed, or a full disk left no room to record its end"
RUNS, FAILURES_LOG, RUNNING = "runs", "failures.log", ".running"
_LARGEST = 1 << 16
_FAILURE = re.compile(r"(\S+Z) (\S+) (failed|was cut off)")


@dataclass(frozen=True)
class Run:
    """The last run of a job. exit_status: None while it runs, and of one that was cut off. problem: in words."""

    job: str
    started: Optional[datetime]
    ended: Optional[datetime] = None
    exit_status: Optional[int] = None
    problem: Optional[str] = None
    running: bool = False

    @property
    def failed(self) -> bool:
        """Whether it ended in any other way than well."""
        return not self.running and self.exit_status != ExitStatus.DONE

    @property
    def cut_off(self) -> bool:
        """Whether nobody recorded its end."""
        return not self.running and self.exit_status is None

    @property
    def moment(self) -> Optional[datetime]:
        """When it ended, or began if nobody knows when it ended."""
        return self.ended or self.started

    @property
    def in_words(self) -> str:
        """What became of it: the job, what went wrong, and what its exit status means."""
        status = "" if self.exit_status is None else f" (exit status {self.exit_status}: {_meaning(self.exit_status)})"
        return f"{job_in_words(self.job)}: {self.problem or 'no details'}{status}"


@dataclass(frozen=True)
class Failure:
    """A line of the log of failures."""

    moment: datetime
    unit: str
    what: str


def backup_job(tier: str) -> str:
    """The job of a tier's backups."""
    return f"backup-{tier}"


def job_in_words(job: str) -> str:
    """``backup (daily)``."""
    kind, _dash, tier = job.partition("-")
    return f"{kind} ({tier})" if tier else kind


def unit_of(application: Application, job: str) -> Optional[str]:
    """The service whose timer starts a job; None where there is none of its own."""
    scheduled = {backup_job(item.tier.value) for item in application.profile.schedules}
    if job in scheduled or (job in ("verify", "drill") and scheduled):
        kind, _dash, tier = job.partition("-")
        return f"tradekeep-{kind}-{application.name}{'-' if tier else ''}{tier}.service"
    return None


def recorded(application: Application, ports: Ports, job: str, work: Callable[[], Outcome]) -> Outcome:
    """Carry out a job and record how it ended. That it cannot be recorded changes nothing about the job."""
    began = ports.clock.now()
    with _running(application, ports, job, began) as end:
        try:
            outcome = work()
        except Exception as error:
            known = foreseen(error) or unforeseen(error)
            end(int(known.exit_status), str(known))
            raise
        last = outcome.lines[-1] if outcome.lines else None
        end(int(outcome.status), None if outcome.status is ExitStatus.DONE else last)
        return outcome


def last_runs(application: Application) -> tuple[Run, ...]:
    """The last run of each job; one that was cut off is seen as such. Writes nothing."""
    directory = _directory(application)
    found: dict[str, Run] = {}
    for path in sorted(directory.glob("*.json")) if directory.is_dir() else ():
        found[path.stem] = _read(path, path.stem)
    for path in sorted(directory.glob(f"*{RUNNING}")) if directory.is_dir() else ():
        job = path.name[: -len(RUNNING)]
        begun = _read(path, job)
        before = found.get(job)
        # Cut off between its record and the end of its mark, it had ended.
        if before is None or before.started is None or before.started != begun.started:
            held = _is_held(path)
            found[job] = Run(job, begun.started, problem=None if held else CUT_OFF, running=held)
    return tuple(found.values())


def failures(application: Application) -> tuple[Failure, ...]:
    """What the end of the log of failures says, the oldest first."""
    try:
        with open(Path(application.application_state_dir) / FAILURES_LOG, "rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LARGEST))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ()
    matches = (_FAILURE.fullmatch(line.strip()) for line in text.splitlines())
    found = ((parse_iso(match[1]), match) for match in matches if match)
    return tuple(Failure(moment, match[2], match[3]) for moment, match in found if moment is not None)


def make_up_for(application: Application, ports: Ports) -> Outcome:
    """At boot: record the runs that were cut off, and start them again, unless that was cut off before as well."""
    lines, started = [], []
    for run in last_runs(application):
        if not run.cut_off or not _mark(application, run.job).exists():
            continue
        before = _record(application, run.job)
        twice = before.exists() and _read(before, run.job).cut_off
        _settle(application, ports, run)
        unit = unit_of(application, run.job)
        lines.append(f"{job_in_words(run.job)} {CUT_OFF}")
        if unit is None or twice:
            lines.append(f"{job_in_words(run.job)} is not started again: its next time will do")
            continue
        # Not waited for: it comes after this very unit.
        UnitManager(ports.runner, user=application.user_units).systemctl("start", "--no-block", "--", unit)
        started.append(unit)
        lines.append(f"started {unit}")
    return Outcome(
        changed=bool(lines), record={"started": started}, lines=tuple(lines) or ("no run of a timer was cut off",)
    )


@contextlib.contextmanager
def _running(
    application: Application, ports: Ports, job: str, began: datetime
) -> Iterator[Callable[[int, Optional[str]], None]]:
    """The mark of a run, for as long as it runs. Yields what records its end."""
    mark = _mark(application, job)
    descriptor: Optional[int] = None
    with contextlib.suppress(TradekeepError, OSError):
        make_private_directory(mark.parent.parent)
        make_private_directory(mark.parent)
        for left in last_runs(application):
            if left.job == job and left.cut_off and mark.exists():
                ports.progress.note(f"the last {job_in_words(job)} {CUT_OFF}")
                _settle(application, ports, left)
        descriptor = _hold(mark, began)
    untold = False

    def end(status: int, problem: Optional[str]) -> None:
        nonlocal untold
        wrong_by_hand = job == backup_job(Tier.MANUAL.value) and status == ExitStatus.USAGE
        if descriptor is None or wrong_by_hand:
            return
        try:
            _write(application, Run(job, began, ports.clock.now(), status, problem))
        except (TradekeepError, OSError):
            # On a full disk the mark that stays is the record of a failure.
            untold = status != ExitStatus.DONE

    try:
        yield end
    finally:
        if descriptor is not None:
            if not untold:
                with contextlib.suppress(OSError):
                    mark.unlink()
                    fsync_directory(mark.parent)
            os.close(descriptor)


def _hold(mark: Path, began: datetime) -> Optional[int]:
    """Make the mark, durably, and hold it; None while another run of the job does."""
    descriptor = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    with contextlib.suppress(OSError):  # a full disk, on which an empty mark is one all the same
        os.ftruncate(descriptor, 0)
        write_all(descriptor, json.dumps({"started": iso(began)}).encode("ascii"))
        os.fsync(descriptor)
        fsync_directory(mark.parent)
    return descriptor


def _is_held(mark: Path) -> bool:
    try:
        descriptor = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _settle(application: Application, ports: Ports, run: Run) -> None:
    """A run that was cut off gets its record, and its line in the log of failures; then its mark goes."""
    _write(application, run)
    unit = unit_of(application, run.job) or f"tradekeep-{run.job}"
    line = f"{iso(ports.clock.now())} {unit} was cut off\n"
    log = Path(application.application_state_dir) / FAILURES_LOG
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _mark(application, run.job).unlink(missing_ok=True)


def _write(application: Application, run: Run) -> None:
    content: dict[str, Any] = {
        "job": run.job,
        "started": None if run.started is None else iso(run.started),
        "ended": None if run.ended is None else iso(run.ended),
        "exit_status": run.exit_status,
        "problem": None if run.problem is None else shortened(run.problem, LINE_LIMIT),
    }
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    atomic_write(_record(application, run.job), text.encode("ascii"))


def _read(path: Path, job: str) -> Run:
    """A record or a mark; of one that is damaged, or was written to a full disk, is known when it was made."""
    try:
        content = json.loads(read_small(path, _LARGEST))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return Run(job, _made_at(path), problem="its record cannot be read")
    status, problem = content.get("exit_status"), content.get("problem")
    return Run(
        job,
        parse_iso(content.get("started")) or _made_at(path),
        parse_iso(content.get("ended")),
        status if isinstance(status, int) else None,
        problem if isinstance(problem, str) else None,
    )


def _made_at(path: Path) -> Optional[datetime]:
    try:
        return datetime.fromtimestamp(int(path.lstat().st_mtime), timezone.utc)
    except OSError:
        return None


def _meaning(status: int) -> str:
    with contextlib.suppress(ValueError):
        return ExitStatus(status).in_words
    return "unknown"


def _directory(application: Application) -> Path:
    return Path(application.application_state_dir) / RUNS


def _record(application: Application, job: str) -> Path:
    return _directory(application) / f"{job}.json"


def _mark(application: Application, job: str) -> Path:
    return _directory(application) / f"{job}{RUNNING}"
