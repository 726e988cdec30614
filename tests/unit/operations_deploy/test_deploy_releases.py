# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout of releases: what is current, what stays, and where the data lies."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ConfigurationError,
    ExitStatus,
    TradekeepError,
)

from .conftest import TRADES, World


@pytest.fixture
def world(tmp_path):
    base = tmp_path / "live"
    made = World(tmp_path, layout="releases", directory=str(base), root=str(base / "shared"), keep_releases=2)
    (base / "shared/paper_trading_outputs").mkdir(parents=True)
    (base / "shared" / TRADES).write_text('{"n": 1}\n')
    return made


def current(world) -> str:
    return os.readlink(world.live / "current")


def releases(world) -> list[str]:
    return sorted(os.listdir(world.live / "releases"))


def test_a_release_is_whole_and_reaches_the_data(world):
    outcome = world.deploy()
    assert current(world) == f"releases/{outcome.record['release']}"
    assert world.read("current/bot.py") == "print(1)\n"
    assert world.read(f"current/{TRADES}") == '{"n": 1}\n'
    assert (world.live / "shared/paper_trading_outputs/.gitkeep").exists()
    assert not world.deploy().changed
    second = world.push({"bot.py": "print(2)\n", "lib/b.py": None})
    assert world.deploy().record["new_commit"] == second
    assert not (world.live / "current/lib/b.py").exists()
    assert world.rollback().record["new_commit"] == world.first
    assert world.read("current/lib/b.py") == "b = 1\n"
    assert world.read(f"shared/{TRADES}") == '{"n": 1}\n'


def deploy_many(world, count: int) -> None:
    for number in range(count):
        world.push({"bot.py": f"print({number + 10})\n"})
        world.deploy()


def test_hazard_d14_the_release_in_use_is_never_removed(world):
    world.deploy()
    (first,) = releases(world)
    used = subprocess.Popen(["sleep", "60"], cwd=world.live / "releases" / first)
    try:
        deploy_many(world, 3)
        assert first in releases(world)
    finally:
        used.kill()
        used.wait()
    deploy_many(world, 1)
    assert first not in releases(world)
    assert len(releases(world)) == 2


def test_a_release_into_which_something_was_written_stays(world):
    world.deploy()
    (first,) = releases(world)
    (world.live / "releases" / first / "positions.json").write_text("{}")
    deploy_many(world, 2)
    record = world.deploy("main").record
    assert first in releases(world)
    world.push({"bot.py": "more\n"})
    record = world.deploy().record
    assert any(first in note and "positions.json" in note for note in record["notes"])


def test_hazard_d14_a_current_that_is_a_directory_is_refused(world):
    (world.live / "current").mkdir()
    (world.live / "current/precious.db").write_text("data")
    with pytest.raises(TradekeepError, match="not a symlink"):
        world.deploy()
    assert (world.live / "current/precious.db").exists()


def test_a_checkout_is_no_directory_of_releases(world):
    (world.live / ".git").mkdir()
    with pytest.raises(TradekeepError, match="git checkout"):
        world.deploy()


def test_data_inside_a_release_is_refused(world):
    world.settings["root"] = str(world.live / "releases/x")
    with pytest.raises(ConfigurationError):
        world.deploy()


def test_upstream_data_where_live_data_lies(world):
    world.push({TRADES: "upstream's\n"})
    assert world.deploy().status is ExitStatus.FAILED
    assert world.deploy(on_collision="keep_live").changed
    assert world.read(f"current/{TRADES}") == '{"n": 1}\n'


def test_a_failed_release_leaves_the_old_one_current(world):
    world.deploy()
    before = current(world), releases(world)
    world.push({"bot.py": "print(2)\n"})
    world.settings["hooks"] = [{"at": "after_start", "command": ["false"]}]
    assert world.deploy().record["state"] == "undone"
    assert (current(world), releases(world)) == before
