# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Taking an application over from another server, so that it never runs on both.

Everything slow happens while it still runs there. Then the source stops it, sends what has changed since, both compare
what they hold, the data is exchanged here, the source lets go for good, and only then this server may start it. Until
the source has let go it goes on by itself when anything fails; afterwards this server gives it back.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Optional

from ...application import Application
from ...errors import NeedsPersonError, SpaceError, TradekeepError
from ...faults import foreseen
from ...host.filesystem.identity import acting_as
from ...host.masking import UNIT_DIR
from ...host.mounts import device_roots
from ...host.services import Snapshot
from ...ports import Ports
from ...signals import shielded
from ...storage.names import MIGRATE_LABEL
from ...transaction.exchange import pending, refuse_pending
from ...transaction.fence_file import remove_fence
from ...transaction.lock import application_lock
from ...transaction.plan import Replacement
from ...transaction.stage import Stage
from ...transaction.stopped import note_stop
from ..basis import note_restored
from ..deploy.hooks import Hooks
from ..deploy.survey import account_for
from ..exchange_run import Change, run_exchange
from ..healthy import health_gate, working_directory
from ..leftovers import sweep_state
from ..live_digest import database_digest
from ..migrate.migration_plan import make_plan
from ..migrate.migration_record import MigrationRecord
from ..migrate.migration_run import Run, refused
from ..migrate.preflight import Situation, preflight
from ..outcome import Outcome
from ..restore_stage import replacements
from ..safety import back_up_as_it_is, keep_given_up
from ..scan import check_root
from ..still_writing import refuse_writers
from ..tree import mend_rights
from .account import Account
from .agreeing import (
    Arrived,
    arrived_from,
    compare_holds,
    is_complete,
    more_checks,
    was_complete,
    what_to_start,
)
from .channel import number_of
from .fences import abandon, raise_provisional, refuse_running
from .laps import Laps
from .laying import Laying
from .link import Link
from .note import ASKED, BEGUN, COMPLETE, GRANTED, RETURNING, mark, read_note, write_note
from .receiving import Receiving, Round
from .remote_end import RemoteEnd
from .starting import TargetServices

_LONG_ROUND_SECONDS = 30.0
PATIENCE_SECONDS = 300.0


def take_over(
    application: Application,
    ports: Ports,
    link: Link,
    *,
    force: bool = False,
    by: str = "",
    patience_seconds: float = PATIENCE_SECONDS,
    unit_dir: Path = UNIT_DIR,
) -> Outcome:
    """Move the application from the server at the other end of the link to this one, and run it here.

    Taking over what has been taken over does nothing. What stands against it is found before anything is stopped:
    status FAILED, and the source has not noticed. patience_seconds: how long a source that cannot be reached is asked
    whether it has let go.
    """
    state_dir = Path(application.application_state_dir)
    lock = application_lock(
        state_dir, operation="migrate", clock=ports.clock, wait_seconds=600.0, note=ports.progress.mention
    )
    with acting_as(account_for(application)), contextlib.ExitStack() as stack:
        check_root(application)
        stack.enter_context(lock)
        refuse_pending(state_dir)
        sweep_state(application)
        identifier = secrets.token_hex(8)
        with RemoteEnd(link, application, ports, identifier, patience_seconds) as source:
            if is_complete(state_dir, source.facts):
                return was_complete(application, source.facts)
            refuse_running(application, ports)
            return _Taking(application, ports, link, source, identifier, force, by, unit_dir).carry_out()


class _Taking:
    """One takeover at work; the caller holds the lock."""

    def __init__(
        self,
        application: Application,
        ports: Ports,
        link: Link,
        source: RemoteEnd,
        identifier: str,
        force: bool,
        by: str,
        unit_dir: Path,
    ) -> None:
        self._application = application
        self._ports = ports
        self._link = link
        self._source = source
        self._identifier = identifier
        self._force = force
        self._by = by
        self._unit_dir = unit_dir
        self._state_dir = Path(application.application_state_dir)
        self._moment = ports.clock.now()
        self._receiving = Receiving(application, ports)
        self._laying = Laying(application, ports, self._receiving, force=force)
        self._services = TargetServices(application, ports, identifier, unit_dir=unit_dir)
        self._record = MigrationRecord(application, self._moment, identifier)
        self._laps = Laps(ports.clock)
        self._account = Account(link, source, self._laps, identifier, self._moment)
        self._start: Snapshot = []
        self._missing: list[str] = []
        self._stopped_at = self._exchanging_since = 0.0
        self._starting_since: Optional[float] = None
        self._stands = False
        self._run: Optional[Run] = None
        self._hooks = Hooks(
            application.profile.migrate.hooks,
            application=application.name,
            directory=working_directory(application),
            account=account_for(application),
            logs=self._record.outputs,
            ports=ports,
        )
        self._gate = health_gate(application, ports)

    def carry_out(self) -> Outcome:
        """Take over, and keep a record of it whatever becomes of it."""
        begun = self._laps.begin()
        self._record.prepare()
        self._note(BEGUN)
        try:
            self._start, self._missing = what_to_start(self._application, self._ports, self._source.facts)
            raise_provisional(
                self._application, self._ports, self._identifier, self._link.name, unit_dir=self._unit_dir
            )
            outcome = self._take()
        except BaseException as error:
            with shielded():
                self._give_up(error)
            raise
        finally:
            self._laying.close()
            self._receiving.close()
        self._laps.end("total", begun)
        if outcome is not None:
            return outcome
        mended = mend_rights(self._application, self._ports, lambda path: True)
        return self._account.completed(self._the_run(), self._record, [item.describe() for item in mended])

    def _take(self) -> Optional[Outcome]:
        """None when it is done, else what stands against it."""
        self._pre_copy()
        run = self._run = self._plan()
        if run.against:
            outcome = refused(run)
            with shielded():
                self._give_up(None)
            return outcome
        if run.plan.conflicts:
            with self._laps.timed("backup"):
                made = back_up_as_it_is(self._application, self._ports, label=MIGRATE_LABEL)
                run.backup = str(made.path)
        with Stage.create(self._state_dir, device_roots(self._application.root)) as stage:
            try:
                with self._laps.timed("staging"):
                    self._ports.step("stage")
                    self._laying.fill(stage, run)
                self._hook("before_stop")
                self._laying.refuse_touched(run)
                self._services.prepare(self._start)
                self._source.ask({"do": "prepare", "id": self._identifier}, "prepared")
                self._exchange(stage)
                self._stands = True
            except BaseException:
                self._receiving.take_back()
                raise
        self._ports.step("unmask")
        self._services.stay()
        mark(self._state_dir, self._identifier, COMPLETE)
        remove_fence(self._state_dir)
        self._receiving.remove()
        return None

    # While the application runs on the source

    def _pre_copy(self) -> None:
        facts, receiving = self._source.facts, self._receiving
        receiving.check_space(number_of(facts, "bytes"), number_of(facts, "files"))
        with self._laps.timed("offering"):
            receiving.offer(self._source.channel)
        number = 1
        while True:
            begun = self._laps.begin()
            self._ports.step("pre-copy")
            self._ports.progress.start(f"copying from {self._link.name}", facts.get("bytes"))
            self._source.say({"do": "round"})
            done = receiving.receive(self._source.channel, "round")
            self._ports.progress.finish()
            took = self._laps.end(f"pre-copy {number}", begun)
            self._laps.bytes[f"pre-copy {number}"] = done.bytes
            # What has changed during a long round is brought before the stop as well.
            if took < _LONG_ROUND_SECONDS or number == 2:
                return
            number += 1

    def _plan(self) -> Run:
        application, ports = self._application, self._ports
        with self._laps.timed("checking"):
            self._receiving.with_facts(self._laying.describe)
            origin = arrived_from(self._link.name, self._source.facts, self._receiving)
            plan = make_plan(application, origin, database_digest(application, ports))
            situation = Situation(application, ports, origin, plan, force=self._force, starts=False, start_wanted=False)
            checks = (
                *preflight(situation),
                *more_checks(application, ports, self._source.facts, self._start, self._missing),
            )
        return Run(
            application,
            ports,
            origin,
            plan,
            checks,
            self._services,
            self._force,
            True,
            self._by,
            self._moment,
            self._identifier,
            times=self._laps.seconds,
        )

    # While it runs nowhere

    def _exchange(self, stage: Stage) -> None:
        run = self._the_run()
        run.started = [name for entry in self._start for name in entry["running"]]
        # There, which is where they ran.
        run.stopped = list(run.started)
        change = Change(
            operation="migrate",
            in_place="the migrated data is in place",
            replacements=lambda: self._at_rest(stage),
            before_start=self._before_start,
            confirm=self._confirm,
            keep=lambda exchange: None,
            given_up=lambda exchange: keep_given_up(self._application, self._ports, exchange),
            put_back=self._put_back,
            was_down=self._was_down,
            details={"handover": self._identifier, "source": self._link.name, "saved": True},
        )
        run_exchange(
            change,
            state_dir=self._state_dir,
            stage=stage,
            services=self._services,
            ports=self._ports,
            # Before the other server is asked to stop anything.
            refuse_writers=lambda: refuse_writers(self._application, self._ports, self._services),
            start=self._start,
        )

    def _almost_at_rest(self) -> Round:
        """What takes long to write or to compare, brought in the last moments; some of it is written on meanwhile."""
        self._ports.step("nearly")
        with self._laps.timed("last round"):
            self._source.say({"do": "nearly"})
            done = self._receiving.receive(self._source.channel, "round")
            self._laying.sync(done)
        self._laps.bytes["last round"] = done.bytes
        return done

    def _at_rest(self, stage: Stage) -> list[Replacement]:
        run, receiving, source = self._the_run(), self._receiving, self._source
        nearly = self._almost_at_rest()
        self._stopped_at = self._laps.begin()
        self._ports.step("ask to stop")
        with self._laps.timed("stop"):
            # All at once: the source goes from one to the next without waiting for us.
            for wanted in ("stop", "final", "holds"):
                source.say({"do": wanted})
            source.hear("stopped")
        self._ports.step("final")
        with self._laps.timed("final difference"):
            done = receiving.receive(source.channel, "round")
            self._laps.bytes["final difference"] = done.bytes
        with self._laps.timed("settling"):
            self._laying.settle(run, stage, nearly.then(done))
        self._exchanging_since = self._laps.begin()
        return replacements(self._application, run.plan.changes, stage, "")

    def _before_start(self) -> None:
        """All of it can still be taken back: the exchange is what both had time to count beside."""
        self._laps.end("exchange", self._exchanging_since)
        with self._laps.timed("verification"):
            self._laying.know_rows(self._the_run())
            self._account.holds = compare_holds(self._source.channel, self._receiving)
            self._ports.step("verified")
        self._hook("before_start")
        with self._laps.timed("letting go"):
            self._note(ASKED)
            self._ports.step("ask to let go")
            self._account.source_seconds = self._source.let_go()
            self._ports.step("let go")
            self._note(GRANTED)
            # Whatever happens from here on, a recovery starts it here.
            note_stop(self._state_dir, operation="migrate", snapshot=self._start)
        with self._laps.timed("unmasking"):
            self._services.allow()
        self._starting_since = self._laps.begin()

    def _was_down(self, _seconds: float) -> None:
        if self._starting_since is not None and "start" not in self._laps.seconds:
            self._laps.end("start", self._starting_since)
        self._laps.end("downtime", self._stopped_at)

    def _confirm(self) -> None:
        run = self._the_run()
        if any(entry["running"] for entry in self._start):
            with self._laps.timed("health"):
                try:
                    self._gate.run(self._ports.clock.now())
                finally:
                    run.health = [result.as_dict() for result in self._gate.results]
        self._hook("after_start")
        note_restored(self._application, self._ports, self._link.name)

    def _hook(self, step: str) -> None:
        try:
            self._hooks.run(step)
        finally:
            self._the_run().hooks = [result.as_dict() for result in self._hooks.results]

    # When it fails

    def _put_back(self) -> None:
        """The old data is back here and nothing runs. What the source may have let go of it gets back."""
        note = read_note(self._state_dir)
        # Without a note: it went when the disk was full, on the way back.
        if note is not None and note.get("state") not in (ASKED, RETURNING):
            return
        self._services.forbid()
        self._ports.step("give back")
        self._source.give_back()

    def _give_up(self, error: Optional[BaseException]) -> None:
        """This server becomes what it was. Where a transaction is pending, that is for a recovery."""
        if not self._stands and pending(self._state_dir) is None:
            with contextlib.suppress(TradekeepError):
                self._source.release()
            if error is not None and isinstance(foreseen(error), SpaceError):
                self._receiving.remove()  # to everybody on this server the room is worth more than the next attempt
            abandon(self._application, self._ports, self._identifier, unit_dir=self._unit_dir)
        if error is not None and not self._stands:
            state = "needs_person" if isinstance(error, NeedsPersonError) else "undone"
            with contextlib.suppress(TradekeepError):
                self._record.write(self._account.recorded(self._run, state, str(error)))

    # Keeping account

    def _note(self, state: str) -> None:
        write_note(
            self._state_dir,
            {
                "id": self._identifier,
                "state": state,
                "from": self._link.name,
                "at": self._moment.isoformat(),
                "start": self._start,
            },
        )

    def _the_run(self) -> Run:
        if self._run is None:
            raise TradekeepError("has no plan yet", path=self._application.root)
        return self._run


__all__ = ["Arrived", "take_over"]
