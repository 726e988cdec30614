# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Units of systemd."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..errors import CommandError, ServiceError
from ..ports import Runner

_PROPERTIES = "LoadState,ActiveState,SubState,Type,MainPID,NRestarts,Result,TriggeredBy,InvocationID"
_START_TIMEOUT_SECONDS = 180.0
_RECENT_SECONDS = 3600
_LONGEST_WORDS = 300
# What systemctl says where systemd is not the init system: then it runs no unit either.
_NO_SYSTEMD = ("not been booted with systemd", "Failed to connect to bus")


@dataclass(frozen=True)
class UnitState:
    """What ``systemctl show`` tells of a unit."""

    active: str
    sub: str
    kind: str
    main_pid: str
    restarts: str
    result: str
    triggers: tuple[str, ...]
    load: str = "loaded"
    """``loaded`` where there is such a unit, ``masked``, ``not-found``, ...; empty where systemd cannot be asked."""
    invocation: str = ""
    """What systemd calls this run of it, in the journal too."""

    @property
    def loaded(self) -> bool:
        """Whether there is such a unit and it is not masked."""
        return self.load == "loaded"

    @property
    def runs(self) -> bool:
        """Whether it was meant to run, and is to run again later.

        A one-shot job that is just at work is not: whatever started it will start it again.
        """
        if self.kind == "oneshot" and self.active == "activating":
            return False
        return self.active in ("active", "activating", "reloading", "refreshing")

    @property
    def stopped(self) -> bool:
        """Whether nothing of it runs."""
        return self.active in ("inactive", "failed")

    @property
    def identity(self) -> tuple[str, ...]:
        """Changes when the unit is restarted behind our back."""
        return (self.main_pid, self.restarts, self.invocation)


class Systemd:
    """Asks and tells systemd."""

    def __init__(self, runner: Runner, *, stop_timeout_seconds: float) -> None:
        self._runner = runner
        self._stop_timeout = stop_timeout_seconds

    def running(self, units: Sequence[str]) -> list[str]:
        """The units that run, after whatever would start them (timers, sockets), in the order of stopping."""
        if self._runner.find("systemctl") is None:
            return []
        states = self.states(units)
        triggers = [name for state in states.values() for name in state.triggers if name not in states]
        before = [name for name, state in self.states(list(dict.fromkeys(triggers))).items() if state.runs]
        return [*before, *(unit for unit, state in states.items() if state.runs)]

    def installed(self, units: Sequence[str]) -> list[str]:
        """The units that could be started, in the order of stopping."""
        if self._runner.find("systemctl") is None:
            return []
        return [unit for unit, state in self.states(units).items() if state.loaded]

    def states(self, units: Sequence[str]) -> dict[str, UnitState]:
        """The present state of each; asked for at once where that is possible."""
        if len(units) > 1 and not any("*" in unit for unit in units):
            shown = self._show(units).split("\n\n")
            if len(shown) == len(units):
                return {unit: _state_in(text) for unit, text in zip(units, shown)}
        return {unit: self.state(unit) for unit in units}

    def state(self, unit: str) -> UnitState:
        """The present state; a unit that does not exist is inactive."""
        return _state_in(self._show([unit]))

    def missing(self, units: Sequence[str]) -> list[str]:
        """The units that this host has no file of, as far as systemd can tell."""
        if self._runner.find("systemctl") is None:
            return []
        return [unit for unit in units if "*" not in unit and self.state(unit).load == "not-found"]

    def _show(self, units: Sequence[str]) -> str:
        completed = self._runner.run(
            ["systemctl", "show", "-p", _PROPERTIES, "--", *units], check=False, timeout_seconds=60
        )
        if completed.status != 0 and not any(text in completed.stderr for text in _NO_SYSTEMD):
            raise ServiceError(f"systemctl show failed: {completed.stderr.strip()}", path=units[0])
        return completed.stdout

    def stop(self, units: Sequence[str], *, running: Sequence[str] = ()) -> None:
        """Stop units in this order and make sure of it. running: what is known to run is not asked for before."""
        for unit in running:
            self._stop(unit)
        late = [unit for unit, state in self.states(units).items() if not state.stopped]
        for unit in late:
            self._stop(unit)
        for unit, state in self.states(late).items():
            if not state.stopped:
                raise ServiceError(f"is {state.active} ({state.sub}) after it was stopped", path=unit)

    def start(self, units: Sequence[str], *, ready: Collection[str] = ()) -> None:
        """Start units in this order; failures of the past do not count. ready: those of ``make_ready``."""
        for unit in units:
            if unit not in ready:
                if self.state(unit).active == "active":
                    continue
                self.make_ready([unit])
            try:
                self._runner.run(["systemctl", "start", "--", unit], timeout_seconds=_START_TIMEOUT_SECONDS)
            except CommandError as error:
                raise self._failure(unit, "does not start", self.state(unit)) from error

    def make_ready(self, units: Sequence[str]) -> None:
        """Have failures of the past forgotten."""
        if units:
            self._runner.run(["systemctl", "reset-failed", "--", *units], check=False, timeout_seconds=60)

    def _stop(self, unit: str) -> None:
        try:
            self._runner.run(["systemctl", "stop", "--", unit], timeout_seconds=self._stop_timeout)
        except CommandError as error:
            raise ServiceError(
                f"does not stop: {error.message}", path=unit, hint=f"see: systemctl status {unit}"
            ) from error

    def identities(self, units: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Identity of each unit; raises unless all are active. ``activating`` is not up, and neither is a restart."""
        found: dict[str, tuple[str, ...]] = {}
        for unit in units:
            state = self.state(unit)
            if state.active != "active":
                raise self._failure(unit, "does not stay up", state)
            found[unit] = state.identity
        return found

    def last_words(self, unit: str, identity: tuple[str, ...]) -> str:
        """What a run of a unit said last, for the end of a message."""
        return last_words(self._runner, unit, invocation=identity[-1] if identity else "")

    def _failure(self, unit: str, what: str, state: UnitState) -> ServiceError:
        """With the state that was seen: a moment later systemd may have started it once more."""
        return ServiceError(
            f"{what}: {state.active} ({state.sub}, {state.result}){self.last_words(unit, state.identity)}",
            path=unit,
            hint=f"see: journalctl -u {unit}",
        )


def last_words(runner: Runner, unit: str, *, invocation: str = "") -> str:
    """The last line that a unit's own processes wrote to the journal, for the end of a message.

    ``-u`` would show what systemd says of the unit as well, and that comes last. invocation: the run of it that is
    meant; where that said nothing, and without one, what the unit said lately.
    """
    recent = [f"_SYSTEMD_UNIT={unit if '.' in unit else unit + '.service'}", f"--since=-{_RECENT_SECONDS}s"]
    for wanted in [[f"_SYSTEMD_INVOCATION_ID={invocation}"], recent] if invocation else [recent]:
        try:
            completed = runner.run(
                ["journalctl", "-n", "20", "--no-pager", "-q", "-o", "cat", *wanted], check=False, timeout_seconds=30
            )
        except CommandError:
            return ""
        lines = [line.strip() for line in completed.stdout.splitlines() if line.strip()]
        if lines and not lines[-1].startswith("-- No entries"):
            return f": {lines[-1][:_LONGEST_WORDS]}"
    return ""


def _state_in(shown: str) -> UnitState:
    facts = dict(line.partition("=")[::2] for line in shown.splitlines())
    return UnitState(
        active=facts.get("ActiveState", "inactive"),
        sub=facts.get("SubState", "dead"),
        kind=facts.get("Type", ""),
        main_pid=facts.get("MainPID", "0"),
        restarts=facts.get("NRestarts", "0"),
        result=facts.get("Result", "success"),
        triggers=tuple(facts.get("TriggeredBy", "").split()),
        load=facts.get("LoadState", ""),
        invocation=facts.get("InvocationID", ""),
    )
