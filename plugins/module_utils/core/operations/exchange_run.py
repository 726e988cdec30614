# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The exchange of live data for staged data around a stop of the services: what a restore and its like have in common.

Stop, exchange by rename, start, watch, confirm; on any failure until then everything goes back. After that the new
state stands: what it replaced is kept, and the transaction committed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Generic, Optional, TypeVar

from ..errors import InterruptedBySignal, NeedsPersonError, TradekeepError
from ..host.files import os_errors
from ..host.services import ServiceController, Snapshot
from ..ports import Ports
from ..signals import shielded
from ..transaction.exchange import Exchange, needs_person_while_pending
from ..transaction.plan import Replacement
from ..transaction.stage import Stage
from ..transaction.stopped import forget_stop, note_stop

Kept = TypeVar("Kept")


def _nothing() -> None:
    """What an operation without a wish of its own does at a step."""


def _forgotten(_exchange: Exchange) -> None:
    """For an operation whose new state nobody writes to."""


def _unheard(_told: Any) -> None:
    """For an operation that tells nobody."""


@dataclass(frozen=True)
class Change(Generic[Kept]):
    """What one operation exchanges.

    operation: its name in the journal; ``recover`` acts by it. in_place: how a message says that the new state stands.
    replacements: called once the services are stopped, so with the data at rest.
    before_start: called on the new state before the services start; raises to have all of it put back.
    confirm: called when the services have been up for long enough on the new state; raises as well.
    keep: called when the new state stands, to keep what it replaced; raises NeedsPersonError where it cannot.
    put_back: called when the services run on the old state again; raises where they do not do what they should.
    given_up: called after that when they have run on the new state, to keep what they wrote there.
    after_stop: called when the services are stopped, before it is looked whether anything still writes.
    were_stopped: told which services ran and were stopped, once they are.
    was_down: told for how many seconds the services were stopped, each time that they were: a second time where
        everything is put back after the new state has run.
    what: what messages call the thing that is exchanged. details: JSON for the journal, for ``recover``.
    """

    operation: str
    in_place: str
    replacements: Callable[[], Sequence[Replacement]]
    confirm: Callable[[], None]
    keep: Callable[[Exchange], Kept]
    before_start: Callable[[], None] = _nothing
    put_back: Callable[[], None] = _nothing
    given_up: Callable[[Exchange], None] = _forgotten
    after_stop: Callable[[], None] = _nothing
    were_stopped: Callable[[Sequence[str]], None] = _unheard
    was_down: Callable[[float], None] = _unheard
    what: str = "data"
    details: Mapping[str, Any] = field(default_factory=dict)


def run_exchange(
    change: Change[Kept],
    *,
    state_dir: Path,
    stage: Stage,
    services: ServiceController,
    ports: Ports,
    refuse_writers: Callable[[], None],
    start: Optional[Snapshot] = None,
) -> Kept:
    """Carry a change out; the caller holds the lock and has filled the stage. Puts everything back on failure.

    Returns what ``change.keep`` did. refuse_writers: called before anything is exchanged; raises where a process that
    the services do not own still writes (``still_writing.py``). start: what to start on the new state; None starts what
    ran before.
    """
    snapshot = services.snapshot()
    note_stop(state_dir, operation=change.operation, snapshot=snapshot)
    stopped_at = ports.clock.monotonic()
    down_since: Optional[float] = stopped_at
    exchange: Optional[Exchange] = None
    ran = False
    try:
        ports.step("stop")
        services.stop(snapshot)
        change.were_stopped([name for entry in snapshot for name in entry["running"]])
        change.after_stop()
        refuse_writers()
        exchange = Exchange.begin(
            state_dir,
            operation=change.operation,
            replacements=change.replacements(),
            stages=stage.directories,
            services=snapshot,
            details=dict(change.details),
            clock=ports.clock,
            step=ports.step,
        )
        exchange.apply(ports.step)
        change.before_start()
        ports.step("start")
        ran = True
        services.start(snapshot if start is None else start)
        change.was_down(round(ports.clock.monotonic() - stopped_at, 3))
        down_since = None
        services.wait_until_steady(snapshot if start is None else start)
        change.confirm()
    except BaseException as error:
        with shielded():
            again = ports.clock.monotonic() if down_since is None else down_since
            _put_back(change, services, snapshot, exchange, error, ports, again, ran)
            forget_stop(state_dir)
        raise
    with needs_person_while_pending(state_dir):
        return _finish(change, exchange, state_dir, ports)


def _finish(change: Change[Kept], exchange: Exchange, state_dir: Path, ports: Ports) -> Kept:
    """The new state runs: keep the old one, and commit. Nothing is undone from here on."""
    try:
        forget_stop(state_dir)
        with os_errors():
            kept = change.keep(exchange)
    except InterruptedBySignal as error:
        raise NeedsPersonError(
            f"stopped by a signal; {change.in_place} and what it replaced still lies aside",
            path=state_dir,
            hint="run: tradekeep recover",
        ) from error
    try:
        with contextlib.suppress(InterruptedBySignal), shielded():
            # Short, and too late to stop: the signal would make a change that is complete say that it was undone.
            for left in exchange.commit(ports.step):
                ports.progress.note(left)
    except TradekeepError as error:
        raise NeedsPersonError(
            f"{change.in_place}, but that could not be recorded: {error}",
            path=state_dir,
            hint="mend that, then run: tradekeep recover",
        ) from error
    return kept


def _put_back(
    change: Change[Any],
    services: ServiceController,
    snapshot: Snapshot,
    exchange: Optional[Exchange],
    error: BaseException,
    ports: Ports,
    down_since: float,
    ran: bool,
) -> None:
    """Raises NeedsPersonError, which says what failed first, where anything is not as it was before."""
    ports.progress.note(f"failed, putting everything back: {error}")
    if exchange is not None:
        with _for_a_person(error, f"the old {change.what} could not be put back"):
            services.stop(snapshot)
            exchange.undo(ports.step)
    not_running: Optional[NeedsPersonError] = None
    try:
        with _for_a_person(error, f"the {change.what} is as it was, but a service does not run"):
            services.start(snapshot)
            change.was_down(round(ports.clock.monotonic() - down_since, 3))
            services.wait_until_steady(snapshot)
            change.put_back()
    except NeedsPersonError as found:
        not_running = found  # what is left to do, it does not hinder
    if exchange is not None:
        first = not_running or error
        if ran:
            with _for_a_person(first, f"the {change.what} is as it was"):
                change.given_up(exchange)
        with _for_a_person(first, f"the {change.what} is as it was, but the transaction could not be ended"):
            exchange.clean(ports.step)
    if not_running is not None:
        raise not_running


@contextlib.contextmanager
def _for_a_person(first: BaseException, state: str) -> Iterator[None]:
    try:
        yield
    except TradekeepError as error:
        raise NeedsPersonError(
            f"{first}; {state}: {error.message}",
            path=error.path,
            hint=error.hint if isinstance(error, NeedsPersonError) else "mend that, then run: tradekeep recover",
        ) from first
