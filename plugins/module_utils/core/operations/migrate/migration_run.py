# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""One migration as it is told: its plan, what stands against it, and its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

from ...application import Application
from ...errors import ExitStatus
from ...host.services import ServiceController
from ...ports import Ports
from ..outcome import Outcome
from ..restore_plan import Item
from ..text import counted, first_lines, human_bytes, stopped_for
from .migration_plan import MigrationPlan, holds_of, word_for
from .origin import Origin
from .preflight import FAILED, OK, Check

_SHOWN = 200
"""A plan for people names so many paths of each sort; the record names all."""
_CONFLICTS = {"replace": "differs on this host", "remove": "is on this host only"}


@dataclass
class Run:
    """What one migration has at hand, and what it has done so far."""

    application: Application
    ports: Ports
    origin: Origin
    plan: MigrationPlan
    checks: tuple[Check, ...]
    services: ServiceController
    force: bool
    start: bool
    by: str
    moment: datetime
    identifier: str
    times: dict[str, float] = field(default_factory=dict)
    backup: Optional[str] = None
    safety_backup: Optional[str] = None
    hooks: list[dict[str, Any]] = field(default_factory=list)
    health: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)

    @property
    def against(self) -> list[str]:
        """What stands against it, in words."""
        found = [f"{check.name}: {check.detail}" for check in self.checks if self._stops(check)]
        if not self.force:
            found += [f"{item.path}: refused, {item.why}" for item in self.plan.refused]
            found += [f"{item.path}: {_CONFLICTS[item.action]}" for item in self.plan.conflicts]
        return found

    def _stops(self, check: Check) -> bool:
        return check.state == FAILED and not (check.forceable and self.force)


def planned(run: Run) -> Outcome:
    """What would be done; nothing was written."""
    if not run.plan.changes:
        return unchanged(run)
    if run.against:
        return refused(run)
    lines = [*_plan_lines(run), f"{_counts(run)}; nothing was written"]
    return outcome_of(run, record_of(run, "planned"), changed=True, lines=lines)


def refused(run: Run) -> Outcome:
    """What stands against it; nothing was written."""
    against = run.against
    way_out = "" if run.force else "; see what --force would replace, or mend it"
    lines = [
        # First: of a module's failure the first lines are its message.
        *_shown([f"against it: {text}" for text in against]),
        *_plan_lines(run),
        f"refused: {counted(len(against), 'thing stands', 'things stand')} against it; nothing was written{way_out}",
    ]
    record = record_of(run, "refused")
    return outcome_of(run, record, changed=False, lines=lines, status=ExitStatus.FAILED)


def unchanged(run: Run) -> Outcome:
    """Everything is there already."""
    lines = [*_left_lines(run), f"everything is as {run.origin.facts.given} has it; nothing was done"]
    return outcome_of(run, record_of(run, "unchanged"), changed=False, lines=lines)


def done_lines(run: Run) -> Iterator[str]:
    """The account of a migration that stands."""
    yield from _plan_lines(run)
    if run.backup:
        yield f"backed up before: {run.backup}"
    if run.safety_backup:
        yield f"and what was written after that: {run.safety_backup}"
    yield (
        f"migrated {len(run.plan.changes)} from {run.origin.facts.given}; "
        f"{stopped_for(run.stopped, run.times.get('downtime', 0.0))}"
    )


def outcome_of(
    run: Run, record: dict[str, Any], *, changed: bool, lines: Sequence[str], status: ExitStatus = ExitStatus.DONE
) -> Outcome:
    """The outcome of one state."""
    return Outcome(
        changed=changed,
        record=record,
        lines=tuple(lines),
        before={item.path: item.before or "absent" for item in run.plan.changes},
        after={item.path: item.after or "absent" for item in run.plan.changes},
        status=status,
    )


def record_of(run: Run, state: str, *, error: Optional[str] = None) -> dict[str, Any]:
    """The record, of the same shape in every state."""
    return {
        "state": state,
        "id": run.identifier,
        "at": run.moment.isoformat(),
        "by": run.by,
        "application": run.application.name,
        "source": run.origin.facts.as_dict(),
        "forced": run.force,
        "preflight": [check.as_dict() for check in run.checks],
        "against": run.against if state in ("refused", "planned") else [],
        "plan": run.plan.as_dict(),
        "changes": [
            {"path": item.path, "action": word_for(item), "before": item.before, "after": item.after}
            for item in run.plan.changes
        ],
        "holds": holds_of(run.plan.entries) if state in ("migrated", "unchanged") else None,
        "backup": run.backup,
        "safety_backup": run.safety_backup,
        "started": run.started,
        "hooks": run.hooks,
        "health": run.health,
        "seconds": run.times,
        "error": error,
        "record": None,
    }


def _plan_lines(run: Run) -> Iterator[str]:
    signs = {FAILED: "FAILED", OK: "ok"}
    for check in run.checks:
        yield f"{signs.get(check.state, '-'):<6}  {check.name}: {check.detail}"
    for action in ("new", "replace", "remove"):
        items = [item for item in run.plan.changes if item.action == action]
        yield from _shown([item.describe() + _untouched(run, item) for item in items])
    yield from _left_lines(run)


def _untouched(run: Run, item: Item) -> str:
    return "  (as the template has it)" if item.path in run.plan.pristine and item.action != "new" else ""


def _left_lines(run: Run) -> Iterator[str]:
    yield from _shown([f"! {item.path}  refused: {item.why}" for item in run.plan.refused])
    yield from _shown([f"? {path}  left: in no component of the profile" for path in run.plan.held.left])


def _shown(lines: list[str]) -> Iterator[str]:
    yield from first_lines(lines, _SHOWN, "see --json")


def _counts(run: Run) -> str:
    changes = run.plan.changes
    size = human_bytes(sum(item.entry.size for item in changes if item.entry is not None))
    count = {action: sum(1 for item in changes if item.action == action) for action in ("new", "replace", "remove")}
    return (
        f"{count['new']} new, {count['replace']} differ, {count['remove']} only here, "
        f"{len(run.plan.items) - len(changes)} the same, {size} to bring"
    )
