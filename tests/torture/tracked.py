# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""HAZARDS D 1 to 5: what upstream begins or ceases to track, turns into something else, or no longer ignores."""

from __future__ import annotations

from collections.abc import Callable

from bot import DATABASE, LOG
from cases import Case
from deployers import AnsibleGit
from world import DATA, IGNORED, Change, Link, Submodule, World

RESET, ANSIBLE = "reset and clean", "ansible.builtin.git"
ALL = (RESET, ANSIBLE)
PRICES = "data/history/prices.csv"
# A real repository has so many data files that are tracked although they are ignored.
MANY: dict[str, Change] = {f"paper_trading_outputs/24h/day{number:03d}.csv": b"id\n1\n" for number in range(201)}


def appended(*paths: str) -> Callable[[World], None]:
    """The server's copies have grown since they were committed."""

    def prepare(world: World) -> None:
        world.put({path: (world.live / path).read_bytes() + b"2,live\n" for path in paths})

    return prepare


def only_placeholders(world: World) -> None:
    """The directories for what is to come hold nothing but the placeholder that git brought."""
    assert [path.name for path in (world.live / "data/inbox").iterdir()] == [".gitkeep"]


CASES = (
    Case(
        "log-becomes-tracked",
        1,
        "upstream begins to track the live log",
        push={LOG: '{"line": 0}\n'},
        loses=ALL,
        others=(AnsibleGit(force=False, name="ansible.builtin.git, force: false"),),
        refuses=(LOG,),
        kept=(LOG,),
    ),
    Case(
        "database-becomes-tracked",
        1,
        "upstream begins to track the live database",
        push={DATABASE: b"SQLite format 3\0" + bytes(4080)},
        loses=ALL,
        refuses=(DATABASE,),
        kept=(DATABASE,),
    ),
    Case(
        "key-becomes-tracked",
        1,
        "somebody commits a `.env` with example keys",
        push={".env": "API_KEY=example\n"},
        loses=ALL,
        refuses=(".env",),
        kept=(".env",),
    ),
    Case(
        "untracked-file-in-the-way",
        1,
        "upstream adds a file where the bot has put one that nobody ignores",
        live={"models/weights.npy": b"trained here"},
        push={"models/weights.npy": "an example"},
        loses=ALL,
        refuses=("models/weights.npy",),
        kept=("models/weights.npy",),
    ),
    Case(
        "untracked-file-becomes-a-directory",
        1,
        "upstream adds a directory where the bot has put a file",
        live={"signals.jsonl": b'{"signal": 1}\n'},
        push={"signals.jsonl/readme.md": "Signals.\n"},
        loses=ALL,
        refuses=("signals.jsonl",),
        kept=("signals.jsonl/readme.md",),
    ),
    Case(
        "rollback-after-the-same",
        2,
        "upstream tracks a live file as it is, and the deploy is rolled back",
        push={PRICES: DATA[PRICES]},
        back=True,
        loses=ALL,
    ),
    Case(
        "rollback-after-another",
        2,
        "upstream tracks another version of a live file, and the deploy is rolled back",
        push={PRICES: "day,price\n"},
        back=True,
        loses=ALL,
        refuses=(PRICES,),
        kept=(PRICES,),
    ),
    Case(
        "document-ceases-to-be-tracked",
        3,
        "upstream ceases to track a data file that has grown on the server",
        before={PRICES: DATA[PRICES]},
        prepare=appended(PRICES),
        push={PRICES: None},
        precious=(PRICES,),
        loses=ALL,
        kept=(PRICES,),
    ),
    Case(
        "same-document-ceases-to-be-tracked",
        3,
        "upstream ceases to track a data file that is as it was committed",
        before={"data/limits.json": '{"max": 5}\n'},
        push={"data/limits.json": None},
        precious=("data/limits.json",),
        loses=ALL,
        kept=("data/limits.json",),
    ),
    Case(
        "last-placeholder-goes",
        3,
        "upstream removes the last `.gitkeep`; the directory for data goes with it",
        before={"data/inbox/.gitkeep": "", "spool/.gitkeep": ""},
        prepare=only_placeholders,
        push={"data/inbox/.gitkeep": None, "spool/.gitkeep": None},
        precious=("data/inbox", "spool"),
        loses=ALL,
        kept=("data/inbox/.gitkeep",),
    ),
    Case(
        "directory-becomes-a-symlink",
        4,
        "the directory of the data becomes a symlink upstream",
        push={"data": Link("/srv/elsewhere")},
        loses=ALL,
        refuses=("data",),
        kept=("data",),
    ),
    Case(
        "directory-becomes-a-file",
        4,
        "a directory of data becomes a file upstream",
        push={"paper_trading_outputs": "moved\n"},
        loses=ALL,
        refuses=("paper_trading_outputs",),
        kept=("paper_trading_outputs",),
    ),
    Case(
        "directory-becomes-a-submodule",
        4,
        "a directory of data becomes a submodule upstream",
        push={"data": Submodule(), ".gitmodules": '[submodule "data"]\n\tpath = data\n\turl = ./nowhere\n'},
        refuses=("data",),
        proceeds=(),
    ),
    Case(
        "ignore-rule-goes",
        5,
        "the rule that ignores the data disappears",
        push={".gitignore": "*.pyc\n"},
        loses=(RESET,),
    ),
    Case(
        "tracked-although-ignored",
        5,
        "201 data files are tracked although ignored; upstream changes one",
        before=MANY,
        prepare=appended(*MANY),
        push={"paper_trading_outputs/24h/day007.csv": "id\n7\n"},
        precious=tuple(MANY),
        loses=ALL,
        refuses=("paper_trading_outputs/24h/day007.csv",),
        kept=tuple(MANY),
    ),
    Case(
        "tracked-although-ignored-and-unchanged",
        5,
        "201 data files are tracked although ignored; upstream changes none",
        before=MANY,
        prepare=appended(*MANY),
        push={".gitignore": IGNORED + "*.tmp\n"},
        precious=tuple(MANY),
        loses=ALL,
        kept=tuple(MANY),
    ),
)
