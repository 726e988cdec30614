# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between stop and start: what is done there, what the bot may have done until then, and what is found before it."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git import holders
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import mounts, writers
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy import following

from .conftest import TRADES, World

LOG, STATE, DATABASE = "logs/bot.log", "paper_trading_outputs/state.json", "paper_trading_outputs/fills.db"


class Work:
    """Counts what this process does between two steps of a deploy: every line, each time, and every call into C."""

    def __init__(self, begin: str, end: str) -> None:
        self._begin, self._end = begin, end
        self.done = 0

    def step(self, name: str) -> None:
        if name == self._begin:
            self._before = (sys.gettrace(), sys.getprofile())
            sys.settrace(self._trace)
            sys.setprofile(self._profile)
        elif name == self._end:
            sys.settrace(self._before[0])
            sys.setprofile(self._before[1])

    def _trace(self, _frame, event, _argument):
        self.done += event == "line"
        return self._trace

    def _profile(self, frame, event, argument) -> None:
        self.done += event == "c_call"


def work_of_window(base: Path, *, data: int = 20, code: int = 20, changed: int = 1, size: int = 10) -> int:
    """What a deploy of some changed files does between stop and start, beside so much data and other code."""
    base.mkdir()
    world = World(base)
    names = [f"lib/m{number:04}.py" for number in range(code)]
    world.push(dict.fromkeys(names, "x = 1\n"))
    world.clone()
    world.write({f"paper_trading_outputs/day{number % 7}/{number}.jsonl": "{}\n" for number in range(data)})
    world.push(dict.fromkeys(names[:changed], "x" * size))
    work = Work("stop", "start")
    outcome = world.deploy(step=work.step)
    assert outcome.record["state"] == "deployed"
    assert outcome.record["changes"]["paths"] == {"replace": names[:changed]}
    files = outcome.record["proof"]["components"]["paper_trading_outputs"]
    assert files["files"] == files["untouched"] > data
    assert work.done > 1000
    return work.done


@pytest.fixture
def still_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other processes, and the mounts of now: both are looked at, and other tests change their number meanwhile."""
    proc = tmp_path_factory.mktemp("proc")
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/mnt").symlink_to(os.readlink("/proc/self/ns/mnt"))
    (proc / "self/mountinfo").write_bytes(Path("/proc/self/mountinfo").read_bytes())
    monkeypatch.setattr(writers, "PROC", proc)
    monkeypatch.setattr(holders, "PROC", proc)
    monkeypatch.setattr(mounts, "_MOUNTINFO", proc / "self/mountinfo")


@pytest.mark.usefixtures("still_machine")
@pytest.mark.parametrize("grown", [{"data": 2000}, {"code": 2000}, {"size": 10_000_000}], ids=str)
def test_nothing_that_is_done_between_stop_and_start_grows_with_data_or_code(tmp_path: Path, grown) -> None:
    few = work_of_window(tmp_path / "few")
    assert work_of_window(tmp_path / "many", **grown) < 1.3 * few


@pytest.mark.usefixtures("still_machine")
def test_what_is_done_for_a_changed_file_is_the_same_for_each(tmp_path: Path) -> None:
    counts = [work_of_window(tmp_path / str(changed), code=400, changed=changed) for changed in (1, 101, 301)]
    hundred, more = counts[1] - counts[0], counts[2] - counts[1]
    assert more < 2 * 1.3 * hundred


def at(wanted: str, do: Callable[[], object], steps: list[str]) -> Callable[[str], None]:
    """A step hook that does something at a step, once, and remembers all steps."""

    def step(name: str) -> None:
        steps.append(name)
        if name == wanted and steps.count(name) == 1:
            do()

    return step


def rows(world: World, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(world.live / DATABASE)) as database, database:
        database.execute("pragma journal_mode=wal")
        database.execute(statement)


@pytest.fixture
def bot(world: World) -> World:
    world.write({LOG: "started\n" * 50, STATE: "{}", "paper_trading_outputs/old/prices.csv": "1,2\n" * 50})
    rows(world, "create table fills(id)")
    rows(world, "insert into fills values (1), (2), (3)")
    world.push({"bot.py": "print(2)\n", "lib/b.py": None, "lib/new/c.py": "c = 1\n"})
    return world


def other_file(path: Path) -> None:
    path.with_name("copy").write_bytes(path.read_bytes())
    path.with_name("copy").replace(path)


DAMAGES: dict[str, tuple[str, Callable[[World], object]]] = {
    "deleted": (TRADES, lambda world: (world.live / TRADES).unlink()),
    "deleted with its directory": (
        "paper_trading_outputs/old/prices.csv",
        lambda world: shutil.rmtree(world.live / "paper_trading_outputs/old"),
    ),
    "a directory taken away": (
        "paper_trading_outputs/old/prices.csv",
        lambda world: (world.live / "paper_trading_outputs/old").replace(world.base / "away"),
    ),
    "all data taken away": (LOG, lambda world: (world.live / "logs").replace(world.base / "away")),
    "truncated": (LOG, lambda world: os.truncate(world.live / LOG, 10)),
    "replaced": (LOG, lambda world: other_file(world.live / LOG)),
    "rewritten in place": (LOG, lambda world: (world.live / LOG).write_text("STARTED\n" * 50)),
    "rows deleted": (DATABASE, lambda world: rows(world, "delete from fills where id > 1")),
    "database replaced": (DATABASE, lambda world: other_file(world.live / DATABASE)),
}


def assert_found_before_start(world: World, name: str) -> list[str]:
    """That damage of this kind undoes the deploy before anything is started; returns the notes."""
    path, damage = DAMAGES[name]
    steps: list[str] = []
    record = world.deploy(step=at("exchanged", lambda: damage(world), steps)).record
    assert record["state"] == "undone"
    assert record["proof"]["verdict"] == "damaged"
    assert any(line.startswith(f"{world.live / path}: ") for line in record["proof"]["damaged"])
    assert "undone" in steps and "start" not in steps
    assert (world.read("bot.py"), (world.live / "lib/new").exists()) == ("print(1)\n", False)
    return list(record["notes"])


@pytest.mark.parametrize("name", DAMAGES)
def test_hazard_d15_what_is_damaged_while_the_bot_is_stopped_is_found_before_it_starts(bot: World, name: str) -> None:
    assert assert_found_before_start(bot, name) == []


@pytest.mark.parametrize("name", DAMAGES)
def test_hazard_d15_without_a_watch_all_is_looked_at_and_a_note_says_so(bot: World, name: str, monkeypatch) -> None:
    def refuse() -> None:
        raise TradekeepError("no watches here")

    monkeypatch.setattr(following, "Watch", refuse)
    (note,) = assert_found_before_start(bot, name)
    assert note == "all data was looked at file by file between stop and start: no watches here"


def test_hazard_d15_a_data_file_that_was_moved_while_the_bot_is_stopped_is_no_damage(bot: World) -> None:
    away = bot.live / "paper_trading_outputs/archive"
    step = at("exchanged", lambda: (away.mkdir(), (bot.live / STATE).replace(away / "state.json")), [])
    assert bot.deploy(step=step).record["proof"]["verdict"] == "preserved"


def test_hazard_d15_what_the_kernel_does_not_tell_is_found_after_the_start(bot: World) -> None:
    def write() -> None:
        with (bot.live / LOG).open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:7] = b"ruined!"

    steps: list[str] = []
    record = bot.deploy(step=at("exchanged", write, steps)).record
    assert (record["state"], "start" in steps) == ("undone", True)
    assert [line.split(": ")[0] for line in record["proof"]["damaged"]] == [str(bot.live / LOG)]


def shut_down(world: World) -> None:
    """What bots do at SIGTERM, and what logrotate and a second process do meanwhile."""
    log = world.live / LOG
    log.write_text(log.read_text() + "stopping\n")
    log.rename(log.with_name("bot-2026.log"))
    log.write_text("a new log\n")
    other_file(world.live / STATE)
    (world.live / "paper_trading_outputs/old").rename(world.live / "paper_trading_outputs/older")
    world.write({"paper_trading_outputs/2026/11/day.jsonl": "{}\n", "logs/last.pid": "1"})
    rows(world, "insert into fills values (4)")
    (world.live / "logs/first.log").unlink()


def test_hazard_d15_what_a_bot_does_as_it_ends_and_as_it_starts_is_no_damage(bot: World) -> None:
    bot.write({"logs/first.log": "one line\n"})
    steps: list[str] = []
    ends = at("stop", lambda: shut_down(bot), steps)

    def step(name: str) -> None:
        ends(name)
        if name == "start":
            bot.write({LOG: bot.read(LOG) + "started again\n" * 100, STATE: '{"cash": 2}'})
            bot.write({"paper_trading_outputs/2026/11/day.jsonl": "{}\n{}\n"})

    record = bot.deploy(step=step).record
    assert (record["state"], record["notes"]) == ("deployed", [])
