# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All steps looked at together: whether each of them would leave its host as it is."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable, Optional, cast

from ..core.application import Application
from ..core.errors import ExitStatus, TradekeepError
from ..core.operations.all_units import BotUnits, install_all_units
from ..core.operations.claims import refuse_claimed
from ..core.operations.fence import note_fence
from ..core.operations.outcome import Outcome
from ..core.operations.prerequisites import Wanted, prepare_host
from ..core.ports import Completed, NoProgress, Ports, Runner
from ..definition import application_on_host, unit_files_of
from ..summaries import SUMMARISED, notes_in
from .checking import with_check
from .installing import configure
from .layout import credentials_of, planned_tree

INSTALLED: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "path": {"type": "str", "required": True},
        # Of a passphrase it would tell whoever guesses right.
        "sha256": {"type": "str", "required": True, "no_log": True},
        "mode": {"type": "str", "required": True},
    },
}


class Heard(NoProgress):
    """Keeps what is worth reading until it is known whether it is to be said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Kept."""
        self.notes.append(text)

    def mention(self, text: str) -> None:
        """Nothing."""


class _AskedOnce:
    """A runner that asks each program once: several steps ask for the services, and nothing is changed meanwhile."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._answers: dict[str, Completed] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        """The first answer; a program that fails is asked again."""
        key = repr((list(argv), sorted(options.items())))
        if key not in self._answers:
            self._answers[key] = self._runner.run(argv, **options)
        return self._answers[key]


def settled(params: Mapping[str, Any], ports: Ports) -> Outcome:
    """Whether every step would leave the host as it is, and what each would say then. Writes nothing.

    Ends at the first one that would do anything, or that fails: its module does the same, and says what is wrong.
    """
    heard, told = Heard(), {}
    asked = cast(Runner, _AskedOnce(ports.runner))
    look = _Look(params, replace(ports, progress=heard, runner=asked))
    for name, step in look.steps():
        outcome = _undisturbed(step)
        if outcome is None:
            return Outcome(changed=False, record={"settled": False, "differs": name, "steps": {}}, lines=(name,))
        heard.notes.extend(notes_in(outcome.record))
        if name in SUMMARISED:
            told[name] = {"changed": False, "record": outcome.record}
    for text in heard.notes:
        ports.progress.note(text)
    return Outcome(changed=False, record={"settled": True, "differs": None, "steps": told}, lines=("nothing to do",))


def _undisturbed(step: Callable[[], Outcome]) -> Optional[Outcome]:
    """How a step ended that leaves all as it is; None where it would do anything, or fails: its module says why."""
    try:
        outcome = step()
    except (TradekeepError, OSError):
        return None
    return None if outcome.changed or outcome.status != ExitStatus.DONE else outcome


class _Look:
    """The steps, each as its module takes it in check mode."""

    def __init__(self, params: Mapping[str, Any], ports: Ports) -> None:
        self._params, self._ports = params, ports
        self._application: Optional[Application] = None

    def steps(self) -> tuple[tuple[str, Callable[[], Outcome]], ...]:
        """By the names of their modules, in the order in which the roles take them."""
        return (
            ("definition", self._definition),
            ("fence", self._fence),
            ("prerequisites", self._prerequisites),
            ("installed", self._installed),
            ("tree", self._tree),
            ("configuration", self._configuration),
            ("units", self._units),
        )

    @property
    def _defined(self) -> Application:
        if self._application is None:
            self._application = application_on_host(self._params)
        return self._application

    def _definition(self) -> Outcome:
        return Outcome(changed=False, record={"application": self._defined.name})

    def _fence(self) -> Outcome:
        # What came since it was put up is masked.
        return Outcome(changed=note_fence(self._defined, self._ports), record={})

    def _prerequisites(self) -> Outcome:
        if not self._defined.has_units:
            return Outcome(changed=False, record={})
        params = self._params
        wanted = Wanted(
            accounts=params["accounts"],
            packages=tuple(params["packages"]),
            brought=tuple(params["brought"]),
            take_over=params["take_over"],
            units=unit_files_of(params["unit_files"]),
            unit_dir=params["unit_dir"],
        )
        outcome = prepare_host(self._defined, self._ports, wanted, dry_run=True)
        missing = outcome.record["packages"] or outcome.record["optional_packages"]
        return replace(outcome, changed=outcome.changed or bool(missing))

    def _installed(self) -> Outcome:
        return Outcome(changed=not all(_is_there(item) for item in self._params["installed"]), record={})

    def _tree(self) -> Outcome:
        refuse_claimed(self._defined)
        params = self._params
        credentials = credentials_of(params["credentials"])
        return planned_tree(self._defined, self._ports, credentials, take_over=params["take_over"])

    def _configuration(self) -> Outcome:
        return configure(self._defined, self._ports, self._params["command"], dry_run=True)

    def _units(self) -> Outcome:
        params = self._params
        files = BotUnits(unit_files_of(params["unit_files"]), enable=params["enable_unit_files"])
        outcome = install_all_units(self._defined, self._ports, files, unit_dir=params["unit_dir"], dry_run=True)
        return outcome if outcome.changed else with_check(outcome, self._defined, self._ports, None)


def _is_there(wanted: Mapping[str, Any]) -> bool:
    """Whether a file is as the controller has it."""
    try:
        with open(wanted["path"], "rb") as file:
            status = os.fstat(file.fileno())
            same = hashlib.sha256(file.read()).hexdigest() == wanted["sha256"]
    except OSError:
        return False
    return same and stat.S_IMODE(status.st_mode) == int(wanted["mode"], 8)
