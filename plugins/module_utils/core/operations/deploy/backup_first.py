# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The backup before a deploy, of the critical components or of everything: the way back if new code ruins data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional

from ...application import Application, Tier
from ...deploy_settings import BackupFirst
from ...ports import Ports
from ...storage.backup import Backup
from ...storage.local import LocalCatalog
from ...storage.names import DEPLOY_LABEL
from ..backup import make_backup
from ..backup_plan import ASSUMED_RATIO, BackupPlan, choose_encryption
from ..scan import gathered_scan, scan


def backup_first(application: Application, ports: Ports) -> Optional[Backup]:
    """Make the backup that the profile asks for; None where it asks for none, or where there is no data yet."""
    covered = _covered(application)
    if covered is None or not Path(application.root).is_dir():
        return None
    found = [item for item in scan(covered) if item.type == "file"]
    if not found:
        return None
    size = sum(item.size for item in found)
    largest = max((item.size for item in found if item.kind == "sqlite"), default=0)
    plan = BackupPlan(
        tier=Tier.MANUAL,
        name=DEPLOY_LABEL,
        encryption=choose_encryption(covered, Tier.MANUAL, None),
        directory=Path(application.backup_dir),
        files=len(found),
        bytes=size,
        largest_database=largest,
        components={},
        missing=(),
        excluded=(),
        previous=None,
        space_needed=int(size * ASSUMED_RATIO) + largest + (1 << 20),
    )
    made, _account = make_backup(covered, ports, plan, scan_again=lambda: gathered_scan(covered))
    return made


def forget_old_backups(application: Application, ports: Ports, keep: int) -> None:
    """Of the backups that deploys made, the newest stay."""
    if not Path(application.backup_dir).is_dir():
        return
    catalog = LocalCatalog(application, ports.clock)
    ours = [item for item in catalog.list() if item.label == DEPLOY_LABEL and item.good]
    for backup in ours[keep:]:
        catalog.remove(backup)


def _covered(application: Application) -> Optional[Application]:
    wanted = application.profile.deploy.backup_first
    if wanted is BackupFirst.ALL:
        return application
    critical = tuple(item for item in application.profile.components if item.critical and item.backup)
    if wanted is BackupFirst.NONE or not critical:
        return None
    return dataclasses.replace(application, profile=dataclasses.replace(application.profile, components=critical))
