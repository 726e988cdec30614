# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Masked units that can be started the moment they may, and units that run and cannot be started any more at once.

systemd sees that a mask is gone only after a reload, which takes its time. So beforehand a unit gets a copy that
outranks its mask (see the load path in systemd.unit(5)) and can be started only while a key lies beside it, which
systemd looks for at each start. Copy and key lie in /run: after a boot there is the mask alone.

A unit that runs gets such a key for as long as it may be started again: nothing else of it is changed, so that it
stops as its own file says, and without the key systemd refuses it, whether it has seen a mask yet or not.

A guard that runs before such a unit can be passed over while the keys are there: whoever has opened the gates has seen
himself that all is in order, and waits for the start. Without a key it is run as ever.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ..ports import Runner
from .files import os_errors
from .systemd import Systemd

RUNTIME_DIR = Path("/run/systemd/system.control")
_UNIT_PATHS = ("/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_NAME = "tradekeep-handover"


class Gates:
    """The gates in one directory. aside: where a masked unit's own file lies, if it was in the place of the mask."""

    def __init__(self, runner: Runner, directory: Path) -> None:
        self._runner = runner
        self._directory = directory
        self._systemd = Systemd(runner, stop_timeout_seconds=60)

    def put_up(self, units: Sequence[str], aside: Sequence[Path], guards: Sequence[str] = ()) -> bool:
        """Whether all of these masked units can be started by ``open``; else everything is as it was.

        guards: units that are passed over for as long as the gates are open.
        """
        found = [_content_of(unit, place) for unit, place in zip(units, aside)]
        contents = [content for content in found if content is not None]
        if not units or len(contents) < len(units) or self._runner.find("systemctl") is None:
            return False
        self.take_down(units)
        for unit, content in zip(units, contents):
            beside = self._beside(unit)
            with os_errors(beside):
                beside.mkdir(mode=0o755, parents=True, exist_ok=True)
                # First: there is no instant in which the copy could be started without the key.
                self._assert_key(unit)
                (self._directory / unit).write_bytes(content)
        for guard in guards:
            self._pass_over(guard, units)
        self._reload()
        if all(state.loaded for state in self._systemd.states(units).values()):
            return True
        self.take_down(units)
        self._reload()
        return False

    def hold(self, units: Sequence[str]) -> bool:
        """Whether these units, which may run and be started, can be kept from it by ``close``."""
        if not units or self._runner.find("systemctl") is None:
            return False
        for unit in units:
            with os_errors(self._beside(unit)):
                self._beside(unit).mkdir(mode=0o755, parents=True, exist_ok=True)
                # First: there is no instant in which systemd would look for a key that is not there yet.
                self._key(unit).touch()
                self._assert_key(unit)
        self._reload()
        return True

    def open(self, units: Sequence[str]) -> None:
        """They may be started from now on."""
        for unit in units:
            with os_errors(self._key(unit)):
                self._key(unit).touch()

    def close(self, units: Sequence[str]) -> None:
        """They may not be started any more, and guards count again."""
        for unit in units:
            with os_errors(self._key(unit)):
                self._key(unit).unlink(missing_ok=True)

    def take_down(self, units: Sequence[str]) -> bool:
        """Without a reload. Returns whether there was any."""
        changed = False
        for unit in units:
            if not (self._beside(unit) / f"{_NAME}.conf").exists():
                continue
            changed = True
            with os_errors(self._directory / unit):
                # The copy goes before what guards it.
                for path in (self._key(unit), self._directory / unit, self._beside(unit) / f"{_NAME}.conf"):
                    path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    self._beside(unit).rmdir()
        return self._pass_nothing_over(units) or changed

    def _assert_key(self, unit: str) -> None:
        (self._beside(unit) / f"{_NAME}.conf").write_text(f"[Unit]\nAssertPathExists={self._key(unit)}\n", "ascii")

    def _pass_over(self, guard: str, units: Sequence[str]) -> None:
        settings = self._beside(guard) / f"{_NAME}.conf"
        with os_errors(settings):
            settings.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            settings.write_text("[Unit]\n" + "".join(f"{self._unless_open(unit)}\n" for unit in units), "ascii")

    def _pass_nothing_over(self, units: Sequence[str]) -> bool:
        """Whatever guards these units is as it was; whether there was any."""
        wanted = {self._unless_open(unit) for unit in units}
        found = [
            path
            for path in self._directory.glob(f"*.d/{_NAME}.conf")
            if not wanted.isdisjoint(path.read_text("ascii").splitlines())
        ]
        for path in found:
            with os_errors(path):
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    path.parent.rmdir()
        return bool(found)

    def _unless_open(self, unit: str) -> str:
        return f"ConditionPathExists=!{self._key(unit)}"

    def _reload(self) -> None:
        self._runner.run(["systemctl", "daemon-reload"], timeout_seconds=120)

    def _beside(self, unit: str) -> Path:
        return self._directory / f"{unit}.d"

    def _key(self, unit: str) -> Path:
        return self._beside(unit) / f"{_NAME}.open"


def _content_of(unit: str, aside: Path) -> Optional[bytes]:
    """What is in a masked unit's own file; None where it is another name of some unit, or lies nowhere known."""
    for place in (aside, *(Path(directory, unit) for directory in _UNIT_PATHS)):
        if os.path.lexists(place):
            return place.read_bytes() if place.is_file() and not place.is_symlink() else None
    return None
