# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the check of an installed configuration found, beside what was done before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ..core.application import Application
from ..core.configuration import load_application
from ..core.errors import ExitStatus
from ..core.operations.configured import check_configuration
from ..core.operations.outcome import Outcome
from ..core.ports import Ports


def with_check(outcome: Outcome, application: Application, ports: Ports, recovery_key: Optional[str]) -> Outcome:
    """The same with what the check of the installed configuration found; a problem fails, a warning does not."""
    installed = load_application(app=application.name, config_dir=str(application.config_dir))
    found = check_configuration(installed, ports, recovery_key=recovery_key).record
    check = {"problems": found["problems"], "warnings": found["warnings"]}
    for warning in check["warnings"]:
        ports.progress.note(warning)
    checked = replace(outcome, record={**outcome.record, "check": check})
    if not check["problems"]:
        return checked
    return replace(checked, lines=tuple(check["problems"]), status=ExitStatus.FINDINGS)
