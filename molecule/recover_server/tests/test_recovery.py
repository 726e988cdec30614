# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The disasters of docs/recovery.md, word by word, on a server whose bot trades. The tests are one story."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest
from guide import SERVER
from operator_desk import FILES, GUIDE, OUTPUTS, OperatorDesk, eventually

DRILL = "tradekeep-drill-paper_bot"
TIMERS = [*(f"tradekeep-backup-paper_bot-{tier}.timer" for tier in ("daily", "weekly")), f"{DRILL}.timer"]
SHOWN = "paper_bot_20261121_201500_away.tar.gz.gpg"
INTACT = "paper_bot_20261121_202315.tar.gz.gpg"
RUNNING = ["paper_bot.service", "reporter"]
CHECKPOINT = "import sqlite3,sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA wal_checkpoint(TRUNCATE)')"
PERSON = """
set -e
useradd --create-home --shell /bin/bash --groups adm azureuser
install -d -m 0700 -o azureuser -g azureuser /home/azureuser/.ssh
install -m 0600 -o azureuser -g azureuser /root/.ssh/authorized_keys /home/azureuser/.ssh/
systemd-run --quiet --uid=azureuser --unit=at-work sleep infinity
"""
NEW = "ansible-playbook tradekeep.ops.new -i inventories/mine/hosts.yml"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What one chapter of the story leaves to the next."""
    return {}


def away(desk: OperatorDesk) -> dict[str, str]:
    """The name in the guide, and that of the archive here."""
    return {SHOWN: desk.run("cd ~/backups/bot1 && ls *_away.tar.gz.gpg").strip()}


def account(desk: OperatorDesk) -> str:
    """What the server knows of the account that the bot belongs to."""
    return desk.on_server("getent passwd azureuser; id azureuser; stat -c '%a %U %G' ~azureuser ~azureuser/.ssh")


def test_a_server_with_a_bot(desk: OperatorDesk) -> None:
    """The bot belongs to an account that its person logs in with, and that is at work: it stays as it is."""
    desk.on_server(PERSON)
    before = account(desk)
    desk.run(f"scp -q {FILES}/*.service root@bot1.example.com:/etc/systemd/system/")
    desk.on_server("systemctl daemon-reload && systemctl enable --now gateway.service")
    desk.run(NEW)
    assert account(desk) == before
    assert "/bin/bash" in before
    assert desk.run(f"ssh azureuser@{SERVER} id -un").strip() == "azureuser"
    assert desk.on_server("systemctl is-active at-work.service").strip() == "active"
    assert eventually(desk.trading)
    assert desk.starts() == [0]


def test_a_drill_begins_by_its_timer(desk: OperatorDesk) -> None:
    """The month is over: the unit, with all that it may not do, restores the newest backup and says how it went."""
    desk.on_server("tradekeep backup")
    desk.on_server(f"systemd-analyze security --no-pager --threshold=20 {DRILL}.service")
    desk.on_server(f"systemctl stop {DRILL}.timer && mkdir -p /run/systemd/system/{DRILL}.timer.d")
    desk.on_server(f"printf '[Timer]\\nRandomizedDelaySec=0\\n' > /run/systemd/system/{DRILL}.timer.d/test.conf")
    desk.on_server(f"systemctl daemon-reload && touch --date='40 days ago' /var/lib/systemd/timers/stamp-{DRILL}.timer")
    desk.on_server(f"systemctl start {DRILL}.timer")
    assert eventually(lambda: "passed" in desk.on_server("tradekeep drill --log"))
    assert eventually(lambda: desk.on_server(f"systemctl show -P Result {DRILL}.service").strip() == "success")
    assert desk.on_server("find /var/lib/tradekeep/paper_bot -maxdepth 1 -name '.tradekeep-drill*'") == ""


def test_before_it_happens(desk: OperatorDesk) -> None:
    desk.follow(GUIDE, "Before it happens")
    assert away(desk)


def test_data_is_corrupt(desk: OperatorDesk) -> None:
    backed_up = desk.rows()
    desk.on_server("tradekeep backup")
    desk.on_server("systemctl stop paper_bot.service")
    # What is in the WAL would hide it.
    desk.on_server(f"runuser -u azureuser -- python3 -c {shlex.quote(CHECKPOINT)} {OUTPUTS}/fills.db")
    damage = f"dd of={OUTPUTS}/fills.db bs=1 seek=4096 conv=notrunc status=none"
    desk.on_server(f"printf 'not a page of a database' | {damage}")
    desk.follow(GUIDE, "Data is corrupt", statuses=(0, 1))
    desk.on_server("systemctl start paper_bot.service")
    assert desk.rows() >= backed_up
    assert eventually(desk.trading)


def test_a_document_is_damaged(desk: OperatorDesk) -> None:
    """The bot does not start with it; the newest backup has it as it is, the one before has it intact."""
    desk.on_server("tradekeep backup")
    intact = desk.on_server("tradekeep list").splitlines()[1].split()[0]
    portfolio, rows = desk.on_server(f"cat {OUTPUTS}/portfolio.json"), desk.rows()
    desk.on_server(f"head -c 6 {OUTPUTS}/portfolio.json > /root/half && cp /root/half {OUTPUTS}/portfolio.json")
    desk.on_server("systemctl restart paper_bot.service")
    assert eventually(lambda: "JSONDecodeError" in desk.on_server("journalctl --no-pager -u paper_bot.service"))
    said = desk.follow(GUIDE, "A document is damaged", {INTACT: intact}, statuses=(0, 1))
    named = [line for line in said["tradekeep verify all --deep"].splitlines() if "portfolio.json: " in line]
    assert len(named) == 1 and not named[0].startswith(intact), named
    assert desk.on_server(f"cat {OUTPUTS}/portfolio.json") == portfolio
    # Nothing else went back in time.
    assert desk.rows() >= rows
    assert eventually(desk.trading)


def test_the_gateway_fails(desk: OperatorDesk) -> None:
    desk.on_server("systemctl kill --signal=KILL gateway.service")
    desk.follow(GUIDE, "The gateway to the broker fails")
    assert eventually(desk.trading)


def test_data_was_deleted(desk: OperatorDesk) -> None:
    desk.on_server(f"rm {OUTPUTS}/fills.*")
    desk.follow(GUIDE, "Data was deleted", statuses=(0, 1))
    assert eventually(desk.trading)


def test_back_to_the_last_backup(desk: OperatorDesk) -> None:
    desk.follow(GUIDE, "Back to the last backup, at once")
    assert eventually(desk.trading)


def test_a_part_of_it(desk: OperatorDesk) -> None:
    desk.on_server("rm /opt/paper_bot/.env")
    desk.follow(GUIDE, "A part of it")
    assert "not-a-real-key" in desk.on_server("cat /opt/paper_bot/.env")
    assert desk.on_server("stat -c %a:%U /opt/paper_bot/.env").strip() == "600:azureuser"


def test_permissions_are_wrong(desk: OperatorDesk) -> None:
    desk.on_server(f"chmod 0644 /opt/paper_bot/.env && chown root:root {OUTPUTS} && chmod 0777 {OUTPUTS}")
    desk.follow(GUIDE, "Permissions are wrong", statuses=(0, 1))
    assert desk.on_server(f"stat -c %a:%U /opt/paper_bot/.env {OUTPUTS}").split() == ["600:azureuser", "755:azureuser"]


def test_hazard_e_the_server_is_gone_and_comes_back_with_its_data_before_its_bot(
    desk: OperatorDesk, told: dict[str, Any]
) -> None:
    """What the bot finds at its first start is what the archive holds."""
    desk.fresh_server()
    desk.follow(GUIDE, "The server is gone", away(desk))
    assert "/usr/sbin/nologin" in desk.on_server("getent passwd azureuser"), "made for a service, where it is missing"
    (path,) = desk.on_server("ls /var/lib/tradekeep/paper_bot/recoveries/*.json").split()
    record = json.loads(desk.on_server(f"cat {path}"))
    (database,) = record["databases"]
    assert database["rows"] > 0
    assert desk.starts() == [database["rows"]]
    assert (record["state"], sorted(record["running"]), record["problems"]) == ("recovered", RUNNING, [])
    # What supervisor runs too: not when its package came, nor its file, nor the code.
    (reported,) = desk.reports()
    assert reported > 0
    assert f"reconciled {database['rows']} fills" in desk.on_server(f"cat {record['migration']}")
    assert "not-a-real-key" in desk.on_server("cat /opt/paper_bot/.env")
    for unit in (*TIMERS, "paper_bot.service", "gateway.service"):
        assert desk.on_server(f"systemctl is-enabled {unit}").strip() == "enabled"
    assert desk.on_server("find /dev/shm /root -name '*tradekeep*' -not -path '*/.ansible/*'") == ""
    assert eventually(desk.trading)
    told["pid"] = desk.on_server("systemctl show -P MainPID paper_bot.service")


def test_the_same_command_again(desk: OperatorDesk, told: dict[str, Any]) -> None:
    said = "\n".join(desk.follow(GUIDE, "The same command again", away(desk)).values())
    assert re.search(r"changed=0 .*failed=0", said), said
    assert desk.on_server("systemctl show -P MainPID paper_bot.service") == told["pid"]


def test_hazard_e_each_quarter_on_a_spare_server_nothing_starts(desk: OperatorDesk) -> None:
    desk.fresh_server()
    desk.follow(GUIDE, "Each quarter, on a spare server", away(desk), statuses=(0, 3, 4))
    assert desk.starts() == []
    assert "reporter" not in desk.on_server("supervisorctl status")
    desk.on_server("systemctl disable supervisor")
    # Its exit status tells the same, and would end the script.
    assert desk.on_server("systemctl is-enabled supervisor || true").strip() == "disabled"
    # Its exit status tells the same, and would end the script.
    assert desk.on_server("systemctl is-enabled paper_bot.service || true").strip() == "disabled"
    assert desk.rows() > 0
