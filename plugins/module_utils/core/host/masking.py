# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Masking units for good: also after the next boot nothing can start them.

``systemctl mask`` refuses a unit whose file lies where the mask would go, which is where people put theirs. Such a file
is set aside under a name that systemd does not read, and gets its place back with ``unmask``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import ServiceError
from ..ports import Runner
from .files import fsync_directory, os_errors
from .filesystem.identity import with_privileges
from .gates import RUNTIME_DIR, Gates
from .systemd import Systemd

UNIT_DIR = Path("/etc/systemd/system")
ASIDE_SUFFIX = ".tradekeep-fenced"
_NOWHERE = "/dev/null"


class Masks:
    """Masks in one directory of units. May be killed at any step and run again."""

    def __init__(self, runner: Runner, directory: Path = UNIT_DIR) -> None:
        self._runner = runner
        self._directory = directory
        self._systemd = Systemd(runner, stop_timeout_seconds=60)
        self._gates = Gates(runner, RUNTIME_DIR if directory == UNIT_DIR else directory.parent / "runtime")

    def maskable(self, units: Sequence[str]) -> list[str]:
        """Those that are installed and that nobody has masked, with the timers and sockets that would start them."""
        if self._runner.find("systemctl") is None:
            return []
        found: dict[str, None] = {}
        for unit in units:
            state = self._systemd.state(unit)
            for name in (*state.triggers, unit):
                if self._systemd.state(name).loaded:
                    found[name] = None
        return list(found)

    @with_privileges
    def is_masked(self, unit: str) -> bool:
        """Whether the mask is there."""
        place = self._directory / unit
        return place.is_symlink() and os.readlink(place) == _NOWHERE

    @with_privileges
    def mask(self, units: Sequence[str], *, settle: bool = True) -> list[str]:
        """Returns those that were not masked already. settle: False leaves it to the caller to call ``settle``."""
        gated = self._gates.take_down(units)
        masked = self._put_on(units)
        if gated or (masked and settle):
            self.settle()
        return masked

    @with_privileges
    def mask_held(self, units: Sequence[str]) -> list[str]:
        """The same for units that are held, which cannot be started any more as soon as this begins.

        ``endure`` makes the names durable, ``settle_held`` has systemd see them.
        """
        self._gates.close(units)
        return self._put_on(units)

    @with_privileges
    def endure(self) -> None:
        """Make the names durable."""
        fsync_directory(self._directory)

    @with_privileges
    def settle_held(self, units: Sequence[str]) -> None:
        """Have systemd see the masks of units that are held."""
        self.settle()
        self._gates.take_down(units)

    @with_privileges
    def hold(self, units: Sequence[str]) -> bool:
        """Make ready that units can be kept from being started at once. False where that cannot be."""
        return self._gates.hold(units)

    def _put_on(self, units: Sequence[str]) -> list[str]:
        masked = []
        for unit in units:
            if self.is_masked(unit):
                continue
            place = self._directory / unit
            with os_errors(place):
                if os.path.lexists(place):
                    os.rename(place, self._aside(unit))
                os.symlink(_NOWHERE, place)
            masked.append(unit)
        return masked

    @with_privileges
    def unmask(self, units: Sequence[str]) -> list[str]:
        """Take the masks off and put back what was set aside. Returns what was changed."""
        unmasked = []
        gated = self._gates.take_down(units)
        for unit in units:
            place, aside = self._directory / unit, self._aside(unit)
            with os_errors(place):
                masked = self.is_masked(unit)
                if os.path.lexists(aside):
                    if os.path.lexists(place) and not masked:
                        raise ServiceError(
                            "is there again, and so is what was set aside for the fence",
                            path=place,
                            hint=f"remove one of it and {aside.name}, then run: tradekeep unfence",
                        )
                    os.rename(aside, place)
                elif masked:
                    place.unlink()
                else:
                    continue
            unmasked.append(unit)
        if unmasked or gated:
            self.settle()
        return unmasked

    @with_privileges
    def gate(self, units: Sequence[str], guards: Sequence[str] = ()) -> bool:
        """Make ready that masked units can be started the moment that ``open`` says so. False where that cannot be.

        guards: units that are passed over from that moment on, until ``close``, ``mask`` or ``unmask``.
        """
        return self._gates.put_up(units, [self._aside(unit) for unit in units], guards)

    @with_privileges
    def open(self, units: Sequence[str]) -> None:
        """Let gated units be started. The masks on the disk stay until ``unmask``."""
        self._gates.open(units)

    @with_privileges
    def close(self, units: Sequence[str]) -> None:
        """Let gated units not be started any more. The masks on the disk are there."""
        self._gates.close(units)

    @with_privileges
    def settle(self) -> None:
        """Make the names durable, and have systemd see them."""
        fsync_directory(self._directory)
        if self._runner.find("systemctl") is not None:
            self._runner.run(["systemctl", "daemon-reload"], timeout_seconds=120)

    def _aside(self, unit: str) -> Path:
        return self._directory / f"{unit}{ASIDE_SUFFIX}"
