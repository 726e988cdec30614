# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""After a crash: bring the data to the old or the new state, start what ran, remove what is left over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from ..errors import NeedsPersonError, ServiceError
from ..formatting import counted
from ..host.filesystem.identity import acting_uid
from ..host.services import ServiceController, Snapshot
from ..ports import Clock, Runner, no_fault_point
from ..signals import shielded
from .exchange import Exchange, PendingTransaction, State, discard_unbegun, pending
from .stage import sweep_stages
from .stage_directory import adopt_stage
from .stopped import forget_stop, read_stop

Step = Callable[[str], None]
RefuseWriters = Callable[[PendingTransaction], None]


def _nobody_writes(_transaction: PendingTransaction) -> None:
    """For a caller that has seen to it."""


@dataclass(frozen=True)
class Recovery:
    """What was found and done. data: ``old``, ``new``, or ``untouched`` when no transaction was pending."""

    data: str
    actions: tuple[str, ...] = ()
    transaction: dict[str, Any] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether anything had to be done."""
        return bool(self.actions)


def plan_recovery(state_dir: Path) -> tuple[str, ...]:
    """What ``recover_transaction`` would do, for a dry run; reads only."""
    found = pending(state_dir)
    plan: list[str] = []
    if found is not None:
        plan.append(_intention(found))
    elif read_stop(state_dir):
        plan.append("start the services that were stopped")
    return tuple(plan)


def is_whole(state_dir: Path) -> bool:
    """Whether the data is wholly the old or wholly the new, so that services may run on it; reads only."""
    found = pending(state_dir)
    return found is None or found.state in (State.EXCHANGED, State.COMMITTED, State.UNDONE)


def make_whole(
    state_dir: Path,
    *,
    runner: Runner,
    clock: Clock,
    step: Step = no_fault_point,
    refuse_writers: RefuseWriters = _nobody_writes,
) -> Recovery:
    """Before services start: bring the data to a whole state, and leave the rest to ``recover_transaction``.

    A new state that is wholly in place stays: services may have run on it already, and whether they do can only be
    seen once they are started. The caller holds the lock.
    """
    exchange = Exchange.resume(state_dir)
    if exchange is None:
        return Recovery("untouched")
    record = exchange.pending.as_dict()
    if is_whole(state_dir):
        return Recovery("old" if exchange.state is State.UNDONE else "new", transaction=record)
    step("stop")
    ServiceController((), runner, clock).stop(exchange.pending.services)
    refuse_writers(exchange.pending)
    with shielded():
        exchange.undo(step)
    return Recovery("old", ("put the old state back",), record)


def recover_transaction(
    state_dir: Path,
    *,
    runner: Runner,
    clock: Clock,
    step: Step = no_fault_point,
    before_commit: Optional[Callable[[Exchange], None]] = None,
    given_up: Optional[Callable[[Exchange], None]] = None,
    stands: Optional[Callable[[PendingTransaction], Optional[bool]]] = None,
    may_start: bool = True,
    refuse_writers: RefuseWriters = _nobody_writes,
) -> Recovery:
    """Finish or undo what a crash left; the caller holds the lock. May itself be killed and run again.

    before_commit: called when the new state is kept, while the old one still lies aside. given_up: called when the old
    state is back, while what services wrote on the new one still lies aside. stands: whether a new state
    that is wholly in place was kept by its operation (True) or not (False); None leaves it to the services. may_start:
    False on a fenced host, where what no service has run on goes back, and nothing is started. refuse_writers: called
    with the services stopped, before the old state is put back; raises where something still writes.
    """
    services: ServiceController = ServiceController((), runner, clock) if may_start else _StartsNothing(runner, clock)
    exchange = Exchange.resume(state_dir)
    if exchange is not None:
        for directory in exchange.pending.stages:
            adopt_stage(directory, acting_uid())
    actions: list[str] = []
    data, record = "untouched", {}
    if exchange is not None:
        record = exchange.pending.as_dict()
        kept = stands(exchange.pending) if stands is not None else None
        kept = False if kept is None and not may_start else kept
        data = _bring_to_an_end(exchange, services, actions, step, before_commit, kept, refuse_writers)
        if data == "old" and given_up is not None:
            given_up(exchange)
        exchange.clean(step)
        actions.append("removed the stage and the journal")
    if discard_unbegun(state_dir):
        actions.append("removed a transaction that had not begun")
    _start_stopped(state_dir, services, actions, step)
    for directory in sweep_stages(state_dir):
        actions.append(f"removed {directory}")
    return Recovery(data=data, actions=tuple(actions), transaction=record)


class _StartsNothing(ServiceController):
    """Stops what it is told to; starting is not done, and what was not started is not watched."""

    def __init__(self, runner: Runner, clock: Clock) -> None:
        super().__init__((), runner, clock)

    def start(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def wait_until_steady(self, snapshot: Snapshot, seconds: Optional[float] = None) -> None:
        """Nothing."""


def _bring_to_an_end(
    exchange: Exchange,
    services: ServiceController,
    actions: list[str],
    step: Step,
    before_commit: Optional[Callable[[Exchange], None]],
    kept: Optional[bool],
    refuse_writers: RefuseWriters,
) -> str:
    snapshot = exchange.pending.services
    if exchange.state is State.COMMITTED:
        return "new"
    if exchange.state is State.EXCHANGED and kept:
        exchange.record_commit(step)
        actions.append("kept the new state, which stands")
        return "new"
    if exchange.state is State.EXCHANGED and kept is None and _goes_forward(services, snapshot, actions, step):
        if before_commit is not None:
            before_commit(exchange)
        exchange.record_commit(step)
        actions.append("kept the new state, which was in place")
        return "new"
    if exchange.state is not State.UNDONE:
        step("stop")
        services.stop(snapshot)
        refuse_writers(exchange.pending)
        with shielded():
            exchange.undo(step)
        actions.append("put the old state back")
    _start_on_old(services, snapshot, actions, step)
    return "old"


def _goes_forward(services: ServiceController, snapshot: Snapshot, actions: list[str], step: Step) -> bool:
    """Whether the services run on the new state."""
    try:
        step("start")
        _started(services.start(snapshot), actions)
        services.wait_until_steady(snapshot)
    except ServiceError as error:
        actions.append(f"the services do not run on the new state: {error}")
        return False
    return True


def _start_on_old(services: ServiceController, snapshot: Snapshot, actions: list[str], step: Step) -> None:
    try:
        step("start")
        _started(services.start(snapshot), actions)
        services.wait_until_steady(snapshot)
    except ServiceError as error:
        # The journal stays: recover can be run again once the service is mended.
        raise NeedsPersonError(
            f"the data is as it was, but a service does not run: {error.message}",
            path=error.path,
            hint="mend it, then run: tradekeep recover",
        ) from error


def _start_stopped(state_dir: Path, services: ServiceController, actions: list[str], step: Step) -> None:
    """An operation may die after it stopped the services and before its transaction was on record."""
    snapshot = read_stop(state_dir)
    if snapshot is None:
        return
    _start_on_old(services, snapshot, actions, step)
    forget_stop(state_dir)


def _started(names: tuple[str, ...], actions: list[str]) -> None:
    if names and f"started {', '.join(names)}" not in actions:
        actions.append(f"started {', '.join(names)}")


def _intention(found: PendingTransaction) -> str:
    of = f"{found.operation} of {found.begun}, {counted(found.count, 'replacement')}"
    if found.state is State.COMMITTED:
        return f"keep the new state and clean up ({of})"
    if found.state is State.UNDONE:
        return f"the old state is back; start the services and clean up ({of})"
    if found.state is State.EXCHANGED:
        return f"keep the new state if the services stay up, else put the old one back ({of})"
    return f"put the old state back ({of})"
