# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Where the person works who recovers a server: keys, inventory, the code, and a way to a server that dies."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional

from guide import SERVER, TOP, Desk, files

NAME = "phoenix13"
NSPAWN = str(TOP / "tests/hosts/nspawn.py")
FILES = Path(__file__).resolve().parents[1] / "files"
GUIDE = "recovery.md"
REPOSITORY = "https://git.example.com/me/paper_bot.git"
SPARE = "spare1.example.com"
OUTPUTS = "/opt/paper_bot/paper_trading_outputs"
PROGRAM = '      - {src: "{{ inventory_dir }}/files/reporter.conf", dest: /etc/supervisor/conf.d/reporter.conf}\n'
SERVICE = "- {manager: supervisor, units: [reporter], stay_up_seconds: 3}\n"
COUNT = "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM fills').fetchone()[0])"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A repository as plain files."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


class OperatorDesk(Desk):
    """The desk. `took` holds how long each command took."""

    def __init__(self, home: Path, packages: str) -> None:
        self._packages = packages
        self._tunnel: Optional[subprocess.Popen[bytes]] = None
        self.took: dict[str, float] = {}
        self._serve_code(home / "upstream")
        variables = variables_of(NAME)
        self._address = variables["ansible_host"]
        super().__init__(home, variables, packages)
        self._write_inventory()
        self._settle()

    def run(self, command: str, statuses: tuple[int, ...] = (0,)) -> str:
        begun = time.monotonic()
        said = super().run(command, statuses)
        self.took[command] = round(time.monotonic() - begun, 1)
        return said

    def leave(self) -> None:
        """Leave nothing running."""
        self.run("gpgconf --kill all")
        self._hang_up()
        self._code.shutdown()
        self._code.server_close()

    def fresh_server(self) -> None:
        """The server dies with its disk; another one gets its address, a Debian with next to nothing."""
        self._hang_up()
        subprocess.run([sys.executable, NSPAWN, "down", NAME], check=True, stdout=subprocess.DEVNULL)
        up = [sys.executable, NSPAWN, "up", NAME, "--image=trixie", "--variant=bare", "--fresh"]
        subprocess.run(up, check=True, stdout=subprocess.DEVNULL)
        self._settle()
        packages = "python3-apt python3 python3-minimal python3.13-minimal"
        self.on_server(f"apt-get -qq --yes purge {packages} && ! command -v python3")

    def rows(self) -> int:
        """How many fills are committed."""
        return int(self.on_server(f"python3 -c {shlex.quote(COUNT)} {OUTPUTS}/fills.db"))

    def trading(self) -> bool:
        """Whether new fills keep coming."""
        before = self.rows()
        return eventually(lambda: self.rows() > before)

    def starts(self) -> list[int]:
        """How many fills the bot has found at each of its starts."""
        lines = self.on_server("journalctl --no-pager -o cat -u paper_bot.service").splitlines()
        return [int(line.split()[2]) for line in lines if line.startswith("started with ")]

    def reports(self) -> list[int]:
        """How many fills the part of the bot that supervisor runs has found at each of its starts."""
        lines = self.on_server("supervisorctl tail -100000 reporter").splitlines()
        return [int(line.split()[2]) for line in lines if line.startswith("started with ")]

    def _serve_code(self, place: Path) -> None:
        names = [f"GIT_{role}_{what}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
        who = dict.fromkeys(names, "developer@example.com")
        shutil.copytree(FILES / "code", place / "code")
        for words in (
            ["init", "-q", "--initial-branch=main"],
            ["add", "."],
            ["commit", "-qm", "Trade"],
            ["clone", "-q", "--bare", ".", str(place / "paper_bot.git")],
        ):
            subprocess.run(["git", *words], cwd=place / "code", env={**os.environ, **who}, check=True)
        subprocess.run(["git", "update-server-info"], cwd=place / "paper_bot.git", check=True)
        handler = functools.partial(Quiet, directory=str(place))
        self._code = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._code.serve_forever, daemon=True).start()

    def _write_inventory(self) -> None:
        ((name, content),) = files(GUIDE).items()
        content = with_supervisor(content)
        place = (self.checkout / name).parent
        (place / "keys").mkdir(parents=True)
        shutil.copytree(FILES, place / "files", ignore=shutil.ignore_patterns("code"))
        assert REPOSITORY in content
        here = f"http://127.0.0.1:{self._code.server_port}/paper_bot.git"
        (self.checkout / name).write_text(content.replace(REPOSITORY, here))
        safe = self.home / "safe"
        safe.mkdir(mode=0o700)
        (safe / "bot.env").write_text("KEY=not-a-real-key\n")
        # What the desk's gpg.conf answers when a key is made, quotes included.
        (safe / "passphrase").write_text("''\n")
        (safe / "passphrase").chmod(0o600)
        self.run("gpg --quick-generate-key 'backups of my bots' future-default default never")
        self.run("gpg --armor --export > inventories/mine/keys/operator.asc")
        self.run("gpg --armor --export-secret-keys > ~/safe/operator-secret.asc")

    def _settle(self) -> None:
        """Know the server of now, its way to packages, and the way from there to the code."""
        now = variables_of(NAME)["ansible_host"]
        stanza = self._settings.read_text().partition(f"Host {SPARE}")[0].replace(self._address, now)
        self._settings.write_text(stanza + stanza.replace(f"Host {SERVER}", f"Host {SPARE}"))
        self._address = now
        assert eventually(self._reachable)
        proxy = f'Acquire::http::Proxy "{self._packages}";'
        self.on_server(f"echo {shlex.quote(proxy)} > /etc/apt/apt.conf.d/95relay")
        port = self._code.server_port
        forward = f"127.0.0.1:{port}:127.0.0.1:{port}"
        command = [*self._ssh, "-o", "ExitOnForwardFailure=yes", "-N", "-R", forward, f"root@{SERVER}"]
        self._tunnel = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        assert eventually(lambda: "LISTEN" in self.on_server(f"ss -Hltn sport = :{port}"))

    def _reachable(self) -> bool:
        done = subprocess.run([*self._ssh, f"root@{SERVER}", "true"], capture_output=True)
        return done.returncode == 0

    def _hang_up(self) -> None:
        """No connection outlives the server."""
        if self._tunnel is not None:
            self._tunnel.terminate()
            self._tunnel.wait()
        for path in (self.home / ".ansible" / "cp").glob("*"):
            subprocess.run([*self._ssh, "-o", f"ControlPath={path}", "-O", "exit", SERVER], capture_output=True)

    @property
    def _ssh(self) -> tuple[str, ...]:
        return ("ssh", "-F", str(self._settings))


def with_supervisor(inventory: str) -> str:
    """The guide's inventory, with a part of the bot that supervisor runs, as the guide says it in words.

    The first server has no supervisor: there it is only missing, and costs no time.
    """
    for known, and_so in (
        ("    recover_files:\n", "    recover_packages: [supervisor]\n    recover_files:\n" + PROGRAM),
        ("      services:\n", "      services:\n        " + SERVICE),
    ):
        assert known in inventory
        inventory = inventory.replace(known, and_so)
    return inventory


def variables_of(name: str) -> dict[str, Any]:
    """How Ansible reaches a host that is up."""
    said = subprocess.run([sys.executable, NSPAWN, "inventory"], check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(said)["_meta"]["hostvars"][name]
    return found


def eventually(condition: Callable[[], bool], *, seconds: float = 60) -> bool:
    """Whether the condition holds within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
