# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Several servers, and a new one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import trading
from developer import Developer
from trader import CHECKOUT, HOLDS, Trader, eventually, playbook


@pytest.fixture
def second_trader() -> Iterator[Trader]:
    """The one that the playbook comes to after the canary."""
    yield from trading(Trader("trader13"))


@pytest.fixture
def canary() -> Iterator[Trader]:
    """The first of the inventory."""
    yield from trading(Trader("trader12"))


def test_failure_behind_the_canary_takes_the_canary_back(
    canary: Trader, second_trader: Trader, developer: Developer
) -> None:
    both = (canary, second_trader)
    good = developer.release()
    playbook("deploy", "traders", deploy_ref="main", deploy_serial="100%")
    bad = developer.release()
    second_trader.run(f"echo '{developer.name}' > {HOLDS}/disliked")

    said = playbook("deploy", "traders", fails=True, deploy_ref="main", deploy_fleet_rollback=True)

    assert f"Rolled back: {canary.name}" in said, said
    assert [(host.last()["state"], host.last()["new_commit"]) for host in both] == [
        ("rolled_back", good),
        ("undone", bad),
    ]
    for host in both:
        assert host.code() == developer.code(good)
        assert host.trading()
        assert host.lost() == {"log": [], "database": []}


def test_failing_canary_spares_the_others(canary: Trader, second_trader: Trader, developer: Developer) -> None:
    stands, pid = second_trader.last(), second_trader.bot_pid()
    developer.release(crash=True)
    playbook("deploy", "traders", fails=True, deploy_ref="main")
    assert second_trader.bot_pid() == pid
    assert second_trader.last() == stands
    assert canary.last()["state"] == "undone"
    assert canary.trading()


def test_new_server_waits_for_its_credentials(developer: Developer) -> None:
    """An empty host: all of it by one playbook, which names what is missing; the bot stays down until it is there."""
    fresh = Trader("fresh12")
    commit = developer.release()
    assert not fresh.host.file(CHECKOUT).exists

    said = " ".join(playbook("new", fresh.name, deploy_ref="main").split())

    assert f"{CHECKOUT}/.env (mode 0600) is missing; services stay down until it is there" in said, said
    record = fresh.last()
    assert (record["state"], record["missing"]) == ("waiting", [f"{CHECKOUT}/.env"])
    assert fresh.code() == developer.code(commit)
    assert fresh.bot_pid() == ""
    fresh.run(f"echo KEY=not-a-real-key | install -m 0600 -o trader -g trader /dev/stdin {CHECKOUT}/.env")

    again = playbook("deploy", fresh.name, deploy_ref="main")

    assert re.search(rf"^{fresh.name} .*changed=1 ", again, re.MULTILINE), again
    assert fresh.last()["state"] == "deployed"
    assert eventually(fresh.trading, seconds=20), fresh.journal()
    assert fresh.lost() == {"log": [], "database": []}
    assert fresh.run(f"ls -A {HOLDS}") == ""
