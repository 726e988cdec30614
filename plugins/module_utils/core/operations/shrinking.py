# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What may hold less than it did, and what is a loss: the one place that decides, for backup, prune, drill and deploy.

A bot deletes as well: it works off a queue, purges what is old, compacts a log. What tells that from a loss:

- what the profile says may shrink may shrink to nothing;
- a table that has lost most of its rows before, in a backup that needed no word of a person's, may do so again;
- a table that does it for the first time, in a database that otherwise holds what it held, is drained: worth telling,
  and no more. A database that was lost, emptied or taken back in time has lost most of its rows as a whole, and there
  are not more tables that kept theirs than tables that did not;
- anything else is a loss, as is a table that is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional

from ..application import Application, Component
from ..patterns import code_or_data, matches
from .text import counted

SMALL_TABLE_ROWS = 20
"""Tables this small may lose any share of their rows without it meaning anything."""
MOST_USUAL = 1000
"""Tables of all databases that are remembered; the bot can make any number of them."""
Usual = Mapping[str, Mapping[str, float]]
"""By database and table, how much of its rows a table was seen to lose, in percent."""


class Fewer(NamedTuple):
    """A table that holds far less than it did.

    lost: not just drained. others: how many tables beside it kept their rows.
    """

    table: str
    before: int
    now: int
    lost: bool
    others: int

    @property
    def percent(self) -> float:
        """The share of its rows that is gone."""
        return round(100 * (1 - self.now / self.before), 2)

    def told(self, path: str) -> str:
        """For a person who may know better."""
        return (
            f"{path}: table {self.table} had {counted(self.before, 'row')} and has {self.now} now, the rest of the "
            f"database is there; if that is its use, say in the profile: tables_may_shrink: ['{path}:{self.table}']"
        )


def fewer_rows(
    application: Application,
    path: str,
    before: Mapping[str, Optional[int]],
    now: Mapping[str, Optional[int]],
    usual: Optional[Usual] = None,
) -> list[Fewer]:
    """The tables of a database of which more rows are gone than usual. None stands for a number that is not known."""
    percent = application.profile.maximum_row_loss_percent
    known = {} if usual is None else usual.get(path, {})
    rows, fallen, kept = [], [], 0
    for table, count in before.items():
        left = now.get(table, 0)
        if count is None or left is None or table_may_shrink(application, path, table):
            continue
        # Below the limit it is nobody's matter, above it only where it is new.
        if count >= SMALL_TABLE_ROWS and _is_below(left, count, percent):
            if table in now and _is_usual(count, left, known.get(table)):
                continue
            fallen.append((table, count, left))
        elif count >= SMALL_TABLE_ROWS:
            kept += 1
        rows.append((count, min(count, left)))
    whole, held = sum(count for count, _left in rows), sum(left for _count, left in rows)
    lost = kept <= len(fallen) and _is_below(held, whole, percent)
    return [Fewer(table, count, left, lost or table not in now, kept) for table, count, left in fallen]


def with_usual(usual: Usual, path: str, found: Fewer) -> dict[str, dict[str, float]]:
    """What was known to be usual, and what is from now on."""
    merged = {name: dict(tables) for name, tables in usual.items()}
    tables = merged.setdefault(path, {})
    if found.table in tables or sum(map(len, merged.values())) < MOST_USUAL:
        tables[found.table] = max(found.percent, tables.get(found.table, 0.0))
    return merged


def table_may_shrink(application: Application, path: str, table: str) -> bool:
    """Whether the profile says that a table may lose any number of its rows."""
    if component_of(application, path) is None or file_may_shrink(application, path):
        return True
    return any(matches(pattern, f"{path}:{table}") for pattern in application.profile.tables_may_shrink)


def file_may_shrink(application: Application, path: str) -> bool:
    """Whether the profile says that a file, or a database, may lose what it holds, or be gone."""
    classified = code_or_data(application.profile, path)
    if classified is not None and classified.may_shrink:
        return True
    return any(matches(pattern, path) for pattern in application.profile.tables_may_shrink)


def collapsed(before: int, now: int, percent: float, few: int) -> bool:
    """Whether more than a share was lost, and not just a few; or all of it."""
    if percent >= 100 or now >= before * (1 - percent / 100):
        return False
    return now == 0 or before - now >= few


def component_of(application: Application, path: str) -> Optional[Component]:
    """None for what the profile does not keep any more; somebody has said so there."""
    classified = code_or_data(application.profile, path)
    return None if classified is None or not classified.component.backup else classified.component


def _is_below(left: int, before: int, percent: float) -> bool:
    return left < before * (1 - percent / 100)


def _is_usual(before: int, left: int, seen_percent: Optional[float]) -> bool:
    """Whether at least half of what was left the last time is left now."""
    return seen_percent is not None and left >= before * (1 - seen_percent / 100) / 2
