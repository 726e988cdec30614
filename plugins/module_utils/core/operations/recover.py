# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Finishing or undoing what a crash left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional

from ..application import Application
from ..errors import ExitStatus, LockBusyError, ServiceError
from ..host.account import owner_of
from ..host.filesystem.identity import acting_as, with_privileges
from ..host.masking import UNIT_DIR
from ..ports import Ports
from ..storage.local import LocalCatalog
from ..storage.names import MIGRATE_LABEL
from ..transaction.exchange import Exchange, PendingTransaction, needs_person_while_pending
from ..transaction.lock import application_lock
from ..transaction.recovery import Recovery, is_whole, make_whole, plan_recovery, recover_transaction
from .basis import note_restored
from .controller import services_of
from .deploy.records import DeployRecords
from .fence import note_fence
from .handover.fences import may_go_forward, settle_source, settle_target
from .healthy import health_gate
from .leftovers import sweep_state
from .outcome import Outcome
from .safety import keep_given_up, make_safety_backup
from .still_writing import FORCE, FORCED, refuse_writers

_BOOT_WAIT_SECONDS = 600.0
IN_WORDS = {
    "old": "the data is as it was before the operation that was cut off",
    "new": "the operation that was cut off is complete: the data is the new one",
    "untouched": "no operation was cut off in the middle of the data",
}


def recover(
    application: Application,
    ports: Ports,
    *,
    dry_run: bool = False,
    wait_seconds: float = 600.0,
    unit_dir: Path = UNIT_DIR,
    force: bool = False,
) -> Outcome:
    """Bring the data to the old or the new state, whole; start the services that ran; remove what is left over.

    wait_seconds: for another run to end. force: put data back although a process that no service owns writes it.

    Status FINDINGS where the services run again and a health check of the application's fails.
    """
    with acting_as(owner_of(application)):
        return _recover(application, ports, dry_run=dry_run, wait_seconds=wait_seconds, unit_dir=unit_dir, force=force)


def _recover(
    application: Application, ports: Ports, *, dry_run: bool, wait_seconds: float, unit_dir: Path, force: bool
) -> Outcome:
    state_dir = Path(application.application_state_dir)
    if dry_run:
        plan = plan_recovery(state_dir)
        lines = tuple(f"would {action}" for action in plan) or ("nothing to recover",)
        return Outcome(
            changed=bool(plan),
            record={"data": None, "actions": list(plan), "transaction": {}, "health": []},
            lines=lines,
        )
    if not _is_directory(state_dir):
        return Outcome(
            changed=False,
            record={"data": "untouched", "actions": [], "transaction": {}, "health": []},
            lines=("nothing to recover",),
        )
    lock = application_lock(
        state_dir, operation="recover", clock=ports.clock, wait_seconds=wait_seconds, note=ports.progress.mention
    )
    with lock, needs_person_while_pending(state_dir):
        swept = sweep_state(application)
        DeployRecords(application).close_cut_off()
        of_handover = [settle_source(application, ports, unit_dir=unit_dir)]
        recovery = recover_transaction(
            state_dir,
            runner=ports.runner,
            clock=ports.clock,
            step=ports.step,
            before_commit=lambda exchange: _keep_old_state(application, ports, exchange),
            given_up=lambda exchange: _keep_given_up(application, ports, exchange),
            stands=lambda transaction: _stands(application, transaction),
            may_start=not note_fence(application, ports),
            refuse_writers=_refuse_writers(application, ports, force=force),
        )
        of_handover.append(settle_target(application, ports, unit_dir=unit_dir))
        if _is_directory(Path(application.backup_dir)):
            swept += LocalCatalog(application, ports.clock).sweep_leftovers()
    actions = [*filter(None, of_handover), *recovery.actions, *(f"removed {name}" for name in swept)]
    health, unhealthy = _health(application, ports) if recovery.changed else ([], None)
    return Outcome(
        changed=bool(actions),
        record={"data": recovery.data, "actions": actions, "transaction": recovery.transaction, "health": health},
        lines=(*actions, IN_WORDS[recovery.data], *([] if unhealthy is None else [f"not healthy: {unhealthy}"])),
        status=ExitStatus.DONE if unhealthy is None else ExitStatus.FINDINGS,
    )


def _health(application: Application, ports: Ports) -> tuple[list[dict[str, Any]], Optional[str]]:
    """What the health checks say of services that run, and the one that failed. The data stays as it is."""
    services = services_of(application, ports)
    if not application.profile.deploy.health or not services.is_active():
        return [], None
    gate, unhealthy = health_gate(application, ports), None
    try:
        gate.run(ports.clock.now())
    except ServiceError as error:
        unhealthy = str(error)
    return [result.as_dict() for result in gate.results], unhealthy


def _refuse_writers(
    application: Application, ports: Ports, *, force: bool = False
) -> Callable[[PendingTransaction], None]:
    """What went on all the same when it began does so here too."""
    services = services_of(application, ports)

    def refuse(transaction: PendingTransaction) -> None:
        forced = force or bool(transaction.details.get(FORCED))
        refuse_writers(application, ports, services, force=forced, way_out=FORCE)

    return refuse


def make_whole_at_boot(application: Application, ports: Ports) -> Outcome:
    """Before the services start: make the data whole, start nothing, leave the end of the transaction to ``recover``.

    A restore that is at work is let finish. It may itself be what starts the services, once the data is whole.
    """
    with acting_as(owner_of(application)):
        return _make_whole_at_boot(application, ports)


@with_privileges
def _is_directory(path: Path) -> bool:
    return path.is_dir()


def _make_whole_at_boot(application: Application, ports: Ports) -> Outcome:
    state_dir = Path(application.application_state_dir)
    deadline = ports.clock.monotonic() + _BOOT_WAIT_SECONDS
    recovery = Recovery("untouched")
    while not is_whole(state_dir):
        try:
            lock = application_lock(state_dir, operation="recover", clock=ports.clock)
            with lock, needs_person_while_pending(state_dir):
                recovery = make_whole(
                    state_dir,
                    runner=ports.runner,
                    clock=ports.clock,
                    step=ports.step,
                    refuse_writers=_refuse_writers(application, ports),
                )
        except LockBusyError:
            if ports.clock.monotonic() >= deadline:
                raise
            ports.clock.sleep(0.5)
    return Outcome(
        changed=recovery.changed,
        record={"data": recovery.data, "actions": list(recovery.actions), "transaction": recovery.transaction},
        lines=(*recovery.actions, "the data is whole; services may start"),
    )


def _stands(application: Application, transaction: PendingTransaction) -> Optional[bool]:
    """A deploy says itself when its code stands; until then it was not judged, and is undone.

    Data from another server stands where that server has let go of it.
    """
    if transaction.details.get("handover"):
        return may_go_forward(application, transaction.details["handover"])
    if transaction.operation != "deploy":
        return None
    standing = DeployRecords(application).standing()
    return standing is not None and standing.identifier == transaction.details.get("deploy_id")


def _keep_old_state(application: Application, ports: Ports, exchange: Exchange) -> None:
    details = exchange.pending.details
    if exchange.pending.operation == "restore":
        note_restored(application, ports, str(details.get("backup", "")), details.get("touched"))
        make_safety_backup(application, ports, exchange)
    if exchange.pending.operation == "migrate":
        note_restored(application, ports, str(details.get("source", "")))
        if not details.get("saved"):
            make_safety_backup(application, ports, exchange, label=MIGRATE_LABEL)


def _keep_given_up(application: Application, ports: Ports, exchange: Exchange) -> None:
    if exchange.pending.operation in ("restore", "migrate"):
        keep_given_up(application, ports, exchange)
