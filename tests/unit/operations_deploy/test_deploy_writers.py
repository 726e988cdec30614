# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys under a bot that no service of the profile stops."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import still_writing
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.deploy import deploy_log
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.still_writing import StillWrittenError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress

from .conftest import TRADES, World

BOT = "import sys\nf = open({path!r}, 'a')\nprint(1, flush=True)\nsys.stdin.read()"


@contextlib.contextmanager
def trading(path: Path):
    argv = [sys.executable, "-c", BOT.format(path=str(path))]
    bot = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    bot.stdout.readline()
    try:
        yield bot
    finally:
        bot.kill()
        bot.communicate()


@pytest.fixture
def pushed(world: World, monkeypatch) -> World:
    monkeypatch.setattr(still_writing, "PATIENCE_SECONDS", 0.0)
    world.deploy()
    world.push({"bot.py": "print(2)\n"})
    return world


def test_hazard_d10_code_is_not_exchanged_under_a_bot_that_goes_on(pushed: World) -> None:
    with trading(pushed.live / TRADES) as bot:
        for dry_run in (True, False):
            with pytest.raises(
                StillWrittenError, match=rf"\(process {bot.pid}\) writes {pushed.live / TRADES}"
            ) as caught:
                pushed.deploy(dry_run=dry_run)
            assert caught.value.exit_status is ExitStatus.FAILED
        assert pushed.read("bot.py") == "print(1)\n"
        done = pushed.deploy(force=True)
        assert done.record["state"] == "deployed"
        assert any("no service ran, so none was stopped" in line for line in done.lines)
    assert pushed.rollback().record["state"] == "rolled_back"


class Noted(NoProgress):
    """Keeps what is said to the person who waits."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_force_beside_a_writer_is_said_once(pushed: World) -> None:
    said = Noted()
    pushed.ports = dataclasses.replace(pushed.ports, progress=said)
    with trading(pushed.live / TRADES) as bot:
        pushed.deploy(dry_run=True, force=True)
        pushed.deploy(force=True)
    of_the_bot = [note.split(":")[0] for note in said.notes if f"(process {bot.pid})" in note]
    assert of_the_bot == ["would go on although the data is written", "went on although the data is written"]


def test_a_hook_may_stop_the_bot(pushed: World, monkeypatch) -> None:
    monkeypatch.setattr(still_writing, "PATIENCE_SECONDS", 10.0)
    with trading(pushed.live / TRADES) as bot:
        pushed.settings["hooks"] = [{"at": "after_stop", "command": ["kill", "-9", str(bot.pid)]}]
        assert pushed.deploy().record["state"] == "deployed"


def test_a_hook_that_does_not_is_found_after_the_stop(pushed: World) -> None:
    pushed.settings["hooks"] = [{"at": "after_stop", "command": ["true"]}]
    with trading(pushed.live / TRADES) as bot:
        done = pushed.deploy()
    assert (done.status, done.record["state"]) == (ExitStatus.FAILED, "undone")
    assert f"(process {bot.pid}) writes" in done.record["error"]
    assert pushed.read("bot.py") == "print(1)\n"
    assert deploy_log(pushed.application, pushed.ports).record["deploys"][0]["state"] == "undone"
