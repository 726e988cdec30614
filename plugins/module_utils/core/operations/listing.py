# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The list of backups, for people and programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Optional

from ..application import Application
from ..errors import TradekeepError
from ..ports import Ports
from ..storage.choice import newest_first, passed_over
from ..storage.local import Backup, LocalCatalog
from .key_checks import readable_by_anybody
from .keys import Keys
from .outcome import Outcome
from .state import state_of
from .text import counted, table

_FUTURE = "future"
_WIDE_ENOUGH_FOR_DATES = 80


def list_backups(application: Application, ports: Ports, *, limit: Optional[int] = None) -> Outcome:
    """Every backup, newest first (on a terminal last), with what is known of it, and whether backups are made.

    Those that are dated in the future are listed as if they were the oldest.

    Read-only. A backup with a problem is no finding: ``verify`` judges. That a run failed or is overdue is one.
    limit: list so many of them, the newest.
    """
    now = ports.clock.now()
    catalog = LocalCatalog(application, ports.clock, note=ports.progress.note)
    found = newest_first(catalog.list(), now)
    state, backups = state_of(application, ports, found), found[:limit]
    older = len(found) - len(backups)
    drilled = any(item.drilled_at for item in backups)
    opened_by = _opened_by(application, ports, backups)
    notes = (*readable_by_anybody(application), *_of_others(application, catalog, found))

    def lines(width: Optional[int] = None) -> tuple[str, ...]:
        if not found:
            return (*([] if catalog.gone() else ["no backups yet"]), *notes, *state.lines)
        dated = width is None or width >= _WIDE_ENOUGH_FOR_DATES
        rows = [_row(item, now, opened_by[item.name], dated=dated, drilled=drilled) for item in backups]
        heads = ["backup", "size", *(["made"] if dated else []), "age", "tier", "opens with", "verified"]
        heads += ["drilled"] if drilled else []
        tier = heads.index("tier")
        giving_way = [*([(tier + 3, 7)] if drilled else []), (tier + 1, 7), (tier + 2, 8), (tier, 4), (0, 24)]
        head, *listed = table(heads, rows, width=width, giving_way=giving_way)
        more = [f"and {older} older"] if older else []
        # Where a screen ends, below the last line, is what a person looks for.
        body = (*listed, *more) if width is None else (*more, *reversed(listed))
        problems = (f"{item.name}: {item.problem}" for item in backups if item.problem)
        said = passed_over(found, now)
        return (head, *body, *problems, *([] if said is None else [f"note: {said}"]), *notes, *state.lines)

    record = {
        "backups": [{**item.as_dict(), "opens_with": list(opened_by[item.name])} for item in backups],
        "older": older,
        "state": state.as_dict(),
        "notes": [*notes, *state.notes],
    }
    return Outcome(changed=False, record=record, lines=lines(), fitted=lines, status=state.status)


def _of_others(application: Application, catalog: LocalCatalog, listed: Sequence[Backup]) -> Iterator[str]:
    """What other hosts, or an earlier installation of this one, have made of the same application in the directory."""
    shown = {item.path for item in listed}
    for host, backups in sorted(catalog.others().items()):
        left = [item for item in backups if item.path not in shown]
        if left:
            yield (
                f"{counted(len(left), 'backup')} of {application.name} made on {host} by another installation: "
                f"tradekeep list --host {shlex.quote(host)}"
            )


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
        return _FUTURE
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _drilled(item: Backup, now: datetime) -> str:
    return f"{_ago(item.drilled_at, now)} {item.drilled_verdict or ''}".rstrip() if item.drilled_at else "-"


def _ago(moment: datetime, now: datetime) -> str:
    age = compact_age(moment, now)
    return age if age == _FUTURE else f"{age} ago"


def _opened_by(application: Application, ports: Ports, backups: Sequence[Backup]) -> dict[str, tuple[str, ...]]:
    """The names of the keys that open each; nothing for one that cannot be read at all."""
    keys = Keys(application, ports)
    found: dict[str, tuple[str, ...]] = {}
    for item in backups:
        found[item.name] = ()
        with suppress(TradekeepError):
            found[item.name] = keys.opened_by(item.path)
    return found


def _row(item: Backup, now: datetime, opened_by: Sequence[str], *, dated: bool, drilled: bool) -> list[str]:
    if item.problem:
        verified = "PROBLEM"
    elif item.verified_at is None:
        verified = "never"
    else:
        verified = f"{_ago(item.verified_at, now)} {item.verified_level or ''}".rstrip()
    return [
        item.name,
        compact_bytes(item.size),
        *([f"{item.moment:%Y-%m-%d}"] if dated else []),
        compact_age(item.moment, now),
        item.tier or "-",
        ", ".join(opened_by) or "-",
        verified,
        *([_drilled(item, now)] if drilled else []),
    ]
