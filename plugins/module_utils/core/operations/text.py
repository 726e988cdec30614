# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Plain text for people: sizes, ages and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ..formatting import counted, printable

__all__ = ["counted", "first_lines", "human_bytes", "human_seconds", "shorten", "table"]
_WIDEST_CELL = 300
_LISTED = 100
"""So many lines of a list fit on a terminal that somebody scrolls back."""


def first_lines(lines: Sequence[str], most: int = _LISTED, where: str = "see it all with | less") -> tuple[str, ...]:
    """The beginning of a list that is too long, and how much more there is."""
    left = len(lines) - most
    return tuple(lines) if left <= 0 else (*lines[:most], f"and {left} more ({where})")


def human_bytes(count: float) -> str:
    """A size with a binary prefix, as ``ls -h`` shows it: ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def first_few(texts: Sequence[str], limit: int) -> str:
    """The first of several texts, and how many more there are: ``a; b and 7 more``."""
    shown = "; ".join(texts[:limit])
    return shown if len(texts) <= limit else f"{shown} and {len(texts) - limit} more"


def stopped_for(stopped: Sequence[str], seconds: float) -> str:
    """What an operation stopped and for how long, which may be nothing."""
    return f"services were stopped for {seconds:.2f} s" if stopped else "no service ran, so none was stopped"


def human_seconds(seconds: float) -> str:
    """A duration in its two largest units: ``3 d 4 h``."""
    left = int(seconds)
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        amount, left = divmod(left, size)
        if amount:
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2]) or "0 s"


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a text that is too long, since both ends of a backup's name matter."""
    if len(text) <= width:
        return text
    tail = (width - 2) // 2
    return text[: width - 2 - tail] + ".." + text[-tail:]


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: Optional[int] = None,
    giving_way: Sequence[tuple[int, int]] = (),
) -> list[str]:
    """Columns as wide as their widest cell as it is shown, two spaces between them.

    width: how wide lines may be, None for as wide as they get. giving_way: the columns that are shortened where that
    is not enough, the first to give way first, and how narrow each may get.
    """
    cells = [[printable(cell, _WIDEST_CELL) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    excess = 0 if width is None else sum(widths) + 2 * (len(widths) - 1) - width
    for column, least in giving_way:
        given = min(max(excess, 0), max(widths[column] - least, 0))
        widths[column] -= given
        excess -= given
    return ["  ".join(shorten(cell, wide).ljust(wide) for cell, wide in zip(row, widths)).rstrip() for row in cells]
