# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Backups of a bot that goes on writing: nothing that was committed before is missing, nothing torn is kept."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import operations_bench as bench
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree

BOT = Path(__file__).with_name("live_bot.py")
LINES = "state/events.jsonl"
DOCUMENT = "state/account_mode.json"
ROUNDS = 6


@dataclass
class Round:
    """One backup, put into a directory of its own; what had been promised before it began and after it ended."""

    place: Path
    before: int
    after: int


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Round]]:
    base = tmp_path_factory.mktemp("live") / "base"
    (base / "tmp").mkdir(parents=True)
    application = bench.application_in(base)
    tree(application, bench.ports(), fix=True)
    record = base / "record"
    arguments = [str(base / "data" / name) for name in (bench.FILLS, DOCUMENT, LINES)]
    bot = subprocess.Popen([sys.executable, "-B", "-S", str(BOT), *arguments, str(record)])
    try:
        while promised(record) < 20:
            assert bot.poll() is None
        found = []
        for number in range(ROUNDS):
            before = promised(record)
            backup(application, bench.ports(), name=f"round{number}")
            after = promised(record)
            place = base / f"out{number}"
            restore(application, bench.ports(), reference=f"round{number}", to=str(place))
            found.append(Round(place, before, after))
        assert bot.poll() is None  # the backups did not hurt it
    finally:
        bot.kill()
        bot.wait()
    assert bench.own_leftovers(base) == []
    yield found


def promised(record: Path) -> int:
    return int(record.read_text() or 0) if record.exists() else 0


def test_hazard_a1_every_fill_committed_before_the_backup_is_in_it(rounds: list[Round]) -> None:
    for item in rounds:
        connection = sqlite3.connect(item.place / bench.FILLS)
        ids = [row[0] for row in connection.execute("select id from fills order by id")]
        connection.close()
        assert ids == list(range(1, len(ids) + 1))
        assert item.before <= len(ids) <= item.after + 1
    # The bot really wrote meanwhile.
    assert any(item.after > item.before for item in rounds)


def test_hazard_a6_a_document_rewritten_in_place_is_never_torn(rounds: list[Round]) -> None:
    for item in rounds:
        document = json.loads((item.place / DOCUMENT).read_text())
        assert document["number"] == document["again"] > 0
        assert len(document["filler"]) == 50


def test_hazard_a6_appended_lines_are_whole_and_none_is_missing(rounds: list[Round]) -> None:
    for item in rounds:
        text = (item.place / LINES).read_text()
        assert text.endswith("\n")
        fills = [json.loads(line)["fill"] for line in text.splitlines()]
        assert fills == list(range(1, len(fills) + 1))
        # The line follows its commit.
        assert len(fills) >= item.before - 1
