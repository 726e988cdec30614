#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The hazards that the project promises to survive, and the tests that show each: ``docs/hazards.md``.

    python3 tests/certify/hazards.py            # writes them into docs/hazards.md
    python3 tests/certify/hazards.py --check    # says what has no test; ends with 1 when there is such

A test belongs to a hazard by its name: ``test_hazard_a1_wal_rows_survive``.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from removals import REMOVALS

TOP = Path(__file__).resolve().parents[2]
GUIDE = TOP / "docs" / "hazards.md"
BEGIN, END = "<!-- begin: tests/certify/hazards.py -->", "<!-- end -->"
NAME = re.compile(r"test_hazard_([a-e]\d+)(?:_|$)")

HAZARDS = {
    "a1": "A live database copied without its `-wal` loses committed rows and still passes `integrity_check`",
    "a2": "Reading a database leaves `-wal` or `-shm` files of another owner, and the bot cannot write any more",
    "a3": "A database that is missing, empty or has lost its rows is backed up as if nothing were wrong",
    "a4": "Corrupt databases raise odd errors; the quick check misses what the full one finds; odd table names",
    "a5": "A primary key of NULL repeats in SQLite",
    "a6": "Documents and logs change while they are read",
    "a8": "JSON in the wild: byte order marks, several documents, NaN, deep nesting, garbage behind good gzip members",
    "a9": "Dotfiles, empty directories, links, difficult names, large files, sockets and FIFOs",
    "b1": "An archive under its final name before it is whole, readable by all, or plaintext left behind",
    "b2": "A checksum file that `sha256sum -c` refuses beside the archive",
    "b3": "A failed step that does not reach the exit status",
    "b4": "Pruning that deletes the last good backup, counts bad ones, or believes a clock that jumped",
    "b5": "A lock that outlives its process",
    "b6": "A full disk, no more inodes, a backup directory inside the data",
    "b8": "Passphrases on a command line; keys that cannot decrypt on the day",
    "b9": "Timers that miss their time, units that fail in silence, services that die after a good start",
    "c1": "A restore that deletes first, leaves a stale WAL, or is left half done",
    "c2": "Archives that attack",
    "c3": "Ownership by number",
    "c4": "Archives of the old scripts, without a manifest, in two layouts",
    "c5": "A restore while the bot runs, into a full disk, over a symlink or another filesystem",
    "c6": "A restore of what is already there",
    "d1": "Upstream begins to track a file that is live data",
    "d2": "The rollback of such a deploy deletes it",
    "d3": "Upstream ceases to track data, or removes the last `.gitkeep` of a directory for data",
    "d4": "A directory of data becomes a symlink, a file or a submodule upstream",
    "d5": "The rule that ignores data disappears, or data is tracked although ignored",
    "d6": "The data is behind a symlink or a bind mount",
    "d7": "Repositories inside of the data; sparse-checkout and skip-worktree as a protection",
    "d8": "A lock that is left over or held, a full disk, a failing filter: half of one commit and half of another",
    "d9": "Data copied away and back: what is written meanwhile, what does not fit, what was left of a failed run",
    "d10": "Files that the bot has open are replaced, and it writes to what is no more",
    "d11": "Commits, merges, stashes and edits that only the server has",
    "d12": "Shallow clones, hooks that run as root, private files that become public, names that differ in case",
    "d13": "What an export leaves out: `export-ignore`, submodules, LFS",
    "d14": "Deployers' own flaws: locks, health checks that look once, no way back, cleaning up, jobs that are cut off",
    "d15": "A proof that cannot tell what the bot wrote from what the deploy damaged",
    "e1": "A bot that runs on two servers at once trades twice; one that writes on is left behind",
    "e2": "A move that is cut off: the link, the power or a process dies between the stop and the start",
    "e3": "A new server on which the bot does not start, and no way back",
    "e4": "What arrives is not what was sent, and nobody compares",
    "e5": "Modes of the old server on the new one, stale files under the new data, dry runs that write",
    "e6": "A source that is not what it seems writes where it should not",
}
# Hazards of later parts of the project: Delta tables (A7) and off-site storage (B7).


def tests_of_hazards() -> dict[str, list[tuple[str, str]]]:
    """The tests of each hazard as (file, name)."""
    found: dict[str, list[tuple[str, str]]] = {hazard: [] for hazard in HAZARDS}
    for place in ("tests", "molecule"):
        for path in sorted((TOP / place).rglob("test_*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
                named = NAME.match(node.name) if isinstance(node, ast.FunctionDef) else None
                if named and named[1] in found:
                    found[named[1]].append((str(path.relative_to(TOP)), node.name))  # type: ignore[attr-defined]
    return found


def missing() -> list[str]:
    """The hazards that no test is named for."""
    return [hazard for hazard, tests in tests_of_hazards().items() if not tests]


def account() -> str:
    """What the guide says of each hazard."""
    lines: list[str] = []
    for hazard, tests in tests_of_hazards().items():
        guards = [item.guard for item in REMOVALS if item.hazard == hazard]
        lines += [f"## {hazard.upper()}. {HAZARDS[hazard]}", ""]
        if guards:
            lines += ["Guards; without any one of them a test fails:", "", *(f"- {guard}" for guard in guards), ""]
        shown = [f"- [`{name[len('test_hazard_') :]}`](../{path})" for path, name in tests] or ["- **none yet**"]
        lines += ["Tests:", "", *shown, ""]
    return "\n".join(lines)


def write() -> None:
    """Put the account between its marks."""
    text = GUIDE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END, 1)[1]
    GUIDE.write_text(f"{before}{BEGIN}\n{account()}\n{END}{after}", encoding="utf-8")


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        for hazard in missing():
            print(f"no test for {hazard.upper()}: {HAZARDS[hazard]}")
        return 1 if missing() else 0
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
