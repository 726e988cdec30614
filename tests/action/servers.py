# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Where the action deploys to in the tests: a bot's server, reached by real ssh and nothing else.

`LocalServer` is an sshd of our own on this machine, for this account, with everything below one directory.
`TestHost` is a systemd host that is up, and whose files below /srv/action are in nobody's way:

    tests/hosts/nspawn.py up action13 --image=trixie
    TRADEKEEP_ACTION_HOST=action13 python -m pytest tests/action/test_action.py
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WHO = {f"GIT_{role}_{what}": "a@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
APP = "action_bot"


class Server:
    """A server with an upstream repository at hand. `base` is where everything of it lies."""

    address: str
    port: int
    user: str
    base: str
    key: str
    known_hosts: str
    settings: dict[str, Any]

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.head = ""

    @property
    def upstream(self) -> str:
        return f"{self.base}/upstream"

    @property
    def live(self) -> str:
        return f"{self.base}/live"

    def prepare(self) -> None:
        """An upstream repository without a commit."""
        self.shell('umask 022; mkdir -p "$1"; git init --quiet --initial-branch=main "$1"', self.upstream)

    def push(self, files: dict[str, str | None]) -> str:
        """Commit some files upstream; None removes one. Returns the commit."""
        for name, content in files.items():
            path = f"{self.upstream}/{name}"
            if content is None:
                self.shell('rm -- "$1"', path)
            else:
                self.shell('mkdir -p "$(dirname -- "$1")"; printf %s "$2" > "$1"', path, content)
        settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in WHO.items())
        script = f'cd "$1"; git add -A -f .; {settings} git commit --quiet -m "change <b>|" && git rev-parse HEAD'
        self.head = self.shell(script, self.upstream).strip()
        return self.head

    def write(self, name: str, content: str) -> None:
        """What the bot writes."""
        script = 'printf %s "$2" >> "$1"; chown --reference="$(dirname -- "$1")" "$1"'
        self.shell(script, f"{self.live}/{name}", content)

    def read(self, name: str) -> str:
        return self.shell('cat -- "$1"', f"{self.live}/{name}")

    def inode(self, name: str) -> str:
        return self.shell('stat --format "%d %i" -- "$1"', f"{self.live}/{name}")

    def everything(self) -> str:
        """Names, modes and times of all files below the base."""
        listing = r'cd "$1"; find . -path ./remote_tmp -prune -o ! -type d -printf "%p %m %u %s %T@ %i\n" | sort'
        return self.shell(listing, self.base)

    def inventory(self, path: Path, **more: Any) -> None:
        """Write an inventory of this one server."""
        places = {name: f"{self.base}/{name}" for name in ("config_dir", "state_dir", "bin_dir", "backup_dir")}
        variables = {
            "ansible_host": self.address,
            "ansible_port": self.port,
            "ansible_user": self.user,
            **{f"tradekeep_{name}": place for name, place in places.items()},
            "tradekeep_profile": {
                "name": APP,
                "root": self.live,
                "components": {"data": {"paths": ["data"], "directories": ["data"], "critical": True}},
                "deploy": {
                    "repository": self.upstream,
                    "backup_first": "none",
                    # A release with this file does not come up.
                    "hooks": [{"at": "after_start", "command": ["sh", "-c", "! test -e broken"]}],
                },
            },
            **self.settings,
            **more,
        }
        path.write_text(json.dumps({"all": {"hosts": {"bot1": variables}}}, indent=1), encoding="utf-8")

    def trust(self, authority: Path) -> None:
        """Accept the certificates of an authority, of which this is the public key."""
        raise NotImplementedError

    def certified(self) -> tuple[str, str]:
        """A key that is accepted only with its certificate, and that certificate."""
        for name in ("authority", "certified"):
            if not (self.scratch / name).exists():
                _keygen(self.scratch / name)
        self.trust(self.scratch / "authority.pub")
        authority = str(self.scratch / "authority")
        sign = ["ssh-keygen", "-q", "-s", authority, "-I", "job", "-n", self.user, "-V", "-1m:+1h"]
        subprocess.run([*sign, str(self.scratch / "certified.pub")], check=True, stdin=subprocess.DEVNULL)
        return (self.scratch / "certified").read_text(), (self.scratch / "certified-cert.pub").read_text()

    def shell(self, script: str, *arguments: str) -> str:
        raise NotImplementedError

    def close(self) -> None:
        """End what was started."""


class LocalServer(Server):
    """This machine, by way of an sshd on a port of its own."""

    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self.address, self.user, self.base = "127.0.0.1", getpass.getuser(), str(scratch / "server")
        Path(self.base).mkdir()
        self.settings = {
            "tradekeep_become": False,
            "ansible_python_interpreter": sys.executable,
            "runtime_interpreter": sys.executable,
            "ansible_remote_tmp": f"{self.base}/remote_tmp",
        }
        for name in ("client", "host", "authority"):
            _keygen(scratch / name)
        self.key = (scratch / "client").read_text(encoding="ascii")
        self._start()
        public = (scratch / "host.pub").read_text(encoding="ascii")
        self.known_hosts = f"[{self.address}]:{self.port} {public}"

    def shell(self, script: str, *arguments: str) -> str:
        command = ["bash", "-euc", script, "shell", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout

    def trust(self, authority: Path) -> None:
        """This sshd does from its start."""

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()

    def _start(self) -> None:
        assert self.program
        if os.geteuid() == 0:
            # The service makes it when it starts, and no other sshd does.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with socket.socket() as free:
            free.bind((self.address, 0))
            self.port = free.getsockname()[1]
        lines = [
            f"ListenAddress {self.address}:{self.port}",
            f"HostKey {self.scratch}/host",
            f"AuthorizedKeysFile {self.scratch}/client.pub",
            f"TrustedUserCAKeys {self.scratch}/authority.pub",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "PermitRootLogin prohibit-password",
            "PidFile none",
            "Subsystem sftp internal-sftp",
        ]
        (self.scratch / "sshd_config").write_text("\n".join(lines) + "\n", encoding="ascii")
        # It ends with the tests, also where these are killed.
        tied = ["setpriv", "--pdeathsig", "TERM", "--"]
        command = [*tied, self.program, "-D", "-e", "-f", str(self.scratch / "sshd_config")]
        with (self.scratch / "sshd.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not self._answers():
            assert self.process.poll() is None, (self.scratch / "sshd.log").read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except ConnectionRefusedError:
            return False


class TestHost(Server):
    """A host with systemd, as root, with an account of the bot's own."""

    __test__ = False

    def __init__(self, scratch: Path, name: str) -> None:
        super().__init__(scratch)
        import host as hosts
        from machine import hosts_dir

        found = hosts.load(name)
        assert found is not None and found.running(), f"the host {name} is not up"
        self.address, self.port, self.user, self.base = found.address, 22, "root", "/srv/action"
        self.settings = {"tradekeep_owner": "actionbot"}
        self.key_file = hosts_dir() / "id_ed25519"
        self.key = self.key_file.read_text(encoding="ascii")
        self.known_hosts = found.known_hosts.read_text(encoding="ascii")
        (scratch / "known_hosts").write_text(self.known_hosts, encoding="ascii")
        self.shell('rm -rf -- "$1"; mkdir -p "$1"', self.base)

    def prepare(self) -> None:
        super().prepare()
        # The bot's account reads it, and git does not read what belongs to somebody else unless told.
        self.shell('git config --system --replace-all safe.directory "$1"', f"{self.upstream}/.git")

    def trust(self, authority: Path) -> None:
        script = """printf '%s' "$1" > /etc/ssh/authority.pub
            echo 'TrustedUserCAKeys /etc/ssh/authority.pub' > /etc/ssh/sshd_config.d/authority.conf
            systemctl reload ssh"""
        self.shell(script, authority.read_text(encoding="ascii"))

    def shell(self, script: str, *arguments: str) -> str:
        options = ["-o", f"UserKnownHostsFile={self.scratch}/known_hosts", "-o", "BatchMode=yes"]
        remote = shlex.join(["bash", "-euc", script, "shell", *arguments])
        command = ["ssh", "-F", "/dev/null", "-i", str(self.key_file), *options, f"{self.user}@{self.address}", remote]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def _keygen(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
