# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a backup does about a full disk: the backups that no rule keeps go, and it is tried once more.

The unit of a timer prunes after its backup alone, so that a disk that is full once would stay full.
"""

from __future__ import annotations

from typing import Callable

from ..application import Application
from ..errors import SpaceError, TradekeepError
from ..faults import foreseen
from ..ports import Ports
from .outcome import Outcome
from .prune import prune


def with_room(application: Application, ports: Ports, work: Callable[[], Outcome]) -> Outcome:
    """Carry out a backup; for want of space prune, and if that removed anything, carry it out again, once."""
    try:
        return work()
    except (TradekeepError, OSError) as error:
        known = foreseen(error)
        if not isinstance(known, SpaceError) or not _made(application, ports, known):
            raise
    return work()


def _made(application: Application, ports: Ports, error: SpaceError) -> bool:
    try:
        pruned = prune(application, ports, dry_run=False)
    except TradekeepError as reason:
        ports.progress.note(f"pruning made no room either: {reason}")
        return False
    if pruned.changed:
        ports.progress.note(f"{error.message}: {pruned.lines[-1]}, and the backup is tried once more")
    return pruned.changed
