# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Releasing a named backup: from then on retention decides about it, as about any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..application import Application
from ..errors import UsageError
from ..ports import Ports
from ..storage.local import Backup, LocalCatalog
from ..transaction.lock import application_lock
from .outcome import Outcome
from .retention import Decision, decide


def release(application: Application, ports: Ports, *, reference: str, dry_run: bool = False) -> Outcome:
    """Let retention decide about a backup that was kept for its name, and say what it decides now.

    Releasing again changes nothing.
    """
    if dry_run:
        return _release(application, ports, reference, dry_run=True)
    with application_lock(
        Path(application.application_state_dir),
        operation="release",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.mention,
    ):
        return _release(application, ports, reference, dry_run=False)


def _release(application: Application, ports: Ports, reference: str, *, dry_run: bool) -> Outcome:
    catalog = LocalCatalog(application, ports.clock, note=ports.progress.note)
    backup = catalog.find(reference)
    if backup.path.parent != Path(application.backup_dir):
        raise UsageError("is not in the backup directory, where alone backups are pruned", path=backup.path)
    if backup.pinned and not dry_run:
        catalog.release(backup)
    return _outcome(backup, _decision(application, ports, catalog, backup), dry_run)


def _decision(application: Application, ports: Ports, catalog: LocalCatalog, backup: Backup) -> Decision:
    backups = [replace(item, pinned=False) if item.name == backup.name else item for item in catalog.list()]
    decisions = decide(backups, application.profile.retention, ports.clock.now())
    return next(item for item in decisions if item.backup.name == backup.name)


def _outcome(backup: Backup, decision: Decision, dry_run: bool) -> Outcome:
    released = "would be released" if dry_run else "released"
    done = released if backup.pinned else "is not kept for its name"
    reasons = ", ".join(decision.reasons)
    fate = f"retention keeps it: {reasons}" if decision.keep else f"the next prune removes it: {reasons}"
    return Outcome(
        changed=backup.pinned,
        record={
            "backup": backup.name,
            "pinned": backup.pinned and dry_run,
            "keep": decision.keep,
            "reasons": list(decision.reasons),
        },
        lines=(f"{backup.name}: {done}; {fate}",),
        before={"pinned": backup.pinned},
        after={"pinned": False},
    )
