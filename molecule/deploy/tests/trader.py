# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A server whose bot writes into the checkout, as a person deals with it: playbooks from outside, commands inside."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import testinfra

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "hosts"))

import host as hosts  # tests/hosts/host.py

INVENTORY = Path(__file__).resolve().parents[2] / "shared" / "inventory"
NSPAWN = str(Path(hosts.__file__).with_name("nspawn.py"))
CHECKOUT = "/opt/paper_bot"
OUTPUTS = f"{CHECKOUT}/paper_trading_outputs"
HOLDS = "/srv/holds"
UNIT = "tradekeep-paper_bot-deploy.service"
GUARD = "tradekeep-guard-paper_bot.service"
STATE = "/var/lib/tradekeep/paper_bot"


class Trader:
    """One server."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.host = testinfra.get_host(f"ansible://{name}", ansible_inventory=str(INVENTORY), sudo=True)
        self.variables: dict[str, Any] = self.host.ansible.get_variables()
        self.manager: str = self.variables["bot_manager"]
        self.service = {"systemd": "paper_bot.service", "supervisor": "supervisor.service"}[self.manager]

    def run(self, command: str) -> str:
        """Run a command as root; it must succeed."""
        return str(self.host.check_output(command))

    def deploy(self, ref: str, status: int = 0) -> str:
        """Deploy by the command on the server, which is quicker than the playbook; what it said."""
        done = self.host.run("tradekeep deploy %s", ref)
        assert done.rc == status, f"{done.rc}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return str(done.stdout + done.stderr)

    def last(self) -> dict[str, Any]:
        """The newest record."""
        found: dict[str, Any] = json.loads(self.run("tradekeep --json deploy --log"))["record"]["deploys"][0]
        return found

    def unit_active(self) -> bool:
        """Whether a deploy is at work under its unit."""
        return UNIT in self.run("systemctl list-units --no-legend --plain --type=service")

    def hold(self, step: str) -> None:
        """Have the next deploy wait at a step."""
        self.run(f"touch {HOLDS}/{step}")

    def let_go(self, step: str) -> None:
        """Let it go on."""
        self.run(f"rm {HOLDS}/{step}")

    def held(self, step: str) -> bool:
        """Whether a deploy waits at that step."""
        return bool(self.host.run(f"pgrep -u trader -f 'while test -e {HOLDS}/{step};'").stdout)

    def bot_pid(self) -> str:
        """The process that trades; empty when there is none."""
        return str(self.host.run("pgrep -u trader -f '^/usr/bin/python3 /opt/paper_bot/bot.py'").stdout).strip()

    def start_bot(self) -> None:
        """Start what the bot belongs to."""
        verb = "start" if self.manager == "systemd" else "restart"
        self.run(f"systemctl {verb} {self.service}")

    def last_fill(self) -> int:
        """The last fill that the witness knows; 0 before the first, when there is no file yet."""
        return int(self.run("tail -n 1 /srv/witness/fills 2>/dev/null || true") or 0)

    def trading(self) -> bool:
        """Whether new fills keep coming."""
        before = self.last_fill()
        return eventually(lambda: self.last_fill() > before, seconds=3)

    def commit(self) -> str:
        """What git says of the checkout, which has to be clean."""
        git = f"runuser -u trader -- git -C {CHECKOUT}"
        assert self.run(f"{git} status --porcelain") == ""
        return self.run(f"{git} rev-parse HEAD")

    def code(self) -> dict[str, str]:
        """Every file of the checkout that is not data, and the id of what it holds, whatever git's index says."""
        data = " ".join(f"-not -path './{name}/*'" for name in (".git", "paper_trading_outputs", "logs"))
        paths = self.run(f"cd {CHECKOUT} && find . -type f {data} -not -name .env -printf '%P\\n'").splitlines()
        ids = self.run(f"cd {CHECKOUT} && git hash-object --no-filters {' '.join(paths)}").splitlines()
        return dict(zip(paths, ids))

    def inodes(self) -> str:
        """The data's own identity."""
        files = " ".join(f"{OUTPUTS}/fills.{kind}" for kind in ("db", "jsonl")) + f" {CHECKOUT}/.env"
        return self.run(f"stat --format='%d %i %n' {files} {OUTPUTS}/state.json")

    def lost(self) -> dict[str, list[int]]:
        """Fills that the witness knows and the log or the database does not."""
        witnessed = numbers(self.run("cat /srv/witness/fills"))
        logged = {json.loads(line)["fill"] for line in self.run(f"cat {OUTPUTS}/fills.jsonl").splitlines()}
        query = f"sqlite3 -readonly -cmd '.timeout 20000' {OUTPUTS}/fills.db 'SELECT id FROM fills'"
        committed = numbers(self.run(f"runuser -u trader -- {query}"))
        assert witnessed
        return {"log": sorted(witnessed - logged), "database": sorted(witnessed - committed)}

    def journal(self) -> str:
        """What is said when something is not as it should be."""
        return self.run("journalctl --no-pager -b -n 60")

    def cut_connections(self) -> None:
        """Kill every session, and what Ansible has left waiting on the server."""
        kill = "pkill -KILL -u admin; pkill -KILL -f '[Aa]nsi[Bb]allZ|[a]sync_wrapper'"
        with contextlib.suppress(RuntimeError):
            self.host.run(f'systemd-run --quiet --collect --wait --unit=cut-connections sh -c "{kill}"')
        assert eventually(self.reachable, seconds=20)

    def reachable(self) -> bool:
        """Whether one can log in; a connection that was cut makes the first attempt fail."""
        try:
            return bool(self.host.run("true").rc == 0)
        except RuntimeError:
            return False

    def cut_power(self) -> None:
        """The server dies."""
        hosts.cut_power(self.machine)

    def power_off(self) -> None:
        """The server is turned off as it should be."""
        with contextlib.suppress(RuntimeError):
            self.host.run("systemctl poweroff")
        assert eventually(lambda: not self.machine.running(), seconds=60)

    @property
    def machine(self) -> hosts.Host:
        """The server's body."""
        found = hosts.load(self.name)
        assert found is not None
        return found

    def boot(self) -> None:
        """Start it again, and wait until one can log in."""
        subprocess.run([NSPAWN, "up", self.name], check=True, stdout=subprocess.DEVNULL)
        assert eventually(self.reachable, seconds=30)


def numbers(text: str) -> set[int]:
    """One number a line."""
    return {int(line) for line in text.splitlines()}


def playbook_command(name: str, limit: str, *options: str, **variables: Any) -> list[str]:
    """A playbook of the collection, or a file, as a person runs it."""
    return [
        *("ansible-playbook", f"--inventory={INVENTORY}", f"--limit={limit}"),
        *(f"--extra-vars={json.dumps(variables)}", *options, name if "/" in name else f"tradekeep.ops.{name}"),
    ]


def start_playbook(name: str, limit: str, *options: str, **variables: Any) -> subprocess.Popen[str]:
    """Start it in a session of its own, to be killed as a whole."""
    return subprocess.Popen(
        playbook_command(name, limit, *options, **variables),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
    )


def playbook(name: str, limit: str, *options: str, fails: bool = False, **variables: Any) -> str:
    """Run it to its end, which has to be the expected one; what it printed."""
    running = start_playbook(name, limit, *options, **variables)
    said = running.communicate()[0]
    assert (running.returncode != 0) == fails, said
    assert "Traceback" not in said, said
    return said


def eventually(condition: Callable[[], bool], *, seconds: float, interval: float = 0.2) -> bool:
    """Whether the condition holds within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
