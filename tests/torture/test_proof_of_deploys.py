# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""HAZARDS D15: the proof tells what the bot wrote from what the deploy damaged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from bot import DATABASE, LOG
from cases import Case, scene
from deployers import Tradekeep
from judging import code_differences
from world import World

PLAIN = Case("plain", 15, "a deploy as every day")
PRICES = "data/history/prices.csv"
# What a hook, run in the checkout while nobody should touch the data, does to it; and what the proof must name.
DAMAGES = {
    "truncated log": (LOG, f"import os; os.truncate({LOG!r}, 100)"),
    "log rewritten in place": (LOG, f"f = open({LOG!r}, 'r+b'); f.write(b'#' * 20)"),
    "log copied": (
        LOG,
        f"import os, shutil; shutil.copy({LOG!r}, 'logs/copy'); os.replace('logs/copy', {LOG!r})",
    ),
    "database copied": (
        DATABASE,
        f"import os, shutil; shutil.copy({DATABASE!r}, 'data/copy'); os.replace('data/copy', {DATABASE!r})",
    ),
    "rows deleted": (
        DATABASE,
        f"import sqlite3; c = sqlite3.connect({DATABASE!r}, timeout=20, isolation_level=None); "
        "c.execute('delete from trades where id <= (select max(id) from trades)')",
    ),
    "file deleted": (PRICES, f"import os; os.unlink({PRICES!r})"),
    "key deleted": (".env", "import os; os.unlink('.env')"),
}


def with_hook(program: str, at: str = "before_start") -> Tradekeep:
    return Tradekeep({"hooks": [{"at": at, "command": [sys.executable, "-S", "-c", program]}]})


def test_hazard_d15_what_the_bot_writes_is_no_damage() -> None:
    """It writes in the middle of the deploy, and goes on as long as the hook waits for it."""
    wait = "from pathlib import Path; p = Path('../promises'); n = p.read_text()\nwhile p.read_text() == n: pass"
    with scene(PLAIN) as built:
        answer = with_hook(wait).run(built.world, "deploy", "main", "--no-backup", "--json")
        assert (answer.status, answer.record["state"]) == (0, "deployed"), answer.text
        proof = answer.record["proof"]
        assert (proof["verdict"], proof["damaged"]) == ("preserved", [])
        assert proof["components"]["data"]["written"] >= 1
        assert proof["components"]["outputs"]["written"] == 0
        assert proof["components"]["outputs"]["files"] == proof["components"]["outputs"]["untouched"] == 1
        built.world.await_rounds()
        built.world.stop_bot()
        assert built.harm() == []


@pytest.mark.parametrize("name", DAMAGES)
def test_hazard_d15_damage_fails_the_deploy_and_puts_the_code_back(name: str) -> None:
    path, program = DAMAGES[name]
    with scene(PLAIN) as built:
        ours = with_hook(program)
        answer = ours.run(built.world, "deploy", "main", "--no-backup", "--json")
        assert answer.status in (3, 4), answer.text
        assert path in answer.text
        assert code_differences(built.world, built.world.first, built.before) == []
        (latest, *_older) = logged(ours, built.world)
        assert latest["state"] == "undone"
        assert latest["proof"]["verdict"] == "damaged"
        assert any(path in line for line in latest["proof"]["damaged"])
        # Nothing stands in the way of the next one.
        (built.world.base / "etc" / "bot.json").unlink()
        (built.world.base / "etc").rmdir()
        built.world.await_rounds()
        assert Tradekeep().run(built.world, "deploy", "main", "--no-backup").status == 0
        assert code_differences(built.world, built.world.second, built.before) == []


def logged(ours: Tradekeep, world: World) -> list[dict[str, Any]]:
    """The records of all deploys, the newest first."""
    found = list(ours.run(world, "deploy", "--log", "--json").record["deploys"])
    assert all(json.loads(Path(record["record"]).read_text()) for record in found)
    return found
