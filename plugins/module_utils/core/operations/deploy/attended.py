# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A deploy under a unit of its own: a cancelled job or a lost connection neither stops it half way nor orphans it.

Whoever asks writes the request, starts the unit and waits; the unit carries the request out and writes the answer
beside it. Who has no patience asks for the answer later. Should the unit be killed, systemd runs ``recover`` after it.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Optional

from ...application import Application
from ...errors import InterruptedBySignal, TradekeepError, UsageError
from ...host.files import atomic_write, make_private_directory
from ...host.transient import TransientUnit
from ...ports import Ports
from ..outcome import Outcome
from ..requests import answer_to, answered, read_request, write_request
from ..unit_confinement import confined
from .deploy import deploy
from .records import RUNNING, DeployRecords
from .request import DeployRequest, requested_application

_KEPT_REQUESTS = 20
_FILES = (".json", ".begun", ".answer")
"""Of a request: what is asked for, that it was begun, what came of it."""
_NAME = re.compile(r"^[0-9a-f]{16}$")


def unit_of(application: Application) -> str:
    """The name of the unit that deploys an application."""
    return f"tradekeep-{application.name}-deploy"


def _unit(application: Application, ports: Ports) -> TransientUnit:
    return TransientUnit(unit_of(application), ports, properties=confined(application))


def attended_deploy(
    application: Application,
    ports: Ports,
    request: DeployRequest,
    *,
    dry_run: bool = False,
    wait_seconds: Optional[float] = None,
) -> Outcome:
    """Deploy, under a unit where systemd runs the host and the application belongs to it; else right here.

    wait_seconds: answer with the state RUNNING and the name of the request where the unit takes longer.
    """
    unit = _unit(application, ports)
    if dry_run or not application.system or not unit.available() or not _program(application).exists():
        return deploy(application, ports, request, dry_run=dry_run)
    requested_application(application, request)
    return _attend(application, ports, unit, _write_request(application, request), wait_seconds)


def await_deploy(application: Application, ports: Ports, name: str) -> Outcome:
    """The answer to a request that was still running, once it has ended."""
    path = _requests(application) / f"{name}.json"
    if not _NAME.match(name) or not path.exists():
        raise UsageError("there is no such request", path=name, hint="see: tradekeep deploy --log")
    return _attend(application, ports, _unit(application, ports), path, None)


def _attend(
    application: Application, ports: Ports, unit: TransientUnit, path: Path, wait_seconds: Optional[float]
) -> Outcome:
    """Have a request carried out once, and wait. It can be asked for again as long as it is running."""
    note = ports.progress.mention
    begun = path.with_suffix(".begun")
    try:
        if not begun.exists():
            if unit.active():
                note(f"{unit.unit} is at work; waiting for it to end")
                if not unit.wait(note=note, timeout_seconds=wait_seconds):
                    return _running(path)
            _start(application, unit, path, begun)
        if not unit.wait(note=note, timeout_seconds=wait_seconds):
            return _running(path)
    except InterruptedBySignal as error:
        raise InterruptedBySignal(
            "no longer waiting; the deploy goes on by itself", path=unit.unit, hint="see: tradekeep deploy --log"
        ) from error
    return answer_to(path, unit.unit)


def _start(application: Application, unit: TransientUnit, path: Path, begun: Path) -> None:
    command = [str(_program(application)), "--config", str(application.config_file)]
    atomic_write(begun, b"")
    try:
        unit.start(
            [*command, "deploy", "--request", str(path)],
            description=f"Deploy of {application.name}",
            afterwards=[*command, "recover"],
        )
    except TradekeepError:
        begun.unlink()
        raise


def _running(path: Path) -> Outcome:
    record = {"state": RUNNING, "request": path.stem}
    return Outcome(changed=False, record=record, lines=("the deploy is running, and goes on by itself",))


def carry_out_request(application: Application, ports: Ports, path: Path) -> Outcome:
    """Inside the unit: carry out a request and write the answer, whatever it is."""
    request = DeployRequest(**read_request(path))
    return answered(path, lambda: deploy(application, ports, request))


def _write_request(application: Application, request: DeployRequest) -> Path:
    DeployRecords(application).prepare()
    directory = _requests(application)
    make_private_directory(directory)
    for old in sorted(directory.iterdir(), key=lambda item: item.stat().st_mtime)[: -len(_FILES) * _KEPT_REQUESTS]:
        old.unlink(missing_ok=True)
    path = directory / f"{secrets.token_hex(8)}.json"
    write_request(path, request.as_dict())
    return path


def _requests(application: Application) -> Path:
    return DeployRecords(application).directory / "requests"


def _program(application: Application) -> Path:
    return Path(application.bin_dir) / "tradekeep"
