# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The list of backups, for people and programs."""

from __future__ import annotations

from datetime import datetime

from ..application import Application
from ..ports import Ports
from ..storage.local import Backup, LocalCatalog
from .outcome import Outcome
from .text import table


def list_backups(application: Application, ports: Ports) -> Outcome:
    """Every backup, newest first, with what is known of it. Read-only, and no finding: ``verify`` judges."""
    now = ports.clock.now()
    backups = LocalCatalog(application, ports.clock, note=ports.progress.note).list()
    rows = [_row(item, now) for item in backups]
    lines = table(["backup", "size", "age", "tier", "gpg", "verified"], rows) if rows else ["no backups yet"]
    lines += [f"{item.name}: {item.problem}" for item in backups if item.problem]
    return Outcome(changed=False, record={"backups": [item.as_dict() for item in backups]}, lines=tuple(lines))


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a text that is too long, since both ends of a backup's name matter."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    if len(clean) <= width:
        return clean
    tail = (width - 2) // 2
    return clean[: width - 2 - tail] + ".." + clean[-tail:]


def compact_bytes(count: int) -> str:
    """At most six characters: ``1023B``, ``1.5M``."""
    value = float(count)
    for unit in "BKMG":
        if value < 1000:
            return f"{value:.0f}{unit}" if unit == "B" or value >= 100 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}T"


def compact_age(moment: datetime, now: datetime) -> str:
    """The age in its largest unit; ``future`` when there is none."""
    seconds = int((now - moment).total_seconds())
    if seconds < 0:
        return "future"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _row(item: Backup, now: datetime) -> list[str]:
    if item.problem:
        verified = "PROBLEM"
    elif item.verified_at is None:
        verified = "never"
    else:
        verified = f"{compact_age(item.verified_at, now)} ago {item.verified_level or ''}".rstrip()
    return [
        shorten(item.name, 36),
        compact_bytes(item.size),
        compact_age(item.moment, now),
        shorten(item.tier or "-", 7),
        "yes" if item.encrypted else "no",
        shorten(verified, 12),
    ]
