# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot moves between two servers while it trades, and cables are pulled: nothing is lost, and it never runs twice."""

from __future__ import annotations

import json
import re

import pytest
from two_servers import BOT, ROOT, STATE, Move, eventually, playbook

ARRIVING = f"/{ROOT}/.tradekeep-arriving/state/history.bin"


def test_hazard_e2_a_cable_pulled_during_the_copy_stops_nothing(move: Move) -> None:
    move.begin()
    assert eventually(lambda: move.new.host.file(ARRIVING).exists), move.told()
    move.old.cable("down")
    assert eventually(lambda: move.outcome is not None), move.told()
    assert move.outcome == 3, move.told()
    assert move.old.trades
    assert (move.old.fence, move.new.fence, move.new.note) == (None, None, "undone")


@pytest.mark.parametrize("step", ["before_stop", "before_start"])
def test_hazard_e2_a_cable_pulled_before_the_source_lets_go_leaves_it_running(move: Move, step: str) -> None:
    """Held before the stop, and held stopped. The source notices, and goes on without being told."""
    move.new.run(f"touch /srv/holds/{step}")
    move.begin()
    assert eventually(lambda: move.held(step)), move.told()
    assert move.old.trades == (step == "before_stop")
    move.old.cable("down")
    # A link that comes back within seconds has not been cut.
    assert eventually(lambda: move.new.host.run("pgrep -r D,R,S -x ssh").rc != 0), move.told()
    assert eventually(lambda: move.old.trades), move.told()
    assert move.old.fence is None
    assert not move.new.trades
    move.new.run(f"rm /srv/holds/{step}")
    move.old.cable("up")
    assert eventually(lambda: move.outcome is not None), move.told()
    assert move.outcome == 3, move.told()
    assert move.old.trades
    assert not move.new.trades
    assert (move.new.fence, move.new.note) == (None, "undone")
    move.check_nothing_lost(move.old)


def test_hazard_e3_what_fails_after_the_source_has_let_go_is_given_back(move: Move) -> None:
    move.new.run("touch /srv/holds/disliked")
    move.begin()
    assert eventually(lambda: move.outcome is not None), move.told()
    assert move.outcome == 3, move.told()
    assert any(what == "start" for _at, _pid, what in move.new.lives())
    assert eventually(lambda: move.old.trades), move.told()
    assert not move.new.trades
    assert (move.old.fence, move.new.fence) == (None, None)
    assert move.new.run(f"systemctl is-enabled {BOT}") == "enabled"
    # What it traded here until it was stopped was put back with the rest.
    move.leave_behind()
    move.check_nothing_lost(move.old)


def test_hazard_e1_the_playbook_moves_it_and_back(move: Move) -> None:
    before = move.new.run(f"find /{ROOT} /{STATE} /root/.ssh | sort")
    keys = move.old.run("cat /home/admin/.ssh/authorized_keys /root/.ssh/authorized_keys")
    said = playbook("new13", "--check", migrate_from="old12")
    assert re.search(r"old12: \d+ files, \d+ bytes; runs trading_system.service; not fenced", said), said
    assert move.new.run(f"find /{ROOT} /{STATE} /root/.ssh | sort") == before

    said = playbook("new13", migrate_from="old12", migrate_force=True)
    assert re.search(r"^new13 .*changed=1 .*failed=0", said, re.MULTILINE), said
    assert move.new.trades and not move.old.trades
    assert move.old.run("cat /home/admin/.ssh/authorized_keys /root/.ssh/authorized_keys") == keys
    assert not move.new.host.file("/var/lib/tradekeep/.tradekeep-link-kalshi").exists
    assert move.old.host.run(f"systemctl start {BOT}").rc != 0
    assert move.new.host.file(f"/{ROOT}/state/history.bin").user == "trading_user"
    move.check_nothing_lost(move.new)
    names = move.new.run(f"ls /{STATE}/migrations | grep json").split()
    record = json.loads(move.new.run(f"cat /{STATE}/migrations/{names[-1]}"))
    assert record["state"] == "migrated"
    assert record["handover"]["bytes"]["final difference"] < record["holds"]["bytes"] / 10
    print(json.dumps({key: record[key] for key in ("handover", "holds")}, indent=2))
    said = playbook("new13", migrate_from="old12", migrate_force=True)
    assert re.search(r"^new13 .*changed=0 .*failed=0", said, re.MULTILINE), said

    said = playbook("old12", migrate_from="new13", migrate_force=True)
    assert re.search(r"^old12 .*changed=1 .*failed=0", said, re.MULTILINE), said
    assert eventually(lambda: move.old.trades), move.told()
    assert not move.new.trades
    assert move.new.fence is not None and move.new.fence["migration"]["to"] == "old12"
    move.check_nothing_lost(move.old)


def test_hazard_e2_a_cable_pulled_after_the_source_has_let_go_leaves_the_target_complete(move: Move) -> None:
    move.new.run("touch /srv/holds/after_start")
    move.begin()
    assert eventually(lambda: move.held("after_start")), move.told()
    assert move.new.trades
    move.old.cable("down")
    move.new.run("rm /srv/holds/after_start")
    assert eventually(lambda: move.outcome is not None), move.told()
    assert move.outcome == 0, move.told()
    assert move.new.trades and not move.old.trades
    move.check_nothing_lost(move.new)
    move.plug_in()
    assert eventually(lambda: move.old.host.run("true").rc == 0)
    move.go_back()
    assert eventually(lambda: move.old.trades), move.told()


@pytest.mark.parametrize("kind", ["directory", "archive"])
@pytest.mark.parametrize("layout", ["backup", "backup/user_data"])
def test_hazard_c4_what_the_old_scripts_left_migrates_too(move: Move, kind: str, layout: str) -> None:
    top = f"/srv/{kind}-{layout.replace('/', '-')}"
    move.new.run(f"mkdir -p {top}/{layout}/state {top}/{layout}/preferences")
    move.new.run(f'echo \'{{"layout": "{kind} {layout}"}}\' > {top}/{layout}/preferences/layout.json')
    source = top
    if kind == "archive":
        source = f"{top}.tar.gz"
        move.new.run(f"tar -C {top} -czf {source} backup")
    done = move.new.host.run(f"tradekeep migrate {source} --force")
    assert done.rc == 0, done.stderr
    assert move.new.run(f"cat /{ROOT}/preferences/layout.json") == f'{{"layout": "{kind} {layout}"}}'
    assert not move.new.trades
