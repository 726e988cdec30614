# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""When the next backup is due after the last good one, as the schedules say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional

from ..application import Application, Schedule, Tier
from ..errors import CommandError
from ..ports import Ports
from ..storage.choice import is_future

GRACE = timedelta(hours=2)
"""What a backup may take, from the moment at which its timer starts it."""
_AT_MOST = {Tier.DAILY: timedelta(days=4), Tier.WEEKLY: timedelta(days=8), Tier.MONTHLY: timedelta(days=32)}
"""Between two backups of a tier, weekends included, where systemd cannot say what a calendar means."""
_ELAPSE = re.compile(r"(\(in UTC\)|Next elapse): \w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")


def overdue(application: Application, ports: Ports, last_good: Optional[datetime]) -> Iterator[str]:
    """One line where the last good backup is older than the schedules allow; nothing where no timers are installed."""
    since, now = last_good or _configured_at(application), ports.clock.now()
    if not application.has_units or since is None or not application.profile.schedules:
        return
    if last_good is None and is_future(since, now):
        yield f"no good backup yet; {application.config_file} is dated in the future, so when one was due is not known"
        return
    due = min(_due(ports, item, since) for item in application.profile.schedules)
    if now > due:
        what = "no good backup" if last_good is None else "the last good backup is older than the schedule allows"
        command = "systemctl --user" if application.user_units else "systemctl"
        yield f"{what}: one was due by {due:%Y-%m-%d %H:%M} UTC; see: {command} list-timers 'tradekeep*'"


def _due(ports: Ports, schedule: Schedule, since: datetime) -> datetime:
    """By when a backup of a schedule has to be there, if all is well, after one of that moment."""
    begins = _next(ports, schedule.calendar, since) or since + _AT_MOST.get(schedule.tier, timedelta(days=32))
    return begins + timedelta(seconds=max(0, schedule.jitter_seconds)) + GRACE


def _next(ports: Ports, calendar: str, since: datetime) -> Optional[datetime]:
    if ports.runner.find("systemd-analyze") is None:
        return None
    base = f"--base-time={since.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    argv = ["systemd-analyze", "calendar", base, "--iterations=1", "--", calendar]
    try:
        said = ports.runner.run(argv, check=False, timeout_seconds=30).stdout
    except CommandError:
        return None
    # The second of two lines is the one in UTC.
    found = _ELAPSE.findall(said)
    return datetime.strptime(found[-1][1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc) if found else None


def _configured_at(application: Application) -> Optional[datetime]:
    """Since when there are timers, as far as is known: before, no backup was due."""
    try:
        return datetime.fromtimestamp(int(Path(application.config_file).stat().st_mtime), timezone.utc)
    except OSError:
        return None
