# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whether an application's backups are made: the last good one, what failed last, and what is overdue. Read-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

from ..application import Application
from ..configuration import configured_names, load_application
from ..errors import ExitStatus, TradekeepError
from ..ports import Ports
from ..storage.backup import Backup, iso
from ..storage.choice import is_future, said_of_the_future
from ..storage.local import LocalCatalog
from ..transaction.exchange import refuse_pending
from ..transaction.fence_file import fence_in_words, read_fence
from .due import overdue
from .outcome import Outcome
from .runs import Failure, Run, failures, last_runs, unit_of
from .text import counted, human_seconds
from .user_units import journal_of

_TOGETHER = timedelta(minutes=1)


@dataclass(frozen=True)
class State:
    """What a person wants to know first. problems: what makes the command end with 1, one line each.

    notes: what was passed over.
    """

    last_good: Optional[Backup]
    last_failure: Optional[tuple[datetime, str]]
    problems: tuple[str, ...]
    now: datetime
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> ExitStatus:
        """FINDINGS where somebody has to look."""
        return ExitStatus.FINDINGS if self.problems else ExitStatus.DONE

    @property
    def lines(self) -> tuple[str, ...]:
        """What went wrong, and at the end when it last went wrong and when it last went well."""
        failed, good = self.last_failure, self.last_good
        return (
            *(f"PROBLEM: {text}" for text in self.problems),
            *(f"note: {text}" for text in self.notes),
            "last failure: none" if failed is None else f"last failure: {self._when(failed[0])}: {failed[1]}",
            "last good backup: none" if good is None else f"last good backup: {self._when(good.moment)}: {good.name}",
        )

    def as_dict(self) -> dict[str, Any]:
        """The state as ``--json`` and module results show it."""
        failed, good = self.last_failure, self.last_good
        return {
            "last_good": None if good is None else {"name": good.name, "at": iso(good.moment)},
            "last_failure": None if failed is None else {"at": iso(failed[0]), "what": failed[1]},
            "problems": list(self.problems),
        }

    def _when(self, moment: datetime) -> str:
        return f"{moment:%Y-%m-%d %H:%M} UTC ({age_in_words(moment, self.now)})"


def age_in_words(moment: datetime, now: datetime) -> str:
    """``3 d 4 h ago``."""
    seconds = int((now - moment).total_seconds())
    if seconds < 0:
        return "in the future"
    return f"{human_seconds(seconds - seconds % 60) if seconds >= 60 else human_seconds(seconds)} ago"


def state_of(application: Application, ports: Ports, backups: Sequence[Backup]) -> State:
    """backups: all there are, newest first."""
    now = ports.clock.now()
    usable = [item for item in backups if item.good and not item.is_safety and not is_future(item.moment, now)]
    last_good = usable[0] if usable else None
    runs, all_told = last_runs(application), failures(application)
    # Of those it cannot be seen whether all went well since, and no run would ever settle them.
    told = [item for item in all_told if not is_future(item.moment, now)]
    ahead = {item.unit: item for item in all_told if is_future(item.moment, now)}.values()
    notes = [said_of_the_future(f"{item.unit} {item.what} at {iso(item.moment)}", now) for item in ahead]
    failed = [run for run in runs if run.failed and not _healed(run, last_good)]
    problems = [_problem(application, run) for run in failed]
    problems += [
        _unit_problem(application, item)
        for item in _units_that_failed(application, told, runs, backups, last_good, now)
    ]
    if not any(run.running for run in runs if run.job.startswith("backup")):
        problems += overdue(application, ports, None if last_good is None else last_good.moment)
    problems += [] if last_good is None else map(str, last_good.sidecar.get("expired_keys") or ())
    problems += [str(gone) for gone in (LocalCatalog(application, ports.clock).gone(),) if gone is not None]
    problems += _pending(application)
    return State(last_good, _last_failure(runs, told, now), tuple(problems), now, tuple(notes))


def show_state(application: Application, ports: Ports) -> Outcome:
    """The state of one application."""
    backups = LocalCatalog(application, ports.clock, note=ports.progress.note).list()
    state = state_of(application, ports, backups)
    record = {"application": application.name, "backups": len(backups), **state.as_dict()}
    head = f"{application.name}: {application.root}, {counted(len(backups), 'backup')} in {application.backup_dir}"
    return Outcome(
        changed=False,
        record={"applications": [record]},
        lines=(head, *(f"  {line}" for line in (*_fence(application), *state.lines))),
        status=state.status,
    )


def show_all(ports: Ports, config_dir: str) -> Outcome:
    """The state of each configured application; one that cannot be read is a line among the others."""
    records: list[dict[str, Any]] = []
    lines: list[str] = []
    status = ExitStatus.DONE
    for name in configured_names(config_dir):
        try:
            shown = show_state(load_application(app=name, config_dir=config_dir), ports)
        except TradekeepError as error:
            problem = f"PROBLEM: {error}"
            shown = Outcome(
                changed=False,
                record={"applications": [{"application": name, "problems": [str(error)]}]},
                lines=(f"{name}:", f"  {problem}"),
                status=error.exit_status,
            )
        records += shown.record["applications"]
        lines += shown.lines
        status = max(status, shown.status)
    return Outcome(changed=False, record={"applications": records}, lines=tuple(lines), status=status)


def _healed(run: Run, last_good: Optional[Backup]) -> bool:
    """Whether a good backup was made since a failed one, however it was started."""
    if not run.job.startswith("backup") or last_good is None or run.moment is None:
        return False
    return last_good.moment > run.moment


def _problem(application: Application, run: Run) -> str:
    unit = unit_of(application, run.job)
    at = "" if run.moment is None else f" at {iso(run.moment)}"
    where = "" if unit is None else f"; see: {journal_of(application, unit)}"
    return f"the last run failed{at}: {run.in_words}{where}"


def _unit_problem(application: Application, item: Failure) -> str:
    return f"{item.unit} {item.what} at {iso(item.moment)}; see: {journal_of(application, item.unit)}"


def _units_that_failed(
    application: Application,
    told: Sequence[Failure],
    runs: Sequence[Run],
    backups: Sequence[Backup],
    last_good: Optional[Backup],
    now: datetime,
) -> Iterator[Failure]:
    """The last failure of each unit that no run has recorded: the command could not even be started.

    What is dated in the future does not show that all went well since.
    """

    def past(moment: datetime) -> bool:
        return not is_future(moment, now)

    by_unit = {item.unit: item for item in told}
    jobs = [run for run in runs if run.moment is not None]
    for kind, well in (
        ("backup", [] if last_good is None else [last_good.moment]),
        ("verify", [item.verified_at for item in backups]),
        ("drill", [item.drilled_at for item in backups]),
    ):
        begins = f"tradekeep-{kind}-{application.name}"
        found = [item for unit, item in by_unit.items() if unit.startswith((f"{begins}-", f"{begins}.service"))]
        if not found:
            continue
        last = max(found, key=lambda item: item.moment)
        # The unit of a backup prunes, too: that it was to blame is in its own record.
        mine = [run for run in jobs if run.job.startswith((kind, "prune") if kind == "backup" else kind)]
        since = [run.started or run.moment or last.moment for run in mine]
        known = any(run.failed for run in mine) or any(last.moment <= moment for moment in since if past(moment))
        if not known and not any(moment is not None and past(moment) and moment > last.moment for moment in well):
            yield last


def _last_failure(runs: Sequence[Run], told: Sequence[Failure], now: datetime) -> Optional[tuple[datetime, str]]:
    found = [(item.moment, f"{item.unit} {item.what}") for item in told[-1:]]
    # The unit that systemd starts for a failure writes its line right after the run has recorded more.
    noted = [
        (run.moment + _TOGETHER, run.moment, run.in_words) for run in runs if run.failed and run.moment is not None
    ]
    last = max(noted, key=lambda item: (not is_future(item[1], now), *item), default=None)
    if last is not None and (not found or (last[0] >= found[0][0] and not is_future(last[1], now))):
        return last[1], last[2]
    return found[0] if found else None


def _pending(application: Application) -> Iterator[str]:
    try:
        refuse_pending(Path(application.application_state_dir))
    except TradekeepError as error:
        yield str(error)


def _fence(application: Application) -> Iterator[str]:
    try:
        fence = read_fence(Path(application.application_state_dir))
    except TradekeepError as error:
        yield f"PROBLEM: {error}"
    else:
        if fence is not None:
            yield fence_in_words(fence)
