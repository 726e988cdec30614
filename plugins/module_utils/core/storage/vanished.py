# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whether all backups that are on record are gone at once: then their disk is not mounted, or somebody removed them.

The records are in the state directory, on another disk. Of single backups that are missing nothing is said: people
remove them. A directory that holds one of them is the right one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from ..errors import TradekeepError
from ..formatting import counted
from .names import SAFETY_LABELS, parse_any_name

NEW_DIRECTORY = "backups"
"""The word for ``--allow-loss`` that says that an empty directory is meant."""


def all_gone(directory: Path, recorded: Iterable[str], names: Iterable[str]) -> Optional[TradekeepError]:
    """The error to raise, or to show, where a directory holds none of the backups on record; else None.

    recorded: the keys of the records. names: what is in the directory. What an operation keeps of its own work does
    not count: on the bad day it is kept in whatever is there.
    """
    known = {key for key in recorded if _counts(key)}
    if not known or known & set(names):
        return None
    many = f"none of the {counted(len(known), 'backup')} that are on record is" if len(known) > 1 else ""
    these = many or "the backup that is on record is not"
    which, they = ("their", "they were") if many else ("its", "it was")
    return TradekeepError(
        f"{these} there: {which} disk is not mounted, or {they} removed",
        path=directory,
        hint="mount the disk; if it is a new, empty one, back up once with: tradekeep backup --allow-loss "
        f"{NEW_DIRECTORY}",
    )


def _counts(key: str) -> bool:
    """Keys with a slash are of backups in other directories."""
    parsed = None if "/" in key else parse_any_name(key)
    return parsed is not None and parsed.name not in SAFETY_LABELS
