# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The backup before a deploy, of the critical components or of everything: the way back if new code ruins data."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Optional

from ...application import Application, Tier
from ...deploy_settings import BackupFirst
from ...host.filesystem.identity import privileged, with_privileges
from ...ports import Ports
from ...storage.backup import Backup
from ...storage.local import LocalCatalog
from ...storage.names import DEPLOY_LABEL
from ..backup import back_up
from ..backup_plan import BackupPlan, choose_encryption
from ..keys import require_usable_keys
from ..scan import gathered_scan, scan


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


def check_backup_first(application: Application, ports: Ports) -> None:
    """Raises where ``backup_first`` could not encrypt; writes nothing."""
    covered = _covered(application)
    if covered is not None and choose_encryption(covered, Tier.MANUAL, None).configured:
        require_usable_keys(covered, ports)


@with_privileges
def forget_old_backups(application: Application, ports: Ports, keep: int) -> None:
    """Of the backups that deploys made, the newest stay."""
    if not Path(application.backup_dir).is_dir():
        return
    catalog = LocalCatalog(application, ports.clock)
    ours = [item for item in catalog.list() if item.label == DEPLOY_LABEL and item.good]
    for backup in ours[keep:]:
        catalog.remove(backup)


def _covered(application: Application) -> Optional[Application]:
    """What is backed up; None where nothing is to be, or where there is no data yet."""
    wanted = application.profile.deploy.backup_first
    critical = tuple(item for item in application.profile.components if item.critical and item.backup)
    if wanted is BackupFirst.NONE or (wanted is not BackupFirst.ALL and not critical):
        return None
    covered = application
    if wanted is not BackupFirst.ALL:
        profile = dataclasses.replace(application.profile, components=critical)
        covered = dataclasses.replace(application, profile=profile)
    if not os.path.isdir(application.root) or not any(item.type == "file" for item in scan(covered)):
        return None
    return covered
