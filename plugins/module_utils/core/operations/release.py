# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Releasing a backup that is kept for its name, or as the last before a loss: then the rules alone decide about it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from ..application import Application
from ..errors import UsageError
from ..ports import Ports
from ..storage.belonging import refuse_of_another
from ..storage.local import Backup, LocalCatalog
from ..transaction.lock import application_lock
from .collapses import BEFORE_LOSS, before_losses
from .outcome import Outcome
from .retention import Decision, decide


def release(application: Application, ports: Ports, *, reference: str, dry_run: bool = False) -> Outcome:
    """Let the rules decide about a backup that was kept for another reason, and say what they decide now.

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
    if all(item.path != backup.path for item in catalog.list()):
        if backup.application in (None, application.name):
            refuse_of_another(backup.path, catalog.maker)
        raise UsageError(
            "is a backup of another application, whose retention decides about it",
            path=backup.path,
            hint=f"choose --app {backup.application}" if backup.application else None,
        )
    kept = backup.pinned or _is_before_loss(_decision(application, ports, catalog, backup))
    if kept and not dry_run:
        catalog.release(backup)
    left = replace(backup, pinned=False, released=True) if kept else backup
    return _outcome(backup, kept, _decision(application, ports, catalog, left), dry_run)


def _is_before_loss(decision: Decision) -> bool:
    return any(reason.startswith(BEFORE_LOSS) for reason in decision.reasons)


def _decision(application: Application, ports: Ports, catalog: LocalCatalog, backup: Backup) -> Decision:
    """What retention says of a backup as it is given."""
    backups = [backup if item.name == backup.name else item for item in catalog.list()]
    keeping = partial(before_losses, application)
    decisions = decide(backups, application.profile.retention, ports.clock.now(), keeping)
    return next(item for item in decisions if item.backup.name == backup.name)


def _outcome(backup: Backup, kept: bool, decision: Decision, dry_run: bool) -> Outcome:
    released = "would be released" if dry_run else "released"
    done = released if kept else "is not kept for its name"
    reasons = ", ".join(decision.reasons)
    fate = f"retention keeps it: {reasons}" if decision.keep else f"the next prune removes it: {reasons}"
    return Outcome(
        changed=kept,
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
