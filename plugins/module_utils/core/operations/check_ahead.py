# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a restore would find of the databases in a backup, for one that is only planned: it fails where that would."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from ..application import Application
from ..archive.manifest import Entry
from ..host.account import Account, owner_of
from ..host.filesystem.identity import acting_as, with_privileges
from ..host.filesystem.scratch import SHARED, scratch_directory
from ..host.worker import worker_account
from ..ports import Ports
from ..storage.local import Backup
from .kind_of import SQLITE, database_beside, kind_of_entry
from .reading import Contents, unpack
from .restore_stage import check_files, was_checked


@with_privileges
def scratch_place(application: Application, reads_as: Optional[Account]) -> Path:
    """Where a copy of a database may lie for a moment; a dry run makes no place for it."""
    state_dir = Path(application.application_state_dir)
    if reads_as is not None:
        shared = state_dir / SHARED
        return shared if shared.is_dir() else Path(tempfile.gettempdir())
    usable = state_dir.is_dir() and os.access(state_dir, os.W_OK)
    return state_dir if usable else Path(tempfile.gettempdir())


def check_ahead(
    application: Application,
    ports: Ports,
    *,
    backup: Backup,
    contents: Contents,
    entries: Iterable[Entry],
    passphrase_file: Optional[str],
    gnupg_home: Optional[str],
    accept_damage: bool,
) -> None:
    """Judge the databases of which no backup has said that they are good, in a place that is gone afterwards.

    Raises ArchiveError. Of the others the digest was compared: they are what was checked when they were captured.
    """
    doubtful = [
        entry
        for entry in entries
        if entry.type == "file" and kind_of_entry(application.profile, entry) == SQLITE and not was_checked(entry)
    ]
    if not doubtful:
        return
    paths = {entry.path for entry in doubtful}

    def chosen(path: str) -> bool:
        return path in paths or database_beside(path) in paths

    owner = owner_of(application)
    reads_as = worker_account(owner)
    with scratch_directory(scratch_place(application, reads_as), "check", account=reads_as) as scratch:
        place = unpack(backup, contents, str(scratch), chosen, ports, passphrase_file, gnupg_home)
        with acting_as(owner):
            staged = [(entry, f"{place}/{entry.path}") for entry in doubtful]
            check_files(application, ports, staged, accept_damage=accept_damage)
