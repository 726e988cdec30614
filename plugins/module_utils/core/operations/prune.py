# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Removing the backups that no rule keeps, and refusing to when anything is doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Optional

from ..application import Application, Retention
from ..errors import ExitStatus
from ..ports import Ports
from ..storage.backup import iso, parse_iso
from ..storage.local import LocalCatalog
from ..transaction.lock import application_lock
from .collapses import BEFORE_LOSS, before_losses
from .outcome import Outcome
from .retention import FUTURE_TOLERANCE, Decision, decide, is_future
from .text import counted, human_bytes, table

LONGEST_SILENCE = timedelta(days=45)
"""Longer than any schedule of a tier; from then on a clock that jumped is as likely as a server that was off."""
_TRUST = "set the clock right, or if it is right, run: tradekeep prune --trust-clock"


def prune(application: Application, ports: Ports, *, dry_run: bool, trust_clock: bool = False) -> Outcome:
    """Remove what retention does not keep. Refuses (FINDINGS, nothing removed) unless the newest backup is good.

    dry_run: only explain; takes no lock and writes nothing. trust_clock: a person says that the clock is right.
    """
    catalog = LocalCatalog(application, ports.clock, note=ports.progress.note)
    catalog.require_present()
    if dry_run:
        return _prune(application, ports, catalog, dry_run=True, trust_clock=trust_clock)
    with application_lock(
        Path(application.application_state_dir),
        operation="prune",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.mention,
    ):
        catalog.sweep_leftovers()
        return _prune(application, ports, catalog, dry_run=False, trust_clock=trust_clock)


def _prune(
    application: Application, ports: Ports, catalog: LocalCatalog, *, dry_run: bool, trust_clock: bool
) -> Outcome:
    now, retention = ports.clock.now(), application.profile.retention
    of_another = application.backups_of is not None
    # Never what another installation has made, unless a person says so.
    backups = catalog.list() if of_another else catalog.own()
    decisions = decide(backups, retention, now, partial(before_losses, application))
    last_prune = _believed(parse_iso(catalog.records.read().get("last_prune")), decisions, now, ports)
    doomed = [item for item in decisions if not item.keep]
    refusal = None if trust_clock else doubt_clock(decisions, retention, now, last_prune)
    refusal = refusal or refuse(decisions, now) or _doubt(catalog)
    if refusal is None and not dry_run:
        _remove(ports, catalog, doomed)
        if doomed:
            catalog.refresh_latest()
        if not of_another:
            catalog.records.set(last_prune=iso(now), lost=None)
    return _outcome(decisions, doomed if refusal is None else [], refusal, dry_run)


def _believed(
    last_prune: Optional[datetime], decisions: Sequence[Decision], now: datetime, ports: Ports
) -> Optional[datetime]:
    """When the last prune was, or None where it tells of a clock that was wrong that night, and is right now.

    Backups go on until now, by this clock. Should they do so by chance, a clock that is behind removes nothing that a
    right one would keep: what is dated after it is not counted, and stays.
    """
    if last_prune is None or last_prune <= now + FUTURE_TOLERANCE:
        return last_prune
    present = [item.backup.moment for item in decisions if item.backup.good and not is_future(item.backup, now)]
    if not present or now - present[0] > LONGEST_SILENCE:
        return last_prune
    ports.progress.note(f"passed over, as dated in the future: the last prune at {iso(last_prune)}")
    return now


def doubt_clock(
    decisions: Sequence[Decision], retention: Retention, now: datetime, last_prune: Optional[datetime]
) -> Optional[str]:
    """Why the clock may be wrong, or None.

    It is believed as far as it went on from the last prune. A backup that is dated in the future then only tells of a
    clock that was wrong for a while; without a last prune, it is this clock that may have gone back.
    """
    if last_prune is not None and now + FUTURE_TOLERANCE < last_prune:
        return f"the clock went back: the last prune was at {iso(last_prune)}, now is {iso(now)} ({_TRUST})"
    good = [item.backup for item in decisions if item.backup.good]
    if last_prune is None and good:
        newest = good[0]
        if newest.moment > now + FUTURE_TOLERANCE:
            return f"the newest good backup is dated in the future: {newest.name} ({_TRUST})"
    if retention.within_days > 0 and any(not item.keep for item in decisions):
        # Only this rule measures time: one backup of a clock that jumped forward would make all others too old.
        moments = [item.moment for item in good if not is_future(item, now)]
        after = _after_silence(moments, last_prune)
        if after is not None:
            return f"the clock may have jumped forward: there is nothing for long before {iso(after)} ({_TRUST})"
    return None


def _after_silence(moments: Sequence[datetime], last_prune: Optional[datetime]) -> Optional[datetime]:
    """Where something begins again after a long silence since the last prune; moments: newest first."""
    known = [moment for moment in moments if last_prune is None or moment > last_prune]
    known += [] if last_prune is None else [last_prune]
    gaps = (later for later, earlier in zip(known, known[1:]) if later - earlier > LONGEST_SILENCE)
    return next(gaps, None)


def refuse(decisions: Sequence[Decision], now: datetime) -> Optional[str]:
    """Why nothing may be removed now whatever the rules say, or None. What is dated in the future tells nothing."""
    present = [item.backup for item in decisions if not is_future(item.backup, now)]
    if not present:
        return None
    newest = present[0]
    if not newest.good:
        return f"the newest backup is not good: {newest.name}: {newest.problem or 'not verified'}"
    if not any(item.keep and item.backup.good for item in decisions):
        return "no good backup would be left"
    return None


def _doubt(catalog: LocalCatalog) -> Optional[str]:
    """A backup that was known to be bad may pass for good when the results of verifications were lost."""
    unproven = catalog.unproven()
    if not unproven:
        return None
    left = counted(len(unproven), "backup")
    return f"what verifications found was lost: run 'tradekeep verify all' first ({left} to look at)"


def _remove(ports: Ports, catalog: LocalCatalog, doomed: Sequence[Decision]) -> None:
    """The oldest first, so that an interrupted prune leaves the newer ones."""
    ports.progress.start("pruning", len(doomed), "backups")
    for decision in reversed(doomed):
        ports.step(f"prune {decision.backup.name}")
        catalog.remove(decision.backup)
        ports.progress.advance(1)
    ports.progress.finish()


def _outcome(
    decisions: Sequence[Decision], doomed: Sequence[Decision], refusal: Optional[str], dry_run: bool
) -> Outcome:
    freed = sum(item.backup.size for item in doomed)
    record: dict[str, Any] = {
        "removed": [item.backup.name for item in doomed],
        "kept": [item.backup.name for item in decisions if item.keep or refusal is not None],
        "freed": freed,
        "refused": refusal,
        "decisions": [
            {"name": item.backup.name, "keep": item.keep, "reasons": list(item.reasons)} for item in decisions
        ],
    }
    said = [f"note: {text}" for text in _remarks(decisions)]
    if refusal is not None:
        said.append(f"nothing was removed: {refusal}")
    else:
        verb = "would remove" if dry_run else "removed"
        said.append(f"{verb} {len(doomed)} of {counted(len(decisions), 'backup')}, {human_bytes(freed)}")

    def lines(width: Optional[int] = None) -> tuple[str, ...]:
        explained = explain(decisions, width) if dry_run or refusal is not None else []
        return (*explained, *said)

    return Outcome(
        changed=bool(doomed),
        record=record,
        lines=lines(),
        before={"backups": sorted(item.backup.name for item in decisions)},
        after={"backups": sorted(set(record["kept"]))},
        status=ExitStatus.DONE if refusal is None else ExitStatus.FINDINGS,
        fitted=lines,
    )


def explain(decisions: Sequence[Decision], width: Optional[int] = None) -> list[str]:
    """Each decision on one line, of at most so many characters."""
    rows = [["keep" if item.keep else "remove", item.backup.name, ", ".join(item.reasons)] for item in decisions]
    return table(["what", "backup", "why"], rows, width=width, giving_way=((2, 16), (1, 24))) if rows else []


def _remarks(decisions: Sequence[Decision]) -> list[str]:
    """What is kept although no rule asks for it, so that somebody looks."""
    remarks = []
    for item in decisions:
        why = item.reasons[0]
        if why.startswith(BEFORE_LOSS):
            why += f" (find out what was lost, or let it go with: tradekeep release {item.backup.name})"
        if why.startswith((BEFORE_LOSS, "not counted", "dated")):
            remarks.append(f"{item.backup.name}: {why}")
    return remarks
