# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Migrating: data from elsewhere in the place of this host's, as one transaction.

Everything slow happens before the stop. On any failure before the services have proven themselves on the new data,
and the application's own hooks have agreed, everything goes back.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

from ...application import Application
from ...errors import NeedsPersonError, TradekeepError
from ...host.filesystem.identity import acting_as
from ...host.filesystem.immutable import refuse_locked
from ...host.mounts import device_roots
from ...host.services import Snapshot
from ...ports import Ports
from ...storage.names import MIGRATE_LABEL
from ...transaction.exchange import Exchange, refuse_pending
from ...transaction.fence_file import read_fence
from ...transaction.lock import application_lock
from ...transaction.plan import Replacement
from ...transaction.stage import Stage
from ..basis import note_restored
from ..controller import services_of
from ..deploy.hooks import Hooks
from ..deploy.survey import account_for
from ..exchange_run import Change, run_exchange
from ..fence import note_fence
from ..healthy import health_gate, working_directory
from ..leftovers import sweep_state
from ..live_digest import database_digest
from ..outcome import Outcome
from ..restore_plan import Item, compare, identity
from ..restore_stage import replacements, settle_stage
from ..safety import back_up_as_it_is, keep_given_up, make_safety_backup
from ..scan import check_root
from ..still_writing import refuse_unmanaged_writers, refuse_writers
from ..tree import mend_rights
from .migration_plan import MigrationPlan, holds_of, make_plan
from .migration_record import MigrationRecord
from .migration_run import Run, done_lines, outcome_of, planned, record_of, refused, unchanged
from .origin import Origin
from .origin_archive import open_origin
from .preflight import Situation, preflight


class _Migration:
    """A migration at work: from a plan that nothing stands against to its record. The caller holds the lock."""

    def __init__(self, run: Run, expected: Optional[str]) -> None:
        self._run = run
        self._expected = expected
        self._application = run.application
        self._ports = run.ports
        self._state_dir = Path(run.application.application_state_dir)
        self._record = MigrationRecord(run.application, run.moment, run.identifier)
        self._hooks = Hooks(
            run.application.profile.migrate.hooks,
            application=run.application.name,
            directory=working_directory(run.application),
            account=account_for(run.application),
            logs=self._record.outputs,
            ports=run.ports,
        )
        self._gate = health_gate(run.application, run.ports)
        self._before: dict[str, Any] = {}
        self._details: dict[str, Any] = {"source": run.origin.facts.given}

    def carry_out(self) -> Outcome:
        """Migrate, and keep a record of it whatever becomes of it."""
        run, clock = self._run, self._ports.clock
        begun = clock.monotonic()
        self._record.prepare()
        try:
            self._apply()
        except BaseException as error:
            state = "needs_person" if isinstance(error, NeedsPersonError) else "undone"
            self._record.write(record_of(run, state, error=str(error)))
            raise
        mended = mend_rights(self._application, self._ports, lambda path: True)
        run.times["total"] = round(clock.monotonic() - begun, 3)
        record = record_of(run, "migrated")
        record["record"] = str(self._record.write(record))
        return outcome_of(run, record, changed=True, lines=[*done_lines(run), *(item.describe() for item in mended)])

    def _apply(self) -> None:
        run, clock = self._run, self._ports.clock
        if run.plan.conflicts:
            begun = clock.monotonic()
            self._before = self._identities()
            made = back_up_as_it_is(self._application, self._ports, label=MIGRATE_LABEL)
            run.backup = str(made.path)
            run.times["backup"] = round(clock.monotonic() - begun, 3)
        begun = clock.monotonic()
        with Stage.create(self._state_dir, device_roots(self._application.root)) as stage:
            self._ports.step("stage")
            self._fill(stage, run.plan.changes)
            run.times["staging"] = round(clock.monotonic() - begun, 3)
            self._hook("before_stop")
            self._exchange(stage)

    def _exchange(self, stage: Stage) -> None:
        run, services = self._run, self._run.services
        start: Optional[Snapshot] = services.installed() if run.start else None
        if note_fence(self._application, self._ports):
            start = []
        if start is not None:
            run.started = [name for entry in start for name in entry["running"]]

        def at_rest() -> list[Replacement]:
            self._settle(stage)
            refuse_other_data(run.plan, self._expected, self._application)
            # Read by ``run_exchange`` right after this, with the data still at rest.
            self._details["saved"] = not run.plan.conflicts or self._identities() == self._before
            return replacements(self._application, run.plan.changes, stage, "")

        change = Change(
            operation="migrate",
            in_place="the migrated data is in place",
            replacements=at_rest,
            before_start=lambda: self._hook("before_start"),
            confirm=self._confirm,
            keep=self._keep,
            given_up=self._keep_given_up,
            were_stopped=run.stopped.extend,
            was_down=lambda seconds: run.times.update(downtime=seconds),
            details=self._details,
        )
        run_exchange(
            change,
            state_dir=self._state_dir,
            stage=stage,
            services=services,
            ports=self._ports,
            # Whatever is forced: a second bot would trade beside this one.
            refuse_writers=lambda: refuse_writers(self._application, self._ports, services),
            start=start,
        )

    def _fill(self, stage: Stage, changes: Sequence[Item]) -> None:
        filled = self._run.origin.fill(stage, changes)
        settle_stage(self._application, self._ports, stage, filled)
        written = {item.path: item for item in filled}
        self._run.plan = replace(
            self._run.plan, items=tuple(written.get(item.path, item) for item in self._run.plan.items)
        )

    def _settle(self, stage: Stage) -> None:
        """The services are stopped. What they wrote since the comparison is looked at again."""
        run, application = self._run, self._application
        digest = database_digest(application, self._ports)
        later = {
            item.path: compare(application, item.entry, digest)
            for item in run.plan.items
            if item.entry is not None and identity(application, item.path) != item.identity
        }
        staged = {item.path for item in run.plan.changes}
        known = replace(run.plan, items=tuple(later.get(item.path, item) for item in run.plan.items))
        run.plan = make_plan(application, run.origin, digest, known)
        if run.plan.conflicts and not run.force:
            raise TradekeepError(
                "was written on this host while the migration was prepared",
                path=Path(application.root) / run.plan.conflicts[0].path,
                hint="run again, and see with --dry-run what would be replaced",
            )
        self._fill(stage, [item for item in run.plan.changes if item.path not in staged])

    def _identities(self) -> dict[str, Any]:
        return {item.path: identity(self._application, item.path) for item in self._run.plan.conflicts}

    def _confirm(self) -> None:
        if self._run.services.is_active():
            try:
                self._gate.run(self._ports.clock.now())
            finally:
                self._run.health = [result.as_dict() for result in self._gate.results]
        self._hook("after_start")
        note_restored(self._application, self._ports, self._run.origin.facts.given)

    def _keep(self, exchange: Exchange) -> None:
        """What was replaced is in the backup made before, unless the bot went on writing it until it was stopped."""
        if not self._details["saved"]:
            made = make_safety_backup(self._application, self._ports, exchange, label=MIGRATE_LABEL)
            self._run.safety_backup = str(made.path)

    def _keep_given_up(self, exchange: Exchange) -> None:
        keep_given_up(self._application, self._ports, exchange)

    def _hook(self, step: str) -> None:
        try:
            self._hooks.run(step)
        finally:
            self._run.hooks = [result.as_dict() for result in self._hooks.results]


def migrate(
    application: Application,
    ports: Ports,
    *,
    source: str,
    force: bool = False,
    start: bool = False,
    dry_run: bool = False,
    passphrase_file: Optional[str] = None,
    key_file: Optional[str] = None,
    hooks: bool = True,
    by: str = "",
) -> Outcome:
    """Put the data of a directory or an archive in the place of this host's; see ``migrate_from``.

    key_file: the secret key of an archive to a public one, for this time. Without it the host's own key is tried, and
    the account's keyring.
    hooks: whether the application's hooks run, which a rehearsal must not have talk to anybody.
    """
    if not hooks:
        quiet = replace(application.profile, migrate=replace(application.profile.migrate, hooks=()))
        application = replace(application, profile=quiet)
    opened = partial(open_origin, application, ports, source, passphrase_file=passphrase_file, key_file=key_file)
    return migrate_from(application, ports, opened, force=force, start=start, dry_run=dry_run, by=by)


def migrate_from(
    application: Application,
    ports: Ports,
    opened: Callable[[], AbstractContextManager[Origin]],
    *,
    force: bool = False,
    start: bool = False,
    dry_run: bool = False,
    by: str = "",
    expected: Optional[str] = None,
) -> Outcome:
    """Put the data of any source in the place of this host's.

    Without force, live data that differs from the source's, or that the source does not have, stops it before anything
    is written: status FAILED, each path named. With force such data is backed up and verified first. start: start
    everything that is installed afterwards, not only what ran before. Migrating what is there already does nothing.
    opened: reads the source; called with the lock held. expected: the digest of ``holds_of`` that the source gave for
    itself; anything else is put back before a service starts.
    """
    with acting_as(account_for(application)):
        return _migrate_from(application, ports, opened, force, start, dry_run, by, expected)


def _migrate_from(
    application: Application,
    ports: Ports,
    opened: Callable[[], AbstractContextManager[Origin]],
    force: bool,
    start: bool,
    dry_run: bool,
    by: str,
    expected: Optional[str],
) -> Outcome:
    state_dir = Path(application.application_state_dir)
    check_root(application)
    if dry_run:
        refuse_pending(state_dir)
        with opened() as origin:
            run = _prepare(application, ports, origin, force=force, start=start, by=by)
            if not run.against:
                _refuse_in_the_way(run)
            return planned(run)
    lock = application_lock(
        state_dir, operation="migrate", clock=ports.clock, wait_seconds=600.0, note=ports.progress.mention
    )
    with lock:
        refuse_pending(state_dir)
        sweep_state(application)
        with opened() as origin:
            run = _prepare(application, ports, origin, force=force, start=start, by=by)
            refuse_other_data(run.plan, expected, application)
            if not run.plan.changes and not _waits_for_start(run):
                return unchanged(run)
            if run.against:
                return refused(run)
            _refuse_in_the_way(run)
            return _Migration(run, expected).carry_out()


def _refuse_in_the_way(run: Run) -> None:
    """Raises for what a stop would not end, unless hooks of the application's see to that, and for locked files."""
    refuse_locked(os.path.join(run.application.root, item.path) for item in run.plan.changes)
    if run.plan.changes and not any(hook.at == "before_stop" for hook in run.application.profile.migrate.hooks):
        refuse_unmanaged_writers(run.application, run.ports, run.services)


def refuse_other_data(plan: MigrationPlan, expected: Optional[str], application: Application) -> None:
    """Raises TradekeepError when what would be here is not what the source says that it has."""
    if expected is not None and holds_of(plan.entries)["sha256"] != expected:
        raise TradekeepError(
            "what has arrived is not what the source has",
            path=application.root,
            hint="make sure that nothing writes into the source, and run again",
        )


def _waits_for_start(run: Run) -> bool:
    """Whether the data is here already, and something is to be started that does not run."""
    if not run.start or read_fence(Path(run.application.application_state_dir)) is not None:
        return False
    running = {name for entry in run.services.snapshot() for name in entry["running"]}
    return any(name not in running for entry in run.services.installed() for name in entry["running"])


def _prepare(application: Application, ports: Ports, origin: Origin, *, force: bool, start: bool, by: str) -> Run:
    plan = make_plan(application, origin, database_digest(application, ports))
    services = services_of(application, ports)
    checks = preflight(
        Situation(
            application,
            ports,
            origin,
            plan,
            force=force,
            starts=start or services.is_active(),
            start_wanted=start,
        )
    )
    return Run(
        application, ports, origin, plan, checks, services, force, start, by, ports.clock.now(), secrets.token_hex(8)
    )
