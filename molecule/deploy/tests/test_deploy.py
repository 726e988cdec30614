# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Deploys by the playbook while the bot trades: good releases, and bad ones that undo themselves."""

from __future__ import annotations

import re

from developer import Developer
from trader import CHECKOUT, HOLDS, Trader, playbook

MODULES = 3
PLACES = f"{CHECKOUT} /var/lib/tradekeep /etc/tradekeep"
FILES = f"find {PLACES} -not -path '*/paper_trading_outputs*' -printf '%p %i %T@ %s\\n'"


def test_playbook_deploys_a_commit_and_no_fill_is_lost(trader: Trader, developer: Developer) -> None:
    """The first run adopts the checkout where it is; the others go on from there."""
    commit = developer.release()
    data, pid, before = trader.inodes(), trader.bot_pid(), trader.last_fill()

    playbook("deploy", trader.name, deploy_ref="main")

    assert trader.commit() == commit
    assert trader.code() == developer.code(commit)
    assert trader.bot_pid() not in ("", pid)
    assert trader.inodes() == data
    assert trader.trading()
    assert trader.last_fill() > before
    assert trader.lost() == {"log": [], "database": []}
    record = trader.last()
    assert (record["state"], record["new_commit"]) == ("deployed", commit)
    assert record["proof"]["verdict"] == "preserved"
    assert record["backup"]


def test_second_run_changes_nothing_and_stops_nothing(trader: Trader, developer: Developer) -> None:
    trader.deploy(developer.release())
    pid = trader.bot_pid()
    said = playbook("deploy", trader.name, "-vvv", deploy_ref="main")
    assert re.search(rf"^{trader.name} .*changed=0 .*failed=0", said, re.MULTILINE), said
    assert trader.bot_pid() == pid
    modules = re.findall(r"^Using module file \S*/(\w+)\.py", said, re.MULTILINE)
    assert 0 < len(modules) <= MODULES, modules


def test_check_mode_writes_nothing(trader: Trader, developer: Developer) -> None:
    """Not even what git has fetched; the plan names what would change."""
    commit = developer.release()
    before, pid = trader.run(FILES), trader.bot_pid()
    said = playbook("deploy", trader.name, "--check", "--diff", deploy_ref="main")
    assert re.search(rf"^{trader.name} .*changed=1 ", said, re.MULTILINE), said
    assert commit in said
    assert "release.json" in said
    assert trader.run(FILES) == before
    assert trader.bot_pid() == pid


def test_hazard_d14_release_that_crashes_is_rolled_back_by_itself(trader: Trader, developer: Developer) -> None:
    good = developer.release()
    trader.deploy(good)
    data, bad = trader.inodes(), developer.release(crash=True)

    said = playbook("deploy", trader.name, fails=True, deploy_ref="main")

    stopped = " ".join(said.partition("TASK [tradekeep.ops.deploy : Stop here]")[2].split())
    assert re.search(r"msg: '?paper_bot\S* (does not|was restarted)", stopped), said
    assert re.search(r"changed=0 .*failed=1 .*rescued=0", stopped), said
    assert said.count("fatal: ") == 1, said
    assert trader.commit() == good
    assert trader.code() == developer.code(good)
    record = trader.last()
    assert (record["state"], record["old_commit"], record["new_commit"]) == ("undone", good, bad)
    assert record["error"].count("\n") == 0
    assert trader.trading()
    assert trader.inodes() == data
    assert trader.lost() == {"log": [], "database": []}


def test_hazard_d14_old_code_that_is_ill_too_needs_a_person(trader: Trader, developer: Developer) -> None:
    good = developer.release()
    trader.deploy(good)
    developer.release(crash=True)
    trader.hold("ill")

    said = trader.deploy("main", status=4)

    assert trader.last()["state"] == "rollback_failed"
    assert f"test '!' -e {HOLDS}/ill" in said
    trader.let_go("ill")
    assert trader.code() == developer.code(good)
    assert trader.trading()
    trader.deploy(developer.release())
    assert trader.lost() == {"log": [], "database": []}
