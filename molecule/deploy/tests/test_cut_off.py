# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Jobs that are cancelled, connections that are lost, processes that are killed, servers that lose power."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from developer import Developer
from trader import GUARD, HOLDS, STATE, UNIT, Trader, eventually, playbook, start_playbook

UNITS = str(Path(__file__).parents[1] / "units.yml")
JOURNAL = f"{STATE}/transaction/journal.jsonl"


def test_hazard_d14_job_that_is_cut_off_ends_well(trader: Trader, developer: Developer) -> None:
    """Ansible is killed, and every connection to the server; the next call finds it done."""
    step = {"systemd": "after_stop", "supervisor": "before_stop"}[trader.manager]
    commit = developer.release()
    trader.hold(step)
    job = start_playbook("deploy", trader.name, deploy_ref="main")
    assert eventually(lambda: trader.held(step), seconds=60), trader.journal()
    assert trader.unit_active()
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    trader.cut_connections()
    assert trader.unit_active()
    assert trader.held(step)

    trader.let_go(step)

    assert eventually(lambda: not trader.unit_active(), seconds=60), trader.journal()
    assert (trader.last()["state"], trader.last()["new_commit"]) == ("deployed", commit)
    assert trader.code() == developer.code(commit)
    assert trader.trading()
    said = playbook("deploy", trader.name, deploy_ref="main")
    assert re.search(rf"^{trader.name} .*changed=0 .*failed=0", said, re.MULTILINE), said
    assert trader.lost() == {"log": [], "database": []}


def test_hazard_d14_second_call_waits_for_the_first(trader: Trader, developer: Developer) -> None:
    commit = developer.release()
    trader.hold("before_stop")
    trader.run("systemd-run --quiet --collect --unit=first-call tradekeep deploy main")
    assert eventually(lambda: trader.held("before_stop"), seconds=60), trader.journal()
    trader.run("systemd-run --quiet --collect --unit=second-call tradekeep deploy main")
    assert eventually(lambda: "waiting for it to end" in trader.run("journalctl -u second-call"), seconds=20)
    trader.let_go("before_stop")
    calls = "systemctl is-active first-call second-call"
    assert eventually(lambda: "active" not in trader.host.run(calls).stdout.split(), seconds=60), trader.journal()
    assert f"{commit[:12]} is deployed already" in trader.run("journalctl -b -u second-call")
    assert trader.code() == developer.code(commit)


def test_hazard_d14_killed_between_stop_and_commit_recovers_by_itself(trader: Trader, developer: Developer) -> None:
    """The unit's main process is killed on the new code, with the bot stopped; systemd runs recover after it."""
    good = developer.release()
    trader.deploy(good)
    data = trader.inodes()
    developer.release()
    trader.hold("before_start")
    trader.run("systemd-run --quiet --collect --unit=call tradekeep deploy main")
    assert eventually(lambda: trader.held("before_start"), seconds=60), trader.journal()
    assert trader.bot_pid() == ""
    assert trader.code() != developer.code(good)

    trader.run(f"systemctl kill --kill-whom=main --signal=KILL {UNIT}")

    assert eventually(lambda: not trader.unit_active(), seconds=60), trader.journal()
    assert trader.trading(), trader.journal()
    assert trader.last()["state"] == "cut_off"
    assert trader.commit() == good
    assert trader.code() == developer.code(good)
    assert "no operation was cut off" in trader.host.run("tradekeep recover").stdout
    assert trader.inodes() == data
    assert trader.lost() == {"log": [], "database": []}


def test_hazard_d14_power_loss_in_the_middle_of_a_deploy(trader: Trader, developer: Developer) -> None:
    """Cut off on one server among the renames, on the other before the bot is started on the new code."""
    good = developer.release()
    trader.deploy(good)
    commit = developer.release()
    if trader.manager == "supervisor":
        trader.hold("before_start")
    trader.run("systemd-run --quiet --collect --unit=call tradekeep deploy main")
    wanted = b'"exchanging"' if trader.manager == "systemd" else b'"exchanged"'
    journal = trader.machine.root / JOURNAL.lstrip("/")
    assert eventually(lambda: journal.exists() and wanted in journal.read_bytes(), seconds=60, interval=0), journal
    trader.cut_power()
    trader.boot()

    assert eventually(trader.trading, seconds=60), trader.journal()
    assert eventually(lambda: not journal.exists(), seconds=60), trader.journal()
    found = trader.commit()
    assert found in (good, commit)
    assert trader.code() == developer.code(found)
    assert "no operation was cut off" in trader.host.run("tradekeep recover").stdout
    assert trader.lost() == {"log": [], "database": []}
    trader.run(f"rm -f {HOLDS}/before_start")
    trader.deploy("main")
    assert trader.commit() == commit


def test_bot_starts_after_a_reboot(trader: Trader) -> None:
    """Without a transaction the guard is skipped, and in nobody's way."""
    trader.power_off()
    trader.boot()
    assert eventually(trader.trading, seconds=30), trader.journal()
    assert trader.run(f"systemctl show --value --property=ConditionResult {GUARD}") == "no"
    assert trader.lost() == {"log": [], "database": []}


def test_guard_limits_no_restarts(systemd_trader: Trader) -> None:
    """Also a start that is skipped counts against a limit."""
    for _time in range(20):
        systemd_trader.run("systemctl restart paper_bot.service")
    assert systemd_trader.trading()


def test_bot_goes_on_without_its_guards(trader: Trader) -> None:
    pid = trader.bot_pid()
    playbook(UNITS, trader.name, units_state="absent")
    assert not trader.host.file(f"/etc/systemd/system/{GUARD}").exists
    assert trader.bot_pid() == pid
    trader.run(f"systemctl restart {trader.service}")
    assert eventually(trader.trading, seconds=20)
    pid = trader.bot_pid()
    playbook(UNITS, trader.name, units_state="present")
    assert trader.bot_pid() == pid
