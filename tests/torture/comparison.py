#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""``make comparison``: plays every case against the known ways and tradekeep, writes docs/deploy-comparison.md.

comparison.py [CASE ...]       prints the rows of some cases and writes nothing
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests" / "certify"), str(TOP / ".cache" / "collections")]

from bot import DATABASE, DOCUMENT, LOG
from cases import Case, play
from catalogue import CASES
from deployers import AnsibleGit, CopyAway, Deployer
from judging import Damage
from surviving import policies, survive

GUIDE = TOP / "docs" / "deploy-comparison.md"
BEGIN, END = "<!-- begin: make comparison -->", "<!-- end -->"
KEPT, LOSES = "nothing lost", "**loses:** "
HEAD = "| | What happens | reset and clean | ansible.builtin.git | copy away and back | another way | tradekeep |"
WORST_FIRST = ("deleted", "became", "overwritten", "is back", "ran as root", "edits lost", "lines lost", "rows lost")
GONE = "is another file than the bot writes to"
MOST = 2


def summary(found: list[Damage], way: Deployer) -> str:
    """What a known way did, in a cell of the table."""
    if not found:
        return KEPT
    said, rest = [], found
    if isinstance(way, CopyAway):
        meanwhile = {(LOG, "lines lost"), (DATABASE, "rows lost"), (DOCUMENT, "is an older one")}
        written = {*meanwhile, (LOG, GONE), (DATABASE, GONE), ("the bot", "cannot write any more")}
        rest = [damage for damage in found if (damage.path, damage.what) not in written]
        said = ["what the bot wrote meanwhile"] if len(rest) < len(found) else []
    rest = sorted(_plainly(rest), key=lambda damage: (_rank(damage), damage.path))
    said += [str(damage) for damage in rest[:MOST]]
    more = f" and {len(rest) - MOST} more" if len(rest) > MOST else ""
    return LOSES + ", ".join(said) + more


def _plainly(found: list[Damage]) -> list[Damage]:
    """A directory that is gone stands for what was in it, and lost lines for why they are lost."""
    gone = {damage.path for damage in found if damage.what == "deleted" or damage.what.startswith("became a ")}
    lost = {damage.path for damage in found if damage.what.endswith("lost")}
    first = [damage for damage in found if damage.what != GONE or damage.path not in lost]
    return [damage for damage in first if not gone.intersection(map(str, Path(damage.path).parents))]


def _rank(damage: Damage) -> int:
    return next((rank for rank, word in enumerate(WORST_FIRST) if damage.what.startswith(word)), len(WORST_FIRST))


def ours(case: Case) -> str:
    """What tradekeep does, as the assertions of the suite hold it to."""
    for policy in policies(case):
        survive(case, policy)
    return expected(case)


def expected(case: Case) -> str:
    """What tradekeep promises in a case."""
    if not case.refuses:
        return KEPT
    named = ", ".join(f"`{path}`" for path in case.refuses if path != "live") or "the space that is missing"
    said = f"refuses and names {named}; nothing written"
    return f"{said}. With `keep_live` it goes on, {KEPT}" if case.proceeds else said


def row(case: Case) -> str:
    """The line of a case."""
    cells = [f"D{case.hazard}", f"<a id='{case.name}'></a>{case.title}"]
    others = []
    for way in case.known_ways():
        whole = replace(way, whole=True) if isinstance(way, AnsibleGit) else way
        said = summary(play(case, whole), way)
        if way in case.others:
            others.append(f"{way.name}: {said}")
        else:
            cells.append(said)
    return "| " + " | ".join([*cells, "<br>".join(others), ours(case)]) + " |"


def rows(cases: tuple[Case, ...]) -> Iterator[str]:
    """All lines, two at a time."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        for line in pool.map(row, cases):
            print(line, flush=True)
            yield line


def write(lines: list[str]) -> None:
    """Put the table between its marks."""
    before, rest = GUIDE.read_text(encoding="utf-8").split(BEGIN)
    table = "\n".join([HEAD, "|---|---|---|---|---|---|---|", *lines])
    GUIDE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main() -> int:
    wanted = set(sys.argv[1:])
    if wanted:
        list(rows(tuple(case for case in CASES if case.name in wanted)))
    else:
        write(list(rows(CASES)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
