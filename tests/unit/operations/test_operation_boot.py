# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""After a power cut in the middle of a restore: what happens before the bot's services start, and after."""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import os
import pwd
import sqlite3
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.cli import main
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ExitStatus,
    LockBusyError,
    NeedsPersonError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import make_whole_at_boot, recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.lock import application_lock

from .conftest import FILLS, MODE

PROFILE = {"extends": "kalshi", "services": [{"manager": "systemd", "units": ["bot.service"], "stay_up_seconds": 1}]}


class Machine:
    """The real machine, but with one unit of its own that runs until the power is cut."""

    def __init__(self, runner) -> None:
        self.runner = runner
        self.active = True
        self.dies = False
        self.calls: list[str] = []
        self.on_start = lambda: None
        self.find, self.pipe = runner.find, runner.pipe

    def run(self, argv, **options):
        if argv[0] == "journalctl":
            return Completed(tuple(argv), 0, "", "")
        if argv[0] != "systemctl":
            return self.runner.run(argv, **options)
        verb = argv[1]
        if verb in ("start", "stop"):
            self.calls.append(verb)
            self.active = verb == "start" and not self.dies
        if verb == "start":
            self.on_start()
        state = "active" if self.active else "inactive"
        text = f"ActiveState={state}\nSubState=x\nType=simple\nMainPID=1\nNRestarts=0\nResult=success\n"
        return Completed(tuple(argv), 0, text if verb == "show" else "", "")


class Clock:
    """Time passes by sleeping; ``then`` happens once, while somebody waits."""

    def __init__(self, clock) -> None:
        self.now = clock.now
        self.seconds = 0.0
        self.then = lambda: None

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        then, self.then = self.then, lambda: None
        then()


@pytest.fixture
def server(make_bench):
    """A bench with a service, one backup, and live data that differs from it."""
    bench = make_bench(PROFILE)
    bench.make_tree()
    bench.database(wal=False).close()
    assert backup(bench.application, bench.ports).changed
    with contextlib.closing(sqlite3.connect(bench.root / FILLS)) as connection:
        connection.execute("DELETE FROM fills WHERE id > 40")
        connection.commit()
    (bench.root / MODE).write_text('{"mode": "prod"}')
    account, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    bench.application = dataclasses.replace(bench.application, system=True, owner=account, group=group)
    bench.machine, bench.clock = Machine(bench.ports.runner), Clock(bench.ports.clock)
    bench.ports = dataclasses.replace(bench.ports, runner=bench.machine, clock=bench.clock)
    return bench


def cut_the_power(bench, fault: str) -> None:
    """A restore that gets as far as a step."""

    def step(name):
        if name == fault:
            os._exit(9)

    child = os.fork()
    if child == 0:
        try:
            restore(bench.application, bench.with_steps(step))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    bench.machine.active = False


def state_of(bench) -> Path:
    return Path(bench.application.application_state_dir)


@pytest.mark.parametrize("fault", ["exchanging", "exchange", "sync", "exchanged"])
def test_hazard_c1_the_data_is_old_and_whole_before_the_bot_starts(server, fault):
    before = server.snapshot()
    cut_the_power(server, fault)
    outcome = make_whole_at_boot(server.application, server.ports)
    assert outcome.record["data"] == "old"
    stage = [name for name in server.snapshot() if name.startswith(".tradekeep")]
    assert {name: facts for name, facts in server.snapshot().items() if name not in stage} == before
    assert server.machine.calls == []  # a start would wait for us, and we for it
    assert not make_whole_at_boot(server.application, server.ports).changed
    assert recover(server.application, server.ports).record["data"] == "old"
    assert server.machine.active
    assert server.snapshot() == before
    assert restore(server.application, server.ports).changed


def test_a_new_state_that_is_in_place_waits_for_its_services(server):
    cut_the_power(server, "start")
    outcome = make_whole_at_boot(server.application, server.ports)
    assert not outcome.changed and server.machine.calls == []
    assert server.rows() == 100
    server.machine.active = True  # systemd starts it, since it is enabled; and it trades
    with contextlib.closing(sqlite3.connect(server.root / FILLS)) as connection:
        server.add_rows(connection, 1)
    assert recover(server.application, server.ports).record["data"] == "new"
    assert server.rows() == 101
    assert not list(server.root.glob(".tradekeep*"))


def test_a_bot_that_dies_on_the_new_state_gets_its_old_data_back(server):
    cut_the_power(server, "start")
    make_whole_at_boot(server.application, server.ports)
    server.machine.dies = True
    with pytest.raises(NeedsPersonError):  # it does not run on the old data either
        recover(server.application, server.ports)
    assert server.rows() == 40
    server.machine.dies = False
    assert recover(server.application, server.ports).record["data"] == "old"
    assert server.machine.active


def test_a_bot_that_was_only_stopped_runs_again(server):
    cut_the_power(server, "prepare")
    assert not make_whole_at_boot(server.application, server.ports).changed
    assert server.machine.calls == []
    recover(server.application, server.ports)
    assert server.machine.active


def test_the_guard_lets_a_running_restore_start_the_bot(server):
    """systemd runs the guard when a restore starts the bot; were it to wait for the lock, both would wait for ever."""
    guarded = []
    server.machine.on_start = lambda: guarded.append(make_whole_at_boot(server.application, server.ports))
    restore(server.application, server.ports)
    assert [outcome.changed for outcome in guarded] == [False]
    assert server.clock.seconds < 30
    assert server.machine.active and server.rows() == 100


def test_a_start_in_the_middle_of_an_exchange_waits_for_its_end(server):
    cut_the_power(server, "exchange")
    holder = application_lock(state_of(server), operation="restore", clock=server.clock)
    holder.__enter__()
    server.clock.then = lambda: holder.__exit__(None, None, None)
    assert make_whole_at_boot(server.application, server.ports).record["data"] == "old"
    assert server.clock.seconds > 0


def test_a_lock_that_is_never_let_go_keeps_the_bot_down(server):
    cut_the_power(server, "exchange")
    with application_lock(state_of(server), operation="restore", clock=server.clock), pytest.raises(LockBusyError):
        make_whole_at_boot(server.application, server.ports)


def test_a_damaged_plan_keeps_the_bot_down(server, capsys):
    install_configuration(server.application)
    arguments = ["--config", str(server.application.config_file), "recover", "--boot"]
    assert main(arguments) == ExitStatus.DONE
    cut_the_power(server, "exchange")
    (state_of(server) / "transaction/plan.jsonl").write_text("x")
    assert main(arguments) == ExitStatus.NEEDS_PERSON
    assert "the plan cannot be read" in capsys.readouterr().err
