# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The exchange of staged content for live data: journalled, by renames, undone from any instant.

prepared -> exchanging -> exchanged -> committed
        \\___________\\____________\\-> undoing -> undone

The transaction's directory ``<state_dir>/transaction`` holds the plan (written and synced once) and the journal. Until
``exchanged`` is on the disk, a crash leads back to the old state; from then on ``recover`` may go forward.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Callable, Optional

from ..errors import InterruptedBySignal, NeedsPersonError, TradekeepError
from ..host.files import fsync_directory, make_private_directory, os_errors, remove_tree
from ..host.filesystem.identity import privileged, with_privileges
from ..ports import Clock, no_fault_point
from .journal import Journal, read_journal
from .lock import held_by_another
from .plan import Replacement, prepare, read_plan, write_plan
from .renames import Directories, exchange_one, take_back
from .stage_directory import remove_stage

Step = Callable[[str], None]
Snapshot = list[dict[str, Any]]
_DIRECTORY = "transaction"
_JOURNAL = "journal.jsonl"
_PLAN = "plan.jsonl"
JOURNAL_PATH = f"{_DIRECTORY}/{_JOURNAL}"
"""Beneath the state directory; there from the beginning of a transaction to its end."""


class State(str, Enum):
    """How far a transaction got, as its journal tells."""

    PREPARED = "prepared"
    EXCHANGING = "exchanging"
    EXCHANGED = "exchanged"
    UNDOING = "undoing"
    UNDONE = "undone"
    COMMITTED = "committed"


@dataclass(frozen=True)
class PendingTransaction:
    """A transaction that did not come to its end."""

    identifier: str
    operation: str
    state: State
    begun: str
    count: int
    stages: tuple[str, ...]
    services: Snapshot = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For records of operations."""
        return {
            "id": self.identifier,
            "operation": self.operation,
            "state": self.state.value,
            "begun": self.begun,
            "replacements": self.count,
            "details": self.details,
        }


class Exchange:
    """A running transaction; made by ``begin`` or, after a crash, by ``resume``."""

    def __init__(
        self, directory: Path, journal: Journal, pending: PendingTransaction, replacements: Sequence[Replacement]
    ) -> None:
        self._directory = directory
        self._journal = journal
        self._replacements = replacements
        self._may_be_exchanged = pending.state is State.EXCHANGED
        self.pending = pending
        self.state = pending.state

    @classmethod
    def begin(
        cls,
        state_dir: Path,
        *,
        operation: str,
        replacements: Sequence[Replacement],
        stages: Sequence[str],
        services: Optional[Snapshot] = None,
        details: Optional[dict[str, Any]] = None,
        clock: Clock,
        step: Step = no_fault_point,
    ) -> Exchange:
        """Check and journal everything; nothing live is touched yet.

        stages: the stage directories, each directly in the top of the tree whose paths it exchanges.
        """
        refuse_pending(state_dir)
        ordered = prepare(replacements)
        directory = Path(state_dir) / _DIRECTORY
        with privileged():
            make_private_directory(state_dir)
        discard_unbegun(state_dir)
        step("prepare")
        begun = PendingTransaction(
            identifier=secrets.token_hex(8),
            operation=operation,
            state=State.PREPARED,
            begun=clock.now().isoformat(),
            count=len(ordered),
            stages=tuple(stages),
            services=list(services or []),
            details=dict(details or {}),
        )
        try:
            with privileged():
                make_private_directory(directory)
            write_plan(directory / _PLAN, ordered)
            step("prepared")
            journal = Journal.create(directory / _JOURNAL)
            journal.append(_first_record(begun))
        except BaseException:
            # Nothing live was touched; what cannot be removed now is removed by the next run.
            with contextlib.suppress(TradekeepError), privileged():
                remove_tree(directory)
            raise
        return cls(directory, journal, begun, ordered)

    @classmethod
    def resume(cls, state_dir: Path) -> Optional[Exchange]:
        """The transaction that a crash left, or None."""
        found = pending(state_dir)
        if found is None:
            return None
        directory = Path(state_dir) / _DIRECTORY
        plan = directory / _PLAN
        # After an undo the plan may be gone, and tells what was given up where it is not.
        ended = found.state is State.COMMITTED or (found.state is State.UNDONE and not _is_there(plan))
        replacements = () if ended else read_plan(plan, found.count)
        return cls(directory, Journal.open(directory / _JOURNAL), found, replacements)

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """What is exchanged, in order."""
        return tuple(self._replacements)

    def apply(self, step: Step = no_fault_point) -> None:
        """Exchange everything and make it durable. On an error the caller calls ``undo``."""
        self._record(State.EXCHANGING, step)
        directories = self._open_directories()
        try:
            # Once for all of them, as the services wait meanwhile.
            with privileged():
                for item in self._replacements:
                    step("exchange")
                    with _located(item.live):
                        exchange_one(item, directories)
            step("sync")
            with os_errors():
                directories.sync()
        finally:
            directories.close()
        self._may_be_exchanged = True
        self._record(State.EXCHANGED, step)

    def undo(self, step: Step = no_fault_point) -> None:
        """Restore the old state, from whatever instant; may be called again after a failure."""
        if self.state is State.UNDONE:
            return
        if self.state is State.COMMITTED:
            raise TradekeepError("is committed and cannot be undone", path=self._directory)
        self._announce_undo(step)
        directories = self._open_directories()
        try:
            with privileged():
                for item in reversed(self._replacements):
                    step("take back")
                    with _located(item.live):
                        take_back(item, directories)
            step("sync")
            with os_errors():
                directories.sync()
        except TradekeepError as error:
            raise self._needs_person(error) from error
        finally:
            directories.close()
        self._record_undone(step)

    def commit(self, step: Step = no_fault_point) -> tuple[str, ...]:
        """The new state stands: record it, then remove what was kept.

        Raises only when it could not be recorded. What could not be removed is returned, for the operation's account:
        it does not make the new state less good, and ``recover`` removes it.
        """
        self.record_commit(step)
        try:
            self.clean(step)
        except TradekeepError as error:
            return (f"not all leftovers could be removed: {error}; tradekeep recover does it",)
        return ()

    def record_commit(self, step: Step = no_fault_point) -> None:
        """From here on the new state stands, whatever happens."""
        if self.state is not State.COMMITTED:
            self._record(State.COMMITTED, step)

    def clean(self, step: Step = no_fault_point) -> tuple[str, ...]:
        """After the end: remove stages and the transaction itself. Returns the stages that were removed."""
        if self.state not in (State.COMMITTED, State.UNDONE):
            raise TradekeepError("is not at its end", path=self._directory)
        step("clean")
        removed = tuple(stage for stage in self.pending.stages if remove_stage(stage))
        step("forget")
        self._journal.close()
        # The journal goes first: with it gone there is no transaction, whatever else is left. No sync is needed,
        # because an ended transaction that comes back after a power loss is only cleaned again.
        with privileged(), os_errors(self._directory):
            for name in (_JOURNAL, _PLAN):
                with contextlib.suppress(FileNotFoundError):
                    (self._directory / name).unlink()
            remove_tree(self._directory)
        return removed

    @with_privileges
    def _open_directories(self) -> Directories:
        return Directories([stage.rpartition("/")[0] for stage in self.pending.stages])

    def _record(self, state: State, step: Step) -> None:
        step(state.value)
        self._journal.append({"state": state.value})
        self.state = state

    def _announce_undo(self, step: Step) -> None:
        """Only an undo on record is finished by ``recover``; without ``exchanged`` it would undo anyway."""
        if self.state is State.UNDOING:
            return
        try:
            self._record(State.UNDOING, step)
        except TradekeepError as error:
            if self._may_be_exchanged:
                raise self._needs_person(error) from error
            self.state = State.UNDOING

    def _record_undone(self, step: Step) -> None:
        """The end must be on record before services run again: their new files are not to be taken for ours.

        Where it cannot be written, removing the plan says the same.
        """
        try:
            self._record(State.UNDONE, step)
        except TradekeepError:
            with privileged(), os_errors(self._directory):
                (self._directory / _PLAN).unlink()
                fsync_directory(self._directory)
            self.state = State.UNDONE

    def _needs_person(self, error: TradekeepError) -> NeedsPersonError:
        return NeedsPersonError(
            f"the old state could not be put back: {error}",
            path=self._directory,
            hint="mend that (free space, remount), keep the services stopped, then run: tradekeep recover",
        )


@with_privileges
def pending(state_dir: Path) -> Optional[PendingTransaction]:
    """The transaction that is begun and not at its end; reads only."""
    directory = Path(state_dir) / _DIRECTORY
    records = read_journal(directory / _JOURNAL)
    if not records:
        return None  # nothing live is touched before the first record is durable
    first = records[0]
    state = State(records[-1]["state"])
    if not (directory / _PLAN).exists() and state is not State.COMMITTED:
        state = State.UNDONE
    return PendingTransaction(
        identifier=first["id"],
        operation=first["operation"],
        state=state,
        begun=first["begun"],
        count=first["count"],
        stages=tuple(first["stages"]),
        services=first["services"],
        details=first["details"],
    )


def discard_unbegun(state_dir: Path) -> bool:
    """Remove what is left of a transaction that never began; returns whether there was such a thing."""
    if pending(state_dir) is not None:
        return False
    with privileged():
        return remove_tree(Path(state_dir) / _DIRECTORY)


@with_privileges
def _is_there(path: Path) -> bool:
    return path.exists()


def refuse_pending(state_dir: Path) -> None:
    """Raises NeedsPersonError when an earlier operation was cut off and the data may be between two states.

    Not while another process is at work on it: who goes on to take the lock waits for that, and asks again.
    """
    found = pending(state_dir)
    if found is not None and not held_by_another(state_dir):
        raise NeedsPersonError(
            f"an earlier operation was cut off ({found.operation} of {found.begun})",
            path=state_dir,
            hint="run: tradekeep recover",
        )


@contextlib.contextmanager
def needs_person_while_pending(state_dir: Path) -> Iterator[None]:
    """A failure that leaves a transaction pending is one for a person, whatever it was; the caller holds the lock."""
    try:
        yield
    except NeedsPersonError:
        raise
    except TradekeepError as error:
        if pending(state_dir) is None:
            raise
        if isinstance(error, InterruptedBySignal):
            raise NeedsPersonError(
                "stopped by a signal before it came to its end", path=state_dir, hint="run: tradekeep recover"
            ) from error
        way_out = f"{error.hint or 'mend that'}, then run: tradekeep recover"
        raise NeedsPersonError(error.message, path=error.path, hint=way_out) from error


def _first_record(begun: PendingTransaction) -> dict[str, Any]:
    return {
        "state": begun.state.value,
        "id": begun.identifier,
        "operation": begun.operation,
        "begun": begun.begun,
        "count": begun.count,
        "stages": list(begun.stages),
        "services": begun.services,
        "details": begun.details,
    }


@contextlib.contextmanager
def _located(path: str) -> Any:
    """An error about a bare name in a directory tells its whole path."""
    with os_errors(path):
        yield
