# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Services that are stopped while a backup is captured, as the profile says by ``stop_for_backup``.

For what nobody can read beside its bot, such as a database that it keeps locked. What is to be stopped is on record
before, so that ``recover`` starts it where the backup itself is killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..application import Application
from ..errors import NeedsPersonError, TradekeepError
from ..host.services import ServiceController, Snapshot
from ..ports import Ports
from ..signals import shielded
from ..transaction.stopped import forget_stop, note_stop

_RECOVER = "mend that, then run: tradekeep recover"


def stops_for_backup(application: Application) -> bool:
    """Whether any service of the application is to be stopped for its backups."""
    return any(item.stop_for_backup for item in application.services)


def would_stop(application: Application, ports: Ports) -> list[str]:
    """What a backup would stop now."""
    return _running(_services(application, ports).snapshot()) if stops_for_backup(application) else []


@contextmanager
def stopped_for_backup(application: Application, ports: Ports) -> Iterator[None]:
    """Stop what runs of them, and start it again whatever becomes of the backup. The caller holds the lock.

    Raises NeedsPersonError where a service does not run again.
    """
    if not stops_for_backup(application):
        yield
        return
    services, state_dir = _services(application, ports), Path(application.application_state_dir)
    snapshot = services.snapshot()
    names = ", ".join(_running(snapshot))
    if not names:
        yield
        return
    note_stop(state_dir, operation="backup", snapshot=snapshot)
    begun = ports.clock.monotonic()
    ports.progress.note(f"stops {names} while the data is captured, as the profile says")
    try:
        ports.step("stop")
        services.stop(snapshot)
        yield
    except BaseException as error:
        with shielded():
            _start(services, snapshot, state_dir, ports, f"{error}; nothing was backed up, but ")
        raise
    with shielded():
        _start(services, snapshot, state_dir, ports, "the backup is made, but ")
    ports.progress.note(f"{names} runs again, after {ports.clock.monotonic() - begun:.1f} s")


def _services(application: Application, ports: Ports) -> ServiceController:
    chosen = [item for item in application.services if item.stop_for_backup]
    return ServiceController(chosen, ports.runner, ports.clock)


def _running(snapshot: Snapshot) -> list[str]:
    return [name for entry in snapshot for name in entry["running"]]


def _start(services: ServiceController, snapshot: Snapshot, state_dir: Path, ports: Ports, state: str) -> None:
    try:
        ports.step("start")
        services.start(snapshot)
    except TradekeepError as error:
        raise NeedsPersonError(
            f"{state}a service does not run again: {error.message}", path=error.path, hint=_RECOVER
        ) from error
    forget_stop(state_dir)
