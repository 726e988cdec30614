# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which backup is the latest one. A night with a wrong clock must not hide the backups that are made after it.

A name that lies in the future tells of a clock that was wrong when it was made, or is wrong now. Such a backup is
listed, kept and can be named, but it is passed over wherever the newest one is wanted, for as long as there is another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Optional

from .backup import Backup, iso

CLOCK_TOLERANCE = timedelta(minutes=5)
"""What a clock that is kept right by the network may be corrected by. An hour is a wrong time zone already."""


def is_future(moment: datetime, now: datetime) -> bool:
    """Whether a moment lies further in the future than a small correction of the clock explains."""
    return moment > now + CLOCK_TOLERANCE


def newest_first(backups: Iterable[Backup], now: datetime) -> list[Backup]:
    """The newest first, and after all others those that are dated in the future."""
    return sorted(backups, key=lambda item: (not is_future(item.moment, now), item.moment, item.name), reverse=True)


def latest_of(backups: Iterable[Backup], now: datetime) -> Optional[Backup]:
    """The newest good one that is no safety backup; one of the future only where there is no other."""
    return next(iter(newest_first((item for item in backups if item.good and not item.is_safety), now)), None)


def passed_over(backups: Sequence[Backup], now: datetime) -> Optional[str]:
    """What is to be said of backups that ``latest_of`` passed over for their date, or None."""
    future = [item for item in backups if item.good and not item.is_safety and is_future(item.moment, now)]
    if not future:
        return None
    chosen = latest_of(backups, now)
    if chosen in future:
        return f"every good backup is dated in the future, now is {iso(now)}: is the clock of this host right?"
    more = f" and {len(future) - 1} more" if len(future) > 1 else ""
    return said_of_the_future(f"{future[0].name}{more}", now)


def said_of_the_future(named: str, now: datetime) -> str:
    """What is to be said of what was passed over for its date, be it a backup or a record."""
    return f"passed over, as dated in the future: {named}; the clock was wrong then, or is now ({iso(now)})"
