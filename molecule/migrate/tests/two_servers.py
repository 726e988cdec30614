# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The two servers, as a person with two terminals and a hand on the cable sees them."""

from __future__ import annotations

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
import network

INVENTORY = Path(__file__).resolve().parents[2] / "shared" / "inventory"
BOT = "trading_system.service"
ROOT = "opt/trading_system/user_data"
FILLS = f"/{ROOT}/databases/accounts/kalshi/demo/fills.db"
STATE = "var/lib/tradekeep/kalshi"
UNIT = "tradekeep-kalshi-migrate.service"


class Server:
    """One of them, also looked at from outside, where no network is needed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.host = testinfra.get_host(f"ansible://{name}", ansible_inventory=str(INVENTORY), sudo=True)
        found = hosts.load(name)
        if found is None:
            raise LookupError(name)
        self._machine = found
        self.address = found.address

    def run(self, command: str) -> str:
        """A command as root; it must succeed."""
        return str(self.host.check_output(command))

    def read(self, path: str) -> str | None:
        """A file of its disk, None when there is no such file."""
        done = as_root("cat", str(self._machine.root / path))
        return done.stdout if done.returncode == 0 else None

    def lives(self) -> list[tuple[int, int, str]]:
        """Time, process and what of each sign of life."""
        words = [line.split() for line in (self.read("srv/witness/lives") or "").splitlines()]
        return [(int(line[0]), int(line[1]), line[3]) for line in words if len(line) == 4]

    @property
    def trades(self) -> bool:
        """Whether a bot gives signs of life now."""
        before = len(self.lives())
        time.sleep(0.3)
        return len(self.lives()) > before

    def promises(self) -> set[tuple[int, str]]:
        """Every fill that its bot was told is committed."""
        return {(int(what), self.name) for _at, _pid, what in self.lives() if what.isdigit()}

    @property
    def fence(self) -> dict[str, Any] | None:
        text = self.read(f"{STATE}/fenced.json")
        return None if text is None else dict(json.loads(text))

    @property
    def note(self) -> str | None:
        text = self.read(f"{STATE}/handover.json")
        return None if text is None else str(json.loads(text)["state"])

    def cable(self, state: str) -> None:
        """The cable of this server up or down, at the other end of it."""
        as_root("ip", "link", "set", network.cable_of(self.address), state).check_returncode()

    def fills(self) -> set[tuple[int, str]]:
        """All that are committed, and by which server's bot: one that is lost, its number is given anew."""
        code = (
            f"import json, sqlite3; print(json.dumps(list(sqlite3.connect('{FILLS}').execute('select * from fills'))))"
        )
        found = json.loads(self.run(f'runuser -u trading_user -- python3 -c "{code}"'))
        return {(number, host) for number, host in found}


class Move:
    """Both of them."""

    def __init__(self) -> None:
        self.old, self.new = Server("old12"), Server("new13")
        self._left_behind: set[tuple[int, str]] = set()

    def ready(self) -> None:
        """The bot trades on the old server, and nothing of it is on the new one's units."""
        self.plug_in()
        self.let_go()
        if not eventually(lambda: self.old.trades, seconds=2):
            self.go_back()
        if self.new.fence is not None:
            self.new.run("tradekeep unfence --no-start")
        assert eventually(lambda: self.old.trades), self.told()
        assert not self.new.trades

    def go_back(self) -> None:
        """Without a migration: what was traded since stays where it is."""
        self.new.run("tradekeep fence --reason 'going back'")
        self.leave_behind()
        self.old.run("tradekeep unfence")

    def leave_behind(self) -> None:
        """What the new server's bot has traded so far stays where it is, or was put back, on purpose."""
        self._left_behind |= self.new.promises()

    def let_go(self) -> None:
        """Nothing is held."""
        self.new.run("rm -f /srv/holds/*")
        self.old.run("rm -f /srv/holds/*")

    def plug_in(self) -> None:
        """Both are connected."""
        self.old.cable("up")
        self.new.cable("up")

    def begin(self, *options: str) -> None:
        """Begin a migration to the new server, by the command, from a terminal that is then closed."""
        self.new.run("rm -f /run/outcome")
        words = " ".join(["tradekeep", "--json", "migrate", "--from", f"root@{self.old.address}", "--force", *options])
        script = f"{words} >/run/answer 2>/run/said; echo $? >/run/outcome"
        self.new.run(f"systemd-run --quiet --collect --unit=terminal sh -c '{script}'")

    @property
    def outcome(self) -> int | None:
        """Its exit status, once it has ended."""
        text = self.new.host.run("cat /run/outcome").stdout.strip()
        return int(text) if text else None

    def held(self, step: str) -> bool:
        """Whether the migration waits at a step."""
        # The brackets keep the pattern from matching whoever looks for it.
        return self.new.host.run(f"pgrep -f 'holds/[{step[0]}]{step[1:]};'").rc == 0

    def check_never_two(self) -> None:
        """No sign of life of one server's bot lies between the first and the last of one life of the other's."""
        spans = []
        for server in (self.old, self.new):
            for pid in {life[1] for life in server.lives()}:
                times = [life[0] for life in server.lives() if life[1] == pid]
                spans.append((min(times), max(times), server.name))
        spans.sort()
        for (_start, end, name), (start, _end, other) in zip(spans, spans[1:]):
            assert end < start, f"{name} lived until {end}, {other} from {start}"

    def check_nothing_lost(self, server: Server) -> None:
        """Every fill that any bot was told is committed is there."""
        promised = self.old.promises() | self.new.promises()
        lost = promised - self._left_behind - server.fills()
        assert not lost, (len(lost), min(lost), max(lost))

    def told(self) -> str:
        """What there is to say when a wait was in vain."""
        said = self.new.host.run("cat /run/said; journalctl -n 30 -u tradekeep-kalshi-migrate.service").stdout
        return f"old {self.old.fence} {self.old.lives()[-2:]}; new {self.new.fence} {self.new.note}; {said}"


def as_root(*words: str) -> subprocess.CompletedProcess[str]:
    """A command on this machine."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    return subprocess.run([*sudo, *words], capture_output=True, text=True, check=False)


def playbook(target: str, *arguments: str, status: int = 0, **variables: Any) -> str:
    """Run the playbook for one server as a person would."""
    words = ["ansible-playbook", "tradekeep.ops.migrate", f"--inventory={INVENTORY}", f"--limit={target}", *arguments]
    plain = {name: value for name, value in os.environ.items() if name != "ANSIBLE_FORCE_COLOR"}
    done = subprocess.run(
        [*words, "--extra-vars", json.dumps(variables)],
        env=plain,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def eventually(condition: Callable[[], Any], seconds: float = 60) -> bool:
    """Wait for something to become true."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
