# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The application's processes: what runs, stop it, start exactly that again, see that it stays up.

A snapshot holds all that starting again needs, as JSON: it goes into the journal, and ``recover`` needs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable, Optional, Union

from ..application import ServiceManager, Services
from ..errors import ServiceError
from ..ports import Clock, Runner
from .commanded import Commanded, Commands
from .supervisor import Supervisor
from .systemd import Systemd

Snapshot = list[dict[str, Any]]
Identity = tuple[str, ...]
"""What changes when a service is restarted behind our back; of a unit, the last one names the invocation."""
Manager = Union[Systemd, Supervisor, Commanded]
_POLL_SECONDS = 1.0


class ServiceController:
    """All services of an application, whoever runs them."""

    def __init__(self, services: Sequence[Services], runner: Runner, clock: Clock) -> None:
        self._services = tuple(item for item in services if item.manager is not ServiceManager.NONE and item.units)
        self._runner = runner
        self._clock = clock
        self._ready: set[str] = set()

    def snapshot(self) -> Snapshot:
        """What there is to stop, and which of it runs now."""
        return self._entries(lambda manager, units: manager.running(units))

    def installed(self) -> Snapshot:
        """A snapshot by which everything that is installed is started, whether it runs now or not."""
        return self._entries(lambda manager, units: manager.installed(units))

    def _entries(self, chosen: Callable[[Manager, Sequence[str]], list[str]]) -> Snapshot:
        found: Snapshot = []
        for item in self._services:
            entry: dict[str, Any] = {
                "manager": item.manager.value,
                "units": list(item.units),
                "supervisor_config": item.supervisor_config,
                "stay_up_seconds": item.stay_up_seconds,
                "stop_timeout_seconds": item.stop_timeout_seconds,
            }
            if item.manager is ServiceManager.COMMAND:
                entry["commands"] = Commands.of(item).as_dict()
            entry["running"] = chosen(self._manager(entry), item.units)
            found.append(entry)
        return found

    def missing(self) -> list[str]:
        """Units and programs that are named and that this host does not have."""
        found: list[str] = []
        for manager, entry in self._managers(self._entries(lambda _manager, _units: [])):
            if not isinstance(manager, Commanded):
                found += manager.missing(entry["units"])
        return found

    def managers(self) -> set[int]:
        """The numbers of processes that run services, and so go on when these are stopped."""
        entries = self._managers(self._entries(lambda _manager, _units: []))
        numbers = {manager.manager_process() for manager, _entry in entries if isinstance(manager, Supervisor)}
        return {number for number in numbers if number is not None}

    @property
    def names_any(self) -> bool:
        """Whether there is anything that could be stopped."""
        return bool(self._services)

    def is_active(self) -> bool:
        """Whether anything of the application runs."""
        return any(entry["running"] for entry in self.snapshot())

    def stop(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Stop everything of the snapshot, also what was started since. Returns what ran when it was taken."""
        for manager, entry in self._managers(snapshot):
            manager.stop(_all_of(entry))
        return tuple(name for entry in snapshot for name in entry["running"])

    def stop_at_once(self, fresh: Snapshot) -> None:
        """The same for a snapshot that was taken just now: what runs is not asked for before it is stopped."""
        for manager, entry in self._managers(fresh):
            if isinstance(manager, Systemd):
                manager.stop(_all_of(entry), running=entry["running"])
            else:
                manager.stop(_all_of(entry))

    def make_ready(self, snapshot: Snapshot) -> None:
        """Do what can be done before the first start of what does not run, so that the start itself is short."""
        for manager, entry in self._managers(snapshot):
            if isinstance(manager, Systemd):
                manager.make_ready(entry["running"])
                self._ready.update(entry["running"])

    def start(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Start what ran when the snapshot was taken, the last stopped first."""
        started: list[str] = []
        for manager, entry in self._managers(list(reversed(snapshot))):
            names = list(reversed(entry["running"]))
            if isinstance(manager, Systemd):
                manager.start(names, ready=self._ready)
                self._ready.difference_update(names)
            else:
                manager.start(names)
            started.extend(names)
        return tuple(started)

    def wait_until_steady(self, snapshot: Snapshot, seconds: Optional[float] = None) -> None:
        """Watch what was started: the same processes must run the whole time, else ServiceError.

        seconds: None watches each for its own ``stay_up_seconds``; all are watched at once.
        """
        begun = self._clock.monotonic()
        watched = [
            (manager, entry, begun + (float(entry["stay_up_seconds"]) if seconds is None else seconds))
            for manager, entry in self._managers(snapshot)
            if entry["running"]
        ]
        first = [manager.identities(entry["running"]) for manager, entry, _until in watched]
        while watched:
            now = self._clock.monotonic()
            for known, (manager, entry, _until) in zip(first, watched):
                _refuse_restarts(known, manager.identities(entry["running"]), manager)
            if now >= max(until for _manager, _entry, until in watched):
                return
            self._clock.sleep(_POLL_SECONDS)

    def _managers(self, snapshot: Snapshot) -> Iterator[tuple[Manager, dict[str, Any]]]:
        for entry in snapshot:
            yield self._manager(entry), entry

    def _manager(self, entry: dict[str, Any]) -> Manager:
        timeout = float(entry["stop_timeout_seconds"])
        if ServiceManager(entry["manager"]) is ServiceManager.SUPERVISOR:
            return Supervisor(
                self._runner, self._clock, config=entry["supervisor_config"], stop_timeout_seconds=timeout
            )
        if ServiceManager(entry["manager"]) is ServiceManager.COMMAND:
            commands = Commands.read(entry["commands"])
            return Commanded(self._runner, self._clock, entry["units"][0], commands, stop_timeout_seconds=timeout)
        return Systemd(self._runner, stop_timeout_seconds=timeout)


def _all_of(entry: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys([*entry["running"], *entry["units"]]))


def _refuse_restarts(known: dict[str, Identity], present: dict[str, Identity], manager: Manager) -> None:
    for name, identity in present.items():
        if identity != known[name]:
            words = manager.last_words(name, known[name])
            raise ServiceError(
                f"was restarted while it was watched: it does not stay up{words}", path=name, hint="see its log"
            )
