# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The backup before a deploy, of the critical components or of everything: the way back if new code ruins data."""

from __future__ import annotations

import dataclasses
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Optional

from ...application import Application, Tier
from ...deploy_settings import BackupFirst
from ...host.filesystem.identity import privileged, with_privileges
from ...ports import Ports
from ...storage.backup import Backup
from ...storage.choice import is_future
from ...storage.local import LocalCatalog
from ...storage.names import DEPLOY_LABEL
from ..backup import back_up
from ..backup_plan import BackupPlan, check_space, choose_encryption
from ..collapses import before_losses
from ..keys import require_usable_keys
from ..scan import gathered_scan, scan
from ..tree_reader import Source, tree_reader


def backup_first(application: Application, ports: Ports) -> Optional[Backup]:
    """Make the backup that the profile asks for; None where it asks for none, or where there is no data yet."""
    covered = _covered(application)
    if covered is None:
        return None
    # What is read of the data, another process reads for it, with the owner's rights.
    with privileged():
        encryption = choose_encryption(covered, Tier.MANUAL, None)
        request = BackupPlan.of_label(DEPLOY_LABEL, encryption, Path(application.backup_dir))
        return back_up(covered, ports, request, lambda: gathered_scan(covered))


def rehearse_backup(application: Application, ports: Ports) -> None:
    """Find out, without writing anything, why the backup could not be made: for want of a key or of space."""
    covered = _covered(application)
    if covered is None or not os.path.isdir(application.root):
        return
    with privileged():
        LocalCatalog(application, ports.clock).require_present()
        encryption = choose_encryption(covered, Tier.MANUAL, None)
        request = BackupPlan.of_label(DEPLOY_LABEL, encryption, Path(application.backup_dir))
        source = Source(lambda: gathered_scan(covered))
        with tree_reader(covered, ports, lambda: nullcontext(source), request) as reader:
            plan = reader.measure()
        if plan.files:
            if encryption.configured:
                require_usable_keys(covered, ports)
            check_space(plan)


@with_privileges
def forget_old_backups(application: Application, ports: Ports, keep: int) -> None:
    """Of the backups that deploys made, the newest stay, and those that hold far more than any of them.

    Those of a clock that was wrong take no place of theirs.
    """
    if not Path(application.backup_dir).is_dir():
        return
    catalog = LocalCatalog(application, ports.clock)
    now = ports.clock.now()
    ours = [item for item in catalog.own() if item.label == DEPLOY_LABEL and item.good]
    present = [item for item in ours if not is_future(item.moment, now)]
    fuller = before_losses(application, ours, {item.name for item in present[:keep]})
    for backup in present[keep:]:
        if backup.name in fuller:
            ports.progress.note(f"{backup.name} is kept: {fuller[backup.name]}")
        else:
            catalog.remove(backup)


def _covered(application: Application) -> Optional[Application]:
    """What is backed up; None where nothing is to be, or where there is no data yet."""
    wanted = application.profile.deploy.backup_first
    components = application.profile.components
    critical = any(item.critical and item.backup for item in components)
    if wanted is BackupFirst.NONE or (wanted is not BackupFirst.ALL and not critical):
        return None
    covered = application
    if wanted is not BackupFirst.ALL:
        # The others still say what is theirs, where a pattern of a critical one matches it too.
        kept = tuple(dataclasses.replace(item, backup=item.backup and item.critical) for item in components)
        profile = dataclasses.replace(application.profile, components=kept)
        covered = dataclasses.replace(application, profile=profile)
    if not os.path.isdir(application.root) or not any(item.type == "file" for item in scan(covered)):
        return None
    return covered
