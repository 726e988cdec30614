# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Fencing a host: nothing of the application runs here, and nothing starts it, until somebody takes the fence down.

Two live copies of one bot trade twice. The fence is a file in the state directory, which deploys, restores and
recoveries look at, and a mask on each unit, which systemd looks at. Backups go on.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ..application import Application, ServiceManager, Services
from ..errors import ExitStatus
from ..host.masking import UNIT_DIR, Masks
from ..host.services import ServiceController, Snapshot
from ..ports import Ports
from ..transaction.exchange import pending, refuse_pending
from ..transaction.fence_file import fence_in_words, read_fence, remove_fence, write_fence
from ..transaction.lock import application_lock
from ..transaction.stopped import forget_stop, note_stop, read_stop
from .controller import services_of
from .outcome import Outcome
from .still_writing import writers_of
from .unit_files import SUPERVISOR, held_back, of_the_system


def fence(
    application: Application,
    ports: Ports,
    *,
    reason: str = "",
    by: str = "",
    dry_run: bool = False,
    unit_dir: Path = UNIT_DIR,
) -> Outcome:
    """Stop the application and keep it from starting, also after a boot. Done again, it only mends what is lacking.

    Status FINDINGS when something still writes the data afterwards: the fence is up, but a bot may be alive.
    """
    state_dir = Path(application.application_state_dir)
    services, masks = services_of(application, ports), Masks(ports.runner, unit_dir)
    if dry_run:
        return _fence_planned(application, services, masks)
    with _lock(application, ports, "fence"):
        standing = read_fence(state_dir)
        up = FenceWork(application, ports, unit_dir).put_up({"reason": reason, "by": by})
    changed = standing is None or bool(up.masked or up.stopped)
    return _fenced(application, services, up.fence, changed=changed, stopped=up.stopped)


def unfence(
    application: Application,
    ports: Ports,
    *,
    start: bool = True,
    migration: Optional[str] = None,
    dry_run: bool = False,
    unit_dir: Path = UNIT_DIR,
) -> Outcome:
    """Take the fence down, and start what ran when it was put up. Without a fence there is nothing to do.

    migration: only where the server is fenced for that migration to another one, of which nothing runs there. Without
    it, what runs there cannot be known here: it is said what to see to first.
    """
    state_dir = Path(application.application_state_dir)
    standing = read_fence(state_dir)
    if standing is None:
        return Outcome(changed=False, record={"fenced": False, "started": []}, lines=("this host is not fenced",))
    if not _is_of(standing, migration):
        record = {"fenced": True, "started": []}
        return Outcome(changed=False, record=record, lines=(f"left alone: {fence_in_words(standing)}",))
    if migration is None:
        for text in _moved_away(application, standing):
            ports.progress.note(text)
    if dry_run:
        return _unfenced(standing, start, dry_run=True)
    with _lock(application, ports, "unfence"):
        refuse_pending(state_dir)
        standing = read_fence(state_dir) or standing
        FenceWork(application, ports, unit_dir).take_down(standing, standing.get("services", []) if start else [])
    return _unfenced(standing, start, dry_run=False)


def _is_of(standing: dict[str, Any], migration: Optional[str]) -> bool:
    """Whether a fence may come down: anyone for a person; for the end of a migration the one that it has put up."""
    return migration is None or (standing.get("migration") or {}).get("id") == migration


def _moved_away(application: Application, standing: dict[str, Any]) -> tuple[str, ...]:
    """What to see to before this host's copy of the application is started."""
    moved = standing.get("migration")
    if not moved:
        return ()
    to, tool = moved.get("to"), f"tradekeep --app {application.name}"
    return (
        f"was moved to {to}; this host cannot know whether it runs there, and two live copies of one bot trade twice",
        f"first run there: {tool} fence, or be sure that {to} is off and stays off",
        f"what was traded there since is there alone; to bring it back as well, run here: {tool} migrate --from",
    )


@dataclass(frozen=True)
class PutUp:
    """What putting a fence up did: what it says now, what was newly masked, and what was stopped for it."""

    fence: dict[str, Any]
    masked: list[str]
    stopped: list[str]


class FenceWork:
    """The fence of one host, put up and taken down step by step. The caller holds the application's lock."""

    def __init__(self, application: Application, ports: Ports, unit_dir: Path = UNIT_DIR) -> None:
        self._application = application
        self._ports = ports
        self._state_dir = Path(application.application_state_dir)
        self.masks = Masks(ports.runner, unit_dir)
        self.services = services_of(application, ports)
        self._wanted: Optional[list[str]] = None

    def prepare(self) -> None:
        """Find out beforehand what is to be masked, so that the bot is down for less."""
        self._wanted = _to_mask(self._application, self.masks)

    def put_up(self, fields: dict[str, Any]) -> PutUp:
        """Fence this host; what an earlier fence says stands.

        fields: what the fence is to say besides. ``provisional`` among them: it comes down by itself when whoever put
        it up is no more, and what ran is started again; see ``operations.handover.fences``.
        """
        found, alive = self.announce(fields)
        newly = self.bring_down(found, alive)
        if newly:
            self.masks.settle()
        # Something may have been started in between; from now on nothing can be.
        self.services.stop(self.services.snapshot())
        if pending(self._state_dir) is None and "provisional" not in found:
            forget_stop(self._state_dir)
        return PutUp(found, newly, [name for entry in alive for name in entry["running"]])

    def announce(self, fields: dict[str, Any]) -> tuple[dict[str, Any], Snapshot]:
        """Write the fence while everything still runs: no deploy and no recovery starts anything from now on.

        Returns the fence, and what runs.
        """
        state_dir, ports = self._state_dir, self._ports
        standing, alive = read_fence(state_dir), self.services.snapshot()
        ran = _what_ran(standing, state_dir, alive)
        wanted = _to_mask(self._application, self.masks) if self._wanted is None else self._wanted
        found: dict[str, Any] = {
            "version": 1,
            "application": self._application.name,
            "host": socket.gethostname(),
            "at": ports.clock.now().isoformat(),
            **fields,
            **(standing or {}),
            "services": ran,
            "masked": sorted({*(standing or {}).get("masked", ()), *wanted}),
        }
        if "provisional" in fields:
            note_stop(state_dir, operation="migrate", snapshot=ran)
        if found != standing:
            ports.step("fence")
            write_fence(state_dir, found)
        return found, alive

    def bring_down(self, fence: dict[str, Any], alive: Snapshot, *, held: bool = False) -> list[str]:
        """Stop what runs and mask it. Returns what was newly masked: then nothing counts before ``masks.settle``.

        held: by ``masks.hold``. Then it counts at once, and after a boot from ``masks.endure`` on.
        """
        self._ports.step("stop")
        self.services.stop_at_once(alive)
        self._ports.step("mask")
        return self.masks.mask_held(fence["masked"]) if held else self.masks.mask(fence["masked"], settle=False)

    def take_down(self, standing: dict[str, Any], snapshot: Snapshot) -> None:
        """Unmask what the fence masked, and start what the snapshot says."""
        state_dir, ports = self._state_dir, self._ports
        ports.step("unmask")
        self.masks.unmask(standing.get("masked", []))
        # Whatever happens from here on, ``recover`` starts what ran.
        note_stop(state_dir, operation="unfence", snapshot=snapshot)
        ports.step("unfence")
        remove_fence(state_dir)
        ports.step("start")
        self.services.start(snapshot)
        self.services.wait_until_steady(snapshot)
        forget_stop(state_dir)


def mend_fence(application: Application, ports: Ports, *, unit_dir: Path = UNIT_DIR) -> list[str]:
    """On a fenced host, mask what was installed since the fence was put up; returns what was masked."""
    standing = read_fence(Path(application.application_state_dir))
    if standing is None or "provisional" in standing or not application.system:
        return []
    masks = Masks(ports.runner, unit_dir)
    late = [name for name in _to_mask(application, masks) if not masks.is_masked(name)]
    if not late:
        return []
    with _lock(application, ports, "fence"):
        if read_fence(Path(application.application_state_dir)) is None:
            return []
        return FenceWork(application, ports, unit_dir).put_up({}).masked


def note_fence(application: Application, ports: Ports) -> bool:
    """Say that this host is fenced, where it is, for operations that go on without starting anything."""
    state_dir = Path(application.application_state_dir)
    if state_dir.is_dir() and not os.access(state_dir, os.R_OK | os.X_OK):
        return False  # who may not look into it cannot start anything either
    found = read_fence(state_dir)
    if found is not None:
        ports.progress.note(f"this host is {fence_in_words(found)}; nothing of {application.name} is started here")
    return found is not None


def _lock(application: Application, ports: Ports, operation: str) -> Any:
    return application_lock(
        Path(application.application_state_dir),
        operation=operation,
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.mention,
    )


def _what_ran(standing: Optional[dict[str, Any]], state_dir: Path, alive: Snapshot) -> Snapshot:
    """What is to run again one day: what an operation that was cut off had stopped counts as running."""
    if standing is not None:
        ran: Snapshot = standing.get("services", [])
        return ran
    return read_stop(state_dir) or alive


def _to_mask(application: Application, masks: Masks) -> list[str]:
    if not application.system:
        return []
    units: list[str] = []
    for item in application.profile.services:
        if item.manager is ServiceManager.SYSTEMD:
            for unit in item.units:
                if "*" not in unit:
                    units += [unit if "." in unit else f"{unit}.service", held_back(unit)]
        elif item.manager is ServiceManager.SUPERVISOR and _is_whole_supervisor(item):
            units.append(SUPERVISOR)
    return masks.maskable(list(dict.fromkeys(units)))


def _is_whole_supervisor(item: Services) -> bool:
    """Whether all of the system's supervisor is the application's: then nobody else is kept from starting."""
    return item.units == ("all",) and of_the_system(item.supervisor_config)


def _loose_ends(application: Application) -> list[str]:
    """What the fence cannot hold back on this host."""
    services = [item for item in application.profile.services if item.units]
    if not application.has_units or not any(item.manager is not ServiceManager.NONE for item in services):
        return ["the profile names no services: the fence cannot stop the bot, see to it yourself"]
    systemd = any(item.manager is ServiceManager.SYSTEMD for item in services)
    ends = []
    for item in services:
        if item.manager is ServiceManager.COMMAND:
            ends.append(f"what starts {item.units[0]} again when this host boots is not known here: see to it yourself")
        if item.manager is ServiceManager.SUPERVISOR:
            held = _is_whole_supervisor(item) if of_the_system(item.supervisor_config) else systemd
            if not held:
                names = ", ".join(item.units)
                ends.append(f"supervisor starts {names} again when this host boots: set autostart=false for it")
        globs = (unit for unit in item.units if "*" in unit)
        ends.extend(f"{unit} stands for several units, which are stopped but not masked" for unit in globs)
    return ends


def _fence_planned(application: Application, services: ServiceController, masks: Masks) -> Outcome:
    standing = read_fence(Path(application.application_state_dir))
    wanted = _to_mask(application, masks)
    running = [name for entry in services.snapshot() for name in entry["running"]]
    lines = [f"would mask {name}" for name in wanted] + [f"would stop {name}" for name in running]
    lines += [f"note: {text}" for text in _loose_ends(application)]
    lines.append("nothing was written" if standing is None else f"already {fence_in_words(standing)}")
    record = {"fenced": standing is not None, "masked": wanted, "stopped": running, "notes": _loose_ends(application)}
    return Outcome(changed=standing is None or bool(wanted or running), record=record, lines=tuple(lines))


def _fenced(
    application: Application, services: ServiceController, found: dict[str, Any], *, changed: bool, stopped: list[str]
) -> Outcome:
    writers = [str(item) for item in writers_of(application, services)]
    notes = _loose_ends(application)
    record = {"fenced": True, **found, "stopped": stopped, "writers": writers, "notes": notes}
    lines = [f"stopped {name}" for name in stopped]
    lines += [f"masked: {name}" for name in found["masked"]]
    lines += [f"note: {text}" for text in notes]
    lines += [f"still alive: {text}" for text in writers]
    lines.append(fence_in_words(found) + "; backups go on; tradekeep unfence takes it down")
    return Outcome(
        changed=changed,
        record=record,
        lines=tuple(lines),
        before={"fenced": not changed},
        after={"fenced": True},
        status=ExitStatus.FINDINGS if writers else ExitStatus.DONE,
    )


def _unfenced(standing: dict[str, Any], start: bool, *, dry_run: bool) -> Outcome:
    started = [name for entry in standing.get("services", []) for name in entry["running"]] if start else []
    would = "would have " if dry_run else ""
    lines = [f"{would}unmasked {name}" for name in standing.get("masked", [])]
    lines += [f"{would}started {name}" for name in started]
    lines.append("nothing was written" if dry_run else "this host is not fenced any more")
    return Outcome(
        changed=True,
        record={"fenced": dry_run, "unmasked": list(standing.get("masked", [])), "started": started},
        lines=tuple(lines),
        before={"fenced": True},
        after={"fenced": False},
    )
