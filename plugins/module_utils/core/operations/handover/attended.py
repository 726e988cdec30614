# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A takeover under a unit of its own: a controller that is lost neither stops it half way nor orphans it.

Should the unit be killed, systemd runs ``recover`` after it, which gives up or goes on, by what the source has said.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from ...application import Application
from ...errors import InterruptedBySignal
from ...host.files import make_private_directory
from ...host.transient import TransientUnit
from ...ports import Ports
from ..outcome import Outcome
from ..requests import answer_to, answered, read_request, write_request
from ..unit_confinement import confined
from .link import Link
from .looking import look_ahead
from .taking import take_over


def attended_takeover(
    application: Application, ports: Ports, link: Link, *, force: bool = False, by: str = "", dry_run: bool = False
) -> Outcome:
    """Take over, under a unit where systemd runs the host and the application belongs to it; else right here."""
    if dry_run:
        return look_ahead(application, ports, link, force=force)
    unit = TransientUnit(f"tradekeep-{application.name}-migrate", ports, properties=confined(application))
    program = Path(application.bin_dir) / "tradekeep"
    if not application.system or not unit.available() or not program.exists():
        return take_over(application, ports, link, force=force, by=by)
    path = _requests(application) / f"{secrets.token_hex(8)}.json"
    write_request(path, {"link": link.as_dict(), "force": force, "by": by})
    command = [str(program), "--config", str(application.config_file), "--no-progress"]
    try:
        unit.start(
            [*command, "migrate", "--request", str(path)],
            description=f"Migration of {application.name} from {link.name}",
            afterwards=[*command, "recover"],
        )
        unit.wait(note=ports.progress.mention)
    except InterruptedBySignal as error:
        raise InterruptedBySignal(
            "no longer waiting; the migration goes on by itself", path=unit.unit, hint=f"see: journalctl -u {unit.unit}"
        ) from error
    return answer_to(path, unit.unit)


def carry_out_request(application: Application, ports: Ports, path: Path) -> Outcome:
    """Inside the unit: carry out a request and write the answer, whatever it is."""
    request = read_request(path)
    wanted = request["link"]
    link = Link(**{**wanted, "command": tuple(wanted["command"])})
    return answered(path, lambda: take_over(application, ports, link, force=request["force"], by=request["by"]))


def _requests(application: Application) -> Path:
    directory = Path(application.application_state_dir) / "migrations" / "requests"
    make_private_directory(directory.parent)
    make_private_directory(directory)
    for old in directory.iterdir():
        old.unlink(missing_ok=True)
    return directory
