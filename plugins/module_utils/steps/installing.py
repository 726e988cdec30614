# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command and the configuration of an application, in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

from ..core.application import Application
from ..core.operations.claims import unclaimed_backups
from ..core.operations.installation import install_application, install_program
from ..core.operations.outcome import Outcome
from ..core.ports import Ports

COMMAND: dict[str, Any] = {
    "type": "dict",
    "options": {
        "interpreter": {"type": "path", "default": "/usr/bin/python3"},
        "allow_downgrade": {"type": "bool", "default": False},
    },
}


def configure(
    application: Application,
    ports: Ports,
    command: Optional[Mapping[str, Any]],
    *,
    present: bool = True,
    dry_run: bool = False,
) -> Outcome:
    """Install the command, where that is asked for, and the configuration; or remove the configuration alone."""
    # First: an older release is refused before it changes anything.
    installed = _command(application, ports, command, dry_run=dry_run) if command and present else None
    outcome = install_application(application, ports, present=present, dry_run=dry_run)
    for note in unclaimed_backups(application) if present else ():
        ports.progress.note(note)
    return outcome if installed is None else _both(installed, outcome)


def _command(application: Application, ports: Ports, options: Mapping[str, Any], *, dry_run: bool) -> Outcome:
    return install_program(
        ports,
        bin_dir=str(application.bin_dir),
        config_dir=str(application.config_dir),
        interpreter=options["interpreter"],
        allow_downgrade=options["allow_downgrade"],
        dry_run=dry_run,
    )


def _both(command: Outcome, configuration: Outcome) -> Outcome:
    return replace(
        configuration,
        changed=command.changed or configuration.changed,
        record={**configuration.record, "command": {**command.record, "changed": command.changed}},
        lines=(*command.lines, *configuration.lines),
        before={**configuration.before, "command": command.before},
        after={**configuration.after, "command": command.after},
    )
