# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bot deletes itself around a deploy: while it runs, as it ends and once it runs again; and what is a loss."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import still_writing
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy import following
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.watched import Watched

from .conftest import TRADES, World

DATABASE, EVENTS, OLD = (
    "paper_trading_outputs/bot.db",
    "paper_trading_outputs/events.jsonl",
    "paper_trading_outputs/old",
)
LOG = "logs/bot.log"
CLOCK_REALTIME_COARSE = 5
DRAINING = """import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
print(flush=True)
while True: c.execute('delete from outbox where id in (select id from outbox limit 1)'); time.sleep(.002)"""


def sql(world: World, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(world.live / DATABASE)) as database, database:
        for statement in statements:
            database.execute(statement)


def filled(table: str, rows: int) -> list[str]:
    numbers = f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows}) select i from n"
    return [f"create table {table}(id integer primary key)", f"insert into {table} {numbers}"]


@pytest.fixture
def bot(world: World) -> World:
    """A queue that is most of its database, a log, events to be compacted and old files."""
    sql(world, *filled("fills", 50), *filled("outbox", 1000))
    world.write({LOG: "started\n" * 100, EVENTS: "{}\n" * 1000, **{f"{OLD}/{day}.json": "{}" for day in range(5)}})
    world.deploy()
    world.push({"bot.py": "print(2)\n"})
    return world


def tidy_up(world: World) -> None:
    """Twice the same does no more."""
    sql(world, "delete from outbox where id > 1")
    world.write({LOG: "", EVENTS: "{}\n"})
    (world.live / OLD / "0.json").unlink(missing_ok=True)


def await_tick() -> None:
    """Until files are dated later than now, as they are by whatever takes as long to start as a service."""
    now = time.time_ns()
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= now:
        pass


def once(wanted: str, do: Callable[[], object]) -> Callable[[str], None]:
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if name == wanted and steps.count(name) == 1:
            await_tick()
            do()

    return step


def read_then(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bot goes on after everything was read and before it is stopped."""
    made = Watched.__init__

    def init(watched: Watched, *arguments: object) -> None:
        made(watched, *arguments)
        tidy_up(world)

    monkeypatch.setattr(Watched, "__init__", init)


@pytest.mark.parametrize(("when", "watching"), [("runs", True), ("stop", True), ("start", True), ("all", False)])
def test_what_the_bot_deletes_itself_is_no_damage(bot: World, when: str, watching: bool, monkeypatch) -> None:
    def refuse() -> None:
        raise TradekeepError("no watches here")

    if not watching:
        monkeypatch.setattr(following, "Watch", refuse)
    if when in ("runs", "all"):
        read_then(bot, monkeypatch)

    def step(name: str) -> None:
        if name == "start":
            await_tick()
        if name == when or (when == "all" and name in ("stop", "start")):
            tidy_up(bot)

    done = bot.deploy(step=step)
    assert (done.record["state"], done.record["proof"]["damaged"]) == ("deployed", [])


def test_hazard_d15_what_the_bot_left_as_it_ended_is_what_has_to_be_there(bot: World) -> None:
    """Though it had less by then than when it was looked at first: nobody writes while it is stopped."""

    def step(name: str) -> None:
        if name == "stop":
            tidy_up(bot)
            bot.write({LOG: "stopped\n" * 5})
        elif name == "exchanged":
            sql(bot, "delete from outbox")
            os.truncate(bot.live / LOG, 0)
            (bot.live / EVENTS).write_text("[]\n")
            (bot.live / OLD / "1.json").unlink()

    done = bot.deploy(step=step)
    assert done.record["state"] == "undone"
    damaged = {line.split(": ")[0] for line in done.record["proof"]["damaged"]}
    assert damaged == {str(bot.live / path) for path in (DATABASE, LOG, EVENTS, f"{OLD}/1.json")}


def test_a_write_between_stop_and_start_that_takes_nothing_is_no_damage(bot: World) -> None:
    """As of a checkpoint, or of a hook; the bot had deleted much before."""

    def step(name: str) -> None:
        if name == "stop":
            tidy_up(bot)
        elif name == "exchanged":
            sql(bot, "insert into fills values (1000)")

    assert bot.deploy(step=step).record["state"] == "deployed"


def wipe(world: World) -> None:
    sql(world, "delete from fills", "delete from outbox")
    (world.live / EVENTS).write_text("")


def remove(world: World) -> None:
    for path in (*(world.live / OLD).iterdir(), world.live / EVENTS, world.live / TRADES, world.live / DATABASE):
        path.unlink()


def overwrite(world: World) -> None:
    (world.live / DATABASE).write_bytes(b"no database" * 500)


@pytest.mark.parametrize(
    ("ruin", "told"),
    [
        (wipe, ["table fills had 50 rows and has 0", "had 3000 bytes and has none"]),
        (remove, ["was there before the deploy and is gone", "component paper_trading_outputs: held"]),
        (overwrite, ["cannot be read any more"]),
    ],
)
def test_hazard_d15_new_code_that_ruins_data_is_rolled_back(bot: World, ruin, told: list[str]) -> None:
    done = bot.deploy(step=once("start", lambda: ruin(bot)))
    assert done.record["state"] == "undone"
    damaged = done.record["proof"]["damaged"]
    assert [text for text in told if not any(text in line for line in damaged)] == []
    assert "the new code damages data" in done.record["error"]
    assert bot.read("bot.py") == "print(1)\n"


def test_a_hook_before_the_start_is_no_bot(bot: World) -> None:
    command = [sys.executable, "-c", f"import os; os.unlink({str(bot.live / OLD / '1.json')!r})"]
    bot.settings["hooks"] = [{"at": "before_start", "command": command}]
    steps: list[str] = []
    done = bot.deploy(step=steps.append)
    assert (done.record["state"], "start" in steps) == ("undone", False)


def test_a_bot_that_nothing_stops_may_work_off_its_queue(bot: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(still_writing, "PATIENCE_SECONDS", 0.0)
    sql(bot, "drop table outbox", *filled("outbox", 20_000))
    argv = [sys.executable, "-c", DRAINING, str(bot.live / DATABASE)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as draining:
        assert draining.stdout is not None
        draining.stdout.readline()
        try:
            done = bot.deploy(force=True)
        finally:
            draining.kill()
    assert (done.record["state"], done.record["proof"]["damaged"]) == ("deployed", [])


def test_a_journal_that_goes_is_no_component_that_is_lost(bot: World) -> None:
    remove(bot)
    sql(bot, *filled("fills", 50))
    journal = bot.live / f"{DATABASE}-journal"
    journal.write_bytes(bytes(9000))
    assert bot.deploy(step=once("start", journal.unlink)).record["proof"]["damaged"] == []


def test_what_the_profile_lets_shrink_may_do_so_at_any_time(bot: World) -> None:
    rule = {"pattern": "paper_trading_outputs/old/*", "may_shrink": True}
    component = {"paths": ["paper_trading_outputs"], "critical": True, "files": [rule]}
    bot.profile = {"components": {"paper_trading_outputs": component}, "tables_may_shrink": ["bot.db:outbox"]}

    def ruin(name: str) -> None:
        if name == "exchanged":
            sql(bot, "delete from outbox")
            for path in (bot.live / OLD).iterdir():
                path.unlink()

    assert bot.deploy(step=ruin).record["state"] == "deployed"
