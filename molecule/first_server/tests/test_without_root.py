# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The guide for a person without root, word by word, on a server of others. The tests are one story, in this order."""

from __future__ import annotations

import re

from guide import SERVER, Desk, files
from testinfra.host import Host

GUIDE = "without-root.md"
HOME = "/home/sam"
STATE = f"{HOME}/.local/state/tradekeep/my_bot"
BOT = f"""\
[Service]
ExecStartPre=/usr/bin/mkdir -p {HOME}/my_bot/data
ExecStart=/usr/bin/python3 -c "import time; open('{HOME}/my_bot/data/fills.log', 'a').write('fill'); time.sleep(1e6)"
"""
TRADEKEEP = f"ssh sam@{SERVER} .local/bin/tradekeep"
BACKUP = "tradekeep-backup-my_bot-daily.service"


def test_without_root_what_root_does_once(host: Host, desk: Desk) -> None:
    """Beforehand there is the account, with its key and its bot."""
    desk.follow("first-server.md", "1. A key to encrypt to")
    desk.on_server(
        "useradd --create-home --shell /bin/bash sam && cp -r /root/.ssh /home/sam/ && chown -R sam: /home/sam/.ssh"
    )
    desk.follow(GUIDE, "1. What root does once")
    units = f"{HOME}/.config/systemd/user"
    desk.run(f"ssh sam@{SERVER} 'mkdir -p {units} && cat > {units}/my_bot.service' <<'END'\n{BOT}END")
    desk.run(f"ssh sam@{SERVER} 'systemctl --user daemon-reload && systemctl --user start my_bot'")
    assert not host.file(f"{HOME}/.local").exists


def test_without_root_the_timers_are_the_accounts_own(host: Host, desk: Desk) -> None:
    for name, content in files(GUIDE).items():
        (desk.checkout / name).write_text(content)
    said = list(desk.follow(GUIDE, "3. Do it").items())
    assert "lingering" not in said[0][1]
    assert all(f"tradekeep-{name}-my_bot" in said[1][1] for name in ("backup", "verify", "drill"))
    assert re.search(r"my_bot_\d+_\d+\.tar\.gz\.gpg .* daily ", said[3][1])
    assert "changed=0" in desk.run(f"{said[0][0]} --check")
    assert host.file(f"{HOME}/.local/share/tradekeep/backups").user == "sam"
    assert host.check_output("systemctl list-units --all --no-legend 'tradekeep-*my_bot*'") == ""
    desk.run(f"ssh sam@{SERVER} systemctl --user start tradekeep-verify-my_bot tradekeep-drill-my_bot")
    assert "no problem" in desk.run(f"{TRADEKEEP} config check")


def test_without_root_a_restore_stops_the_bot_and_a_failed_night_is_told(host: Host, desk: Desk) -> None:
    main = f"ssh sam@{SERVER} systemctl --user show --property=MainPID my_bot"
    before = desk.run(main)
    desk.on_server(f"echo damage > {HOME}/my_bot/data/fills.log")
    assert "services were stopped for" in desk.run(f"{TRADEKEEP} restore latest --yes")
    assert desk.run(main) not in (before, "MainPID=0\n")
    assert host.file(f"{HOME}/my_bot/data/fills.log").content_string.startswith("fill")
    desk.run(f"ssh sam@{SERVER} 'systemctl --user stop my_bot && mv my_bot away'")
    desk.run(f"ssh sam@{SERVER} systemctl --user start {BACKUP}", statuses=(1,))
    told = desk.run(TRADEKEEP, statuses=(1,))
    assert "the data directory is missing" in told
    assert f"see: journalctl --user -u {BACKUP}" in told
    assert f"{BACKUP} failed" in host.file(f"{STATE}/failures.log").content_string
