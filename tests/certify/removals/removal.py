# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What it means to take a guard out of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ENGINE = Path("plugins/module_utils/core")


class Moved(Exception):
    """The text of a guard is not in the engine, or not only once."""


@dataclass(frozen=True)
class Removal:
    """One guard, how to take it out, and the tests of which one must then fail.

    place: a file or directory of the engine in which ``old`` occurs exactly once. tests: as pytest names them. more:
    further pairs of old and new text in the same place, where another guard would stand in for the one removed. Where a
    guard consists in not making an assumption, the new text makes it.
    """

    hazard: str
    guard: str
    place: str
    old: str
    new: str
    tests: tuple[str, ...]
    more: tuple[tuple[str, str], ...] = ()


def changed(removal: Removal, top: Path) -> dict[Path, str]:
    """The engine's files below ``top`` without the guard. Raises Moved, or SyntaxError where the rest is no Python."""
    place = top / ENGINE / removal.place
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    texts = {path: path.read_text(encoding="utf-8") for path in files if path.is_file()}
    result: dict[Path, str] = {}
    for old, new in ((removal.old, removal.new), *removal.more):
        holding = [path for path in texts if old in texts[path]]
        count = sum(texts[path].count(old) for path in holding)
        if count != 1:
            raise Moved(f"its text occurs {count} times in {removal.place}, so mend tests/certify/removals: {old!r}")
        texts[holding[0]] = result[holding[0]] = texts[holding[0]].replace(old, new)
    for path, text in result.items():
        compile(text, str(path), "exec")
    return result
