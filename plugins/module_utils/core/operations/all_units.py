# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The units that run the bot and those that keep its data, installed as one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..application import Application
from ..ports import Ports
from .bot_units import UnitFile, install_bot_units
from .outcome import Outcome
from .units import install_units


@dataclass(frozen=True)
class BotUnits:
    """The bot's own. enable: whether they start at boot. alone: tradekeep's are left as they are."""

    files: tuple[UnitFile, ...] = ()
    enable: bool = True
    alone: bool = False


def install_all_units(
    application: Application, ports: Ports, bot: BotUnits, *, unit_dir: str, present: bool = True, dry_run: bool = False
) -> Outcome:
    """First the bot's, which tradekeep's are ordered by. With ``present`` false tradekeep's alone are removed."""
    services = Outcome(changed=False, record={"written": []})
    if present:
        services = install_bot_units(
            application, ports, bot.files, unit_dir=unit_dir, enable=bot.enable, dry_run=dry_run
        )
    if bot.alone:
        return replace(services, record={"services": services.record})
    ours = install_units(
        application,
        ports,
        unit_dir=unit_dir,
        present=present,
        dry_run=dry_run,
        coming=services.record["written"],
    )
    if not services.lines:
        return ours
    return replace(
        ours,
        changed=services.changed or ours.changed,
        record={**ours.record, "services": services.record},
        lines=(*services.lines, *ours.lines),
        before={**({"services": services.before} if services.after else {}), **ours.before},
        after={**({"services": services.after} if services.after else {}), **ours.after},
    )
