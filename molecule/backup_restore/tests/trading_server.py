# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A server with a bot on it, as a person deals with it: playbooks from outside, the tradekeep command inside."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

from testinfra.host import Host

ROOT = "/opt/trading_system/user_data"
FILLS = f"{ROOT}/databases/accounts/kalshi/demo/fills.db"
BACKUPS = "/opt/backups"
KEYS = "/etc/recovery"
INVENTORY = Path(__file__).resolve().parents[2] / "shared" / "inventory"


class Server:
    """One host with its bot."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.name = host.backend.host
        variables = host.ansible.get_variables()
        self.manager: str = variables["bot_manager"]
        self.has_passphrase = "backup_passphrase_file" in variables

    def run(self, command: str) -> str:
        """Run a command as root; it must succeed."""
        return str(self.host.check_output(command))

    def playbook(self, name: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run a playbook of the collection against this server, as a person would."""
        check = ["--check"] if variables.pop("check", False) else []
        return subprocess.run(
            [
                "ansible-playbook",
                f"--inventory={INVENTORY}",
                f"--limit={self.name}",
                f"--extra-vars={json.dumps(variables)}",
                *check,
                f"tradekeep.ops.{name}",
            ],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        )

    def succeed(self, name: str, **variables: Any) -> str:
        """Run a playbook that must succeed; returns what it printed."""
        done = self.playbook(name, **variables)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def back_up(self, name: str = "", *, encrypt: bool = False) -> None:
        """Make a backup with the command, which is quicker than a playbook; one story does it by playbook."""
        self.run("tradekeep backup" + (f" --name {name}" if name else "") + (" --encrypt" if encrypt else ""))

    def decrypt(self, name: str) -> str:
        """A line that prints what a person's key makes of an archive, without anything of this project."""
        if not name.endswith(".gpg"):
            return f"cat {BACKUPS}/{name}"
        gpg = "gpg --batch --quiet --pinentry-mode loopback"
        if self.has_passphrase:
            return f"{gpg} --passphrase-file {KEYS}/passphrase --decrypt {BACKUPS}/{name}"
        return f"{gpg} --import {KEYS}/secret.asc && {gpg} --decrypt {BACKUPS}/{name}"

    def fills(self) -> int:
        """How many fills are committed; asked as the bot, so that no sidecar of root's is left behind."""
        asked = f"sqlite3 -readonly -cmd '.timeout 20000' {FILLS} 'SELECT count(*) FROM fills'"
        return int(self.run(f"runuser -u trading_user -- {asked}"))

    def bot_pid(self) -> str:
        """The process that trades; empty when there is none."""
        return str(self.host.run("pgrep -u trading_user -f /opt/trading_system/bot.py").stdout).strip()

    def trading(self) -> bool:
        """Whether new fills keep coming."""
        before = self.fills()
        return eventually(lambda: self.fills() > before, seconds=15)

    def stop_bot(self) -> None:
        """Stop the service that the bot belongs to."""
        self.run("systemctl stop trading_system.service")

    def start_bot(self) -> None:
        """Start it and see it trade."""
        self.run("systemctl start trading_system.service")
        assert eventually(lambda: bool(self.bot_pid()), seconds=15)
        assert self.trading()

    def archives(self) -> set[str]:
        """Names of the archives in the backup directory."""
        names = self.host.file(BACKUPS).listdir()
        return {name for name in names if name.startswith("user_data_") and name.endswith((".tar.gz", ".gpg"))}

    def latest(self) -> str:
        """The archive that the symlink names."""
        return self.run(f"readlink {BACKUPS}/latest_backup.tar.gz* | tail -n 1")

    def write_preference(self, key: str, value: Any) -> None:
        """Change one preference as the bot's own editor would; the bot reads it at its next start."""
        path = f"{ROOT}/preferences/trading/trade_preferences.json"
        document = json.loads(self.host.file(path).content_string)
        document[key] = value
        self.run(f"printf %s '{json.dumps(document)}' > {path}")

    def preference(self, key: str) -> Any:
        """One preference as it is on disk."""
        return json.loads(self.host.file(f"{ROOT}/preferences/trading/trade_preferences.json").content_string)[key]

    def leftovers(self) -> str:
        """Stages and kept files that an operation should have removed."""
        return self.run(f"find {ROOT} {BACKUPS} -name '.tradekeep*'")


def eventually(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Whether the condition holds within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True
