# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A takeover under a unit of its own: a controller that is lost neither stops it half way nor orphans it.

Should the unit be killed, systemd runs ``recover`` after it, which gives up or goes on, by what the source has said.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...application import Application
from ...errors import ExitStatus, FindingsError, InterruptedBySignal, NeedsPersonError, TradekeepError, UsageError
from ...host.files import atomic_write, make_private_directory, os_errors
from ...host.transient import TransientUnit
from ...ports import Ports
from ..outcome import Outcome
from .link import Link
from .looking import look_ahead
from .taking import take_over

_ERRORS = {
    ExitStatus.FINDINGS: FindingsError,
    ExitStatus.USAGE: UsageError,
    ExitStatus.FAILED: TradekeepError,
    ExitStatus.NEEDS_PERSON: NeedsPersonError,
}


def attended_takeover(
    application: Application, ports: Ports, link: Link, *, force: bool = False, by: str = "", dry_run: bool = False
) -> Outcome:
    """Take over, under a unit where systemd runs the host and the application belongs to it; else right here."""
    if dry_run:
        return look_ahead(application, ports, link)
    unit = TransientUnit(f"tradekeep-{application.name}-migrate", ports)
    program = Path(application.bin_dir) / "tradekeep"
    if not application.system or not unit.available() or not program.exists():
        return take_over(application, ports, link, force=force, by=by)
    path = _requests(application) / f"{secrets.token_hex(8)}.json"
    _write(path, {"link": link.as_dict(), "force": force, "by": by})
    command = [str(program), "--config", str(application.config_file), "--no-progress"]
    try:
        unit.start(
            [*command, "migrate", "--request", str(path)],
            description=f"Migration of {application.name} from {link.name}",
            afterwards=[*command, "recover"],
        )
        unit.wait(note=ports.progress.note)
    except InterruptedBySignal as error:
        raise InterruptedBySignal(
            "no longer waiting; the migration goes on by itself", path=unit.unit, hint=f"see: journalctl -u {unit.unit}"
        ) from error
    return _answer(path, unit.unit)


def carry_out_request(application: Application, ports: Ports, path: Path) -> Outcome:
    """Inside the unit: carry out a request and write the answer, whatever it is."""
    with os_errors(path):
        request = json.loads(path.read_bytes())
    wanted = request["link"]
    link = Link(**{**wanted, "command": tuple(wanted["command"])})
    try:
        outcome = take_over(application, ports, link, force=request["force"], by=request["by"])
    except TradekeepError as error:
        _write(path.with_suffix(".answer"), {"error": error.as_dict()})
        raise
    answer = {key: value for key, value in asdict(outcome).items() if key != "fitted"}
    _write(path.with_suffix(".answer"), {"outcome": answer})
    return outcome


def _requests(application: Application) -> Path:
    directory = Path(application.application_state_dir) / "migrations" / "requests"
    make_private_directory(directory.parent)
    make_private_directory(directory)
    for old in directory.iterdir():
        old.unlink(missing_ok=True)
    return directory


def _answer(request: Path, unit: str) -> Outcome:
    try:
        document = json.loads(request.with_suffix(".answer").read_bytes())
    except (OSError, ValueError) as error:
        raise NeedsPersonError(
            "ended without an answer", path=unit, hint=f"see: journalctl -u {unit}, then run: tradekeep recover"
        ) from error
    if "error" in document:
        found: Mapping[str, Any] = document["error"]
        kind = _ERRORS.get(ExitStatus(found["exit_status"]), TradekeepError)
        raise kind(found["message"], path=found["path"], hint=found["hint"])
    answer = document["outcome"]
    answer["lines"], answer["status"] = tuple(answer["lines"]), ExitStatus(answer["status"])
    return Outcome(**answer)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(document).encode("ascii"))
