# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which backups to keep: restic's calendar buckets, decided from the backups' own dates.

Of each day (ISO week, month; in UTC) that has a backup the newest one stands for it; days without a backup do not
count. While a rule has not found as many as it may keep, it keeps the oldest backup too. ``within_days`` counts from
the newest good backup, not from the clock. A rule only adds to what is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Callable, Optional

from ..application import Retention
from ..storage import choice
from ..storage.backup import Backup

FUTURE_TOLERANCE = timedelta(days=1)
"""How far behind the last prune this clock may be. No rule but ``within_days`` measures time in smaller steps."""


@dataclass(frozen=True)
class Decision:
    """What becomes of one backup, and why."""

    backup: Backup
    keep: bool
    reasons: tuple[str, ...]


Keeping = Callable[[Sequence[Backup], Collection[str]], Mapping[str, str]]
"""Says of counted backups, newest first, which ones are to be kept whatever the rules say, and why; gets the names of
those that the rules keep, too.
"""


def decide(
    backups: Iterable[Backup], retention: Retention, now: datetime, keeping: Optional[Keeping] = None
) -> tuple[Decision, ...]:
    """Decide about every backup, newest first. Pure; ``now`` only tells which dates lie in the future.

    Only good backups that are neither named nor future-dated are counted. What was made of damaged data takes no place
    from them; once a newer one is good, the same rules decide among those alone. Nothing else is ever removed.
    """
    ordered = sorted(backups, key=_age_order, reverse=True)
    counted = [item for item in ordered if _set_aside(item, now) is None]
    damaged = [item for item in ordered if _is_past(item, counted, now)]
    reasons = _reasons(counted, retention)
    reasons.update({name: [f"damaged, {why}" for why in found] for name, found in _reasons(damaged, retention).items()})
    if keeping is not None:
        for series in (counted, [item for item in ordered if item.name in reasons]):
            kept = frozenset(item.name for item in series if reasons[item.name])
            for name, why in keeping(series, kept).items():
                reasons[name].append(why)
    decisions = []
    for item in ordered:
        aside = _set_aside(item, now) if item.name not in reasons else None
        kept_for = (aside,) if aside is not None else tuple(reasons[item.name])
        decisions.append(Decision(item, bool(kept_for), kept_for or ("no rule keeps it",)))
    return tuple(decisions)


def is_future(backup: Backup, now: datetime) -> bool:
    """Whether a backup claims to be made later than it can have been."""
    return choice.is_future(backup.moment, now)


def keeps_something(retention: Retention) -> bool:
    """Whether any rule is set."""
    return any(getattr(retention, item.name) > 0 for item in fields(retention))


def _age_order(backup: Backup) -> tuple[datetime, str]:
    return backup.moment, backup.name


def _set_aside(backup: Backup, now: datetime) -> Optional[str]:
    """Why a backup is kept without being counted, or None."""
    if backup.pinned:
        return "named"
    if is_future(backup, now):
        return "dated in the future"
    if not backup.good:
        return "not counted: " + (backup.problem or "not verified")
    return None


def _is_past(backup: Backup, good: Sequence[Backup], now: datetime) -> bool:
    """Whether it was made of damaged data, and a newer backup is good."""
    if not backup.damaged or backup.pinned or is_future(backup, now):
        return False
    return bool(good) and backup.moment < good[0].moment


def _reasons(counted: Sequence[Backup], retention: Retention) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {item.name: [] for item in counted}
    if not counted:
        return reasons
    reasons[counted[0].name].append("newest good" if counted[0].good else "newest")
    if not keeps_something(retention):
        for item in counted:
            reasons[item.name].append("no retention rules")
    for item in counted[: max(0, retention.keep_last)]:
        reasons[item.name].append("last")
    if retention.within_days > 0:
        horizon = counted[0].moment - timedelta(days=retention.within_days)
        for item in counted:
            if item.moment >= horizon:
                reasons[item.name].append("within")
    _fill(reasons, counted, retention.daily, "daily", lambda moment: moment.strftime("%Y-%m-%d"))
    _fill(reasons, counted, retention.weekly, "weekly", lambda moment: "{}-W{}".format(*moment.isocalendar()[:2]))
    _fill(reasons, counted, retention.monthly, "monthly", lambda moment: moment.strftime("%Y-%m"))
    return reasons


def _fill(
    reasons: dict[str, list[str]],
    counted: Sequence[Backup],
    places: int,
    rule: str,
    bucket: Callable[[datetime], str],
) -> None:
    """Give each bucket's newest backup a place, and the oldest backup one of those that are left."""
    last = None
    for item in counted:
        if places <= 0:
            return
        current = bucket(item.moment)
        oldest = item is counted[-1]
        if current != last or oldest:
            reasons[item.name].append(rule if current != last else f"{rule} (oldest)")
            places -= 1
        last = current
