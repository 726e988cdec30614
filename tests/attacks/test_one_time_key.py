# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The key that lets one server into another for a migration: whoever reads it cannot use it from elsewhere, or later.

The role's own tasks run, against a user who exists in a mount namespace only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ansible")

CHECKOUT = Path(__file__).resolve().parents[2]
LINE = re.compile(
    r'restrict,from="(?P<addresses>[^"]*)",expiry-time="(?P<until>\d{12})Z",command="(?P<command>[^"]*)" '
    r"ssh-ed25519 \S+ tradekeep-migrate-toy"
)
IN_NAMESPACE = """
set -e
mount -t tmpfs none /etc/ssh
cp "$1/host_key.pub" /etc/ssh/ssh_host_ed25519_key.pub
mount --bind "$1/passwd" /etc/passwd
shift
exec "$@"
"""


class Servers:
    """Two names for this machine; what is written on it is below a directory of the test's."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.home = base / "home"
        self.home.mkdir()
        os.chown(self.home, 65534, 65534)
        (base / "state").mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(base / "host_key")], check=True)
        admin = f"admin-of-old:x:65534:65534::{self.home}:/bin/sh\n"
        (base / "passwd").write_text(Path("/etc/passwd").read_text() + admin)
        collection = base / "collections/ansible_collections/tradekeep/ops"
        for name in ("plugins", "roles", "playbooks", "meta"):
            shutil.copytree(CHECKOUT / name, collection / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(CHECKOUT / "galaxy.yml", collection)

    @property
    def keys(self) -> str:
        path = self.home / ".ssh/authorized_keys"
        return path.read_text() if path.exists() else ""

    def let_in(self, old: str = "127.0.0.1", new: str = "", **variables: Any) -> subprocess.CompletedProcess[str]:
        """The tasks that make the key and allow it."""
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        hosts = {
            "new": {**local, **({"ansible_host": new} if new else {})},
            "old": {**local, "ansible_host": old, "ansible_user": "admin-of-old"},
        }
        (self.base / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        given = {
            "tradekeep_app": "toy",
            "tradekeep_profile": "paper_bot",
            "tradekeep_become": False,
            "tradekeep_root": str(self.base / "root"),
            "tradekeep_state_dir": str(self.base / "state"),
            "migrate_from": "old",
            "runtime_interpreter": sys.executable,
            **variables,
        }
        tasks = [{"include_role": {"name": "tradekeep.ops.migrate", "tasks_from": "let_in.yml"}}]
        play = [{"hosts": "new", "gather_facts": False, "vars": given, "tasks": tasks}]
        (self.base / "play.yml").write_text(json.dumps(play))
        program = [str(Path(sys.executable).parent / "ansible-playbook"), str(self.base / "play.yml")]
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", IN_NAMESPACE, "sh", str(self.base), *program, "-i", "hosts.json"],
            cwd=self.base,
            env={
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(self.base),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_COLLECTIONS_PATH": str(self.base / "collections"),
                "ANSIBLE_NOCOLOR": "true",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs root and mount namespaces")
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    return Servers(tmp_path)


def test_the_key_serves_from_the_new_server_alone_and_for_a_time(servers: Servers) -> None:
    done = servers.let_in(new="192.0.2.21")
    assert done.returncode == 0, done.stdout + done.stderr
    found = LINE.fullmatch(servers.keys.strip())
    assert found, servers.keys
    assert found["addresses"] == "127.0.0.1,192.0.2.21"
    assert found["command"].endswith("migrate --serve")
    until = time.mktime(time.strptime(found["until"], "%Y%m%d%H%M")) - time.timezone
    assert 0 < until - time.time() < 14400 + 2 * 86400


def test_a_name_is_no_address_and_is_left_to_no_resolver(servers: Servers) -> None:
    done = servers.let_in(new="new.example.com")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'from="127.0.0.1"' in servers.keys


def test_the_address_behind_a_translation_is_given(servers: Servers) -> None:
    done = servers.let_in(new="192.0.2.21", migrate_to_address="198.51.100.7, 2001:db8::7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'from="198.51.100.7,2001:db8::7"' in servers.keys


@pytest.mark.parametrize(
    ("old", "given"),
    [
        ("nowhere.invalid", ""),  # no route says where this host would come from
        ("127.0.0.1", "*"),
        ("127.0.0.1", "0.0.0.0/0"),
        ("127.0.0.1", "::/0"),
        ("127.0.0.1", '1.2.3.4",command="sh'),
        ("127.0.0.1", "new.example.com"),
        ("127.0.0.1", "!1.2.3.4"),
    ],
)
def test_without_an_address_no_key_is_let_in(servers: Servers, old: str, given: str) -> None:
    done = servers.let_in(old=old, migrate_to_address=given)
    assert done.returncode != 0
    assert "Give migrate_to_address" in done.stdout + done.stderr
    assert servers.keys == ""
