# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The role that site begins with, as root: accounts that exist stay as they are, and what is wrong is said first."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import (
    install_configuration,
    install_program,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import Credential, tree
from ansible_collections.tradekeep.ops.plugins.module_utils.definition import defined_application
from playing import BIN, ansible

UID = 61077
"""A number that no account of the machine has."""
IN_NAMESPACE = """
set -e
mount --bind "$1/etc" /etc
mount -t tmpfs none /usr/local/sbin
cp "$1"/programs/* /usr/local/sbin/
shift
exec "$@"
"""
# Every package is installed.
PROGRAMS = {
    "dpkg-query": 'for name; do case "$name" in -*) ;; *) echo "$name installed" ;; esac; done',
    "apt-get": "exit 1",
}
PROFILE = {
    "name": "toy",
    "root": "/opt/toy",
    "owner": "newbot",
    "components": {"state": {"paths": ["state"], "directories": ["state"]}},
}


class Servers:
    """One machine under several names, each with a directory of its own; all with one /etc, a copy."""

    def __init__(self, base: Path, collections: Path) -> None:
        self.base, self._collections = base, collections
        shutil.copytree("/etc", base / "etc", symlinks=True)
        (base / "programs").mkdir()
        for name, script in PROGRAMS.items():
            (base / "programs" / name).write_text(f"#!/bin/sh\n{script}\n")
            (base / "programs" / name).chmod(0o755)
        with open(base / "etc/passwd", "a") as accounts:
            accounts.write(f"azureuser:x:{UID}:{UID}:Person,,,:{base}/home:/bin/bash\n")
        with open(base / "etc/group", "a") as groups:
            groups.write(f"azureuser:x:{UID}:\nhelpers:x:{UID + 1}:azureuser\n")
        self.hosts: dict[str, dict[str, Any]] = {}

    def add(self, name: str, profile: Any, **variables: Any) -> Path:
        place = self.base / name
        names = ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")
        places = {f"tradekeep_{key}": str(place / key) for key in names}
        self.hosts[name] = {
            "ansible_connection": "local",
            "ansible_become_method": "su",
            "ansible_python_interpreter": sys.executable,
            "tradekeep_profile": profile,
            **places,
            **variables,
        }
        place.mkdir()
        return place

    def accounts(self) -> dict[str, str]:
        return {name: (self.base / "etc" / name).read_text() for name in ("passwd", "group", "shadow", "gshadow")}

    def layout(self, *words: str) -> tuple[str, dict[str, str]]:
        """What the first role of site prints, and how each host ended: ``changed=N`` or ``failed``."""
        (self.base / "hosts.json").write_text(json.dumps({"all": {"hosts": self.hosts}}))
        play = [{"hosts": "all", "gather_facts": False, "roles": ["tradekeep.ops.layout"]}]
        (self.base / "play.yml").write_text(json.dumps(play))
        program = [str(BIN / "ansible-playbook"), "play.yml", "-i", "hosts.json", "--diff", *words]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", IN_NAMESPACE, "sh", str(self.base), *program],
            cwd=self.base,
            env={
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "HOME": str(self.base),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_COLLECTIONS_PATH": str(self._collections),
                "ANSIBLE_NOCOLOR": "true",
                "ANSIBLE_FORKS": "10",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        said = done.stdout + done.stderr
        recap = re.findall(r"^(\w+) +: ok=.*(changed=\d+) .*failed=(\d)", said, re.MULTILINE)
        assert len(recap) == len(self.hosts), said
        return said, {name: "failed" if failed != "0" else changed for name, changed, failed in recap}


def words_of(said: str, host: str) -> str:
    """The message that a host failed with."""
    found = re.search(rf"^fatal: \[{host}\]: FAILED! => (.*)$", said, re.MULTILINE)
    assert found is not None, said
    return str(json.loads(found[1])["msg"])


@pytest.fixture
def bot() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the account's: usermod refuses to change an account that has one."""
    process = subprocess.Popen(["sleep", "1000"], user=UID, group=UID, extra_groups=[])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes accounts, in a mount namespace")
def test_an_account_that_exists_is_left_alone_and_what_is_wrong_is_said_before_anything_is_made(
    tmp_path: Path, collections: Path, bot: subprocess.Popen[bytes]
) -> None:
    servers = Servers(tmp_path, collections)
    login = servers.add("login", "paper_bot", tradekeep_owner="azureuser")
    service = servers.add("service", PROFILE)
    landed = servers.add("landed", "paper_bot")
    configured = {key[10:]: value for key, value in servers.hosts["landed"].items() if key.startswith("tradekeep_")}
    install_configuration(defined_application({**configured, "owner": "azureuser", "group": "helpers"}))
    ownerless = servers.add("ownerless", "paper_bot")
    unsourced = servers.add(
        "unsourced",
        {**PROFILE, "owner": "never"},
        layout_credentials=[{"path": "state/key.pem", "src": str(tmp_path / "absent.pem")}],
        backup_passphrase_file="/etc/tradekeep.pass",
        backup_passphrase_src=str(tmp_path / "absent.pass"),
    )
    before = servers.accounts()
    said, ended = servers.layout("--check")
    assert {name for name, end in ended.items() if end == "failed"} == {"ownerless", "unsourced"}
    assert servers.accounts() == before
    assert re.search(r"\+.*newbot|newbot.*absent", said), said
    assert said.count('"account"') == 1, "one account is missing"
    servers.layout()
    now = servers.accounts()
    for name, text in before.items():
        added = now[name].removeprefix(text)
        assert added != now[name], f"{name} was changed"
        assert re.fullmatch(r"newbot:\S+\n", added), added
    assert re.search(rf"^newbot:x:\d+:\d+::{service}/root:/usr/sbin/nologin$", now["passwd"], re.MULTILINE)
    assert bot.poll() is None
    for place, group in ((login, UID), (landed, UID + 1)):
        logs = (place / "root/logs").stat()
        assert (logs.st_uid, logs.st_gid) == (UID, group)
    assert (service / "root/state").stat().st_uid not in (0, UID)
    for place in (ownerless, unsourced):
        assert not list(place.iterdir())
    said, ended = servers.layout()
    assert {name: end for name, end in ended.items() if end != "failed"} == dict.fromkeys(
        ("login", "service", "landed"), "changed=0"
    ), said
    assert servers.accounts() == now
    assert words_of(said, "ownerless") == (
        "owner: the profile paper_bot names no account that its data belongs to "
        "(set tradekeep_owner to the account that the bot runs as)"
    )
    absent = f"{tmp_path}/absent.pem, {tmp_path}/absent.pass"
    assert words_of(said, "unsourced") == f"These files do not exist on the controller, and nothing was done: {absent}"


def test_what_the_check_of_the_configuration_finds_is_one_line(tmp_path: Path, collections: Path) -> None:
    """No data, no directory of backups; no JSON; schedules without retention, which is a warning."""
    hosts = {}
    for name in ("bad", "odd", "warned"):
        place = tmp_path / name
        hosts[name] = {
            f"tradekeep_{key}": str(place / key) for key in ("root", "backup_dir", "config_dir", "state_dir")
        }
        options = {key[10:]: value for key, value in hosts[name].items()}
        schedules = [{"tier": "daily", "calendar": "*-*-* 02:00:00"}] if name == "warned" else []
        hosts[name]["tradekeep_profile"] = {**PROFILE, "schedules": schedules}
        application = defined_application(
            {**options, "profile": hosts[name]["tradekeep_profile"], "system": False, "bin_dir": str(place / "bin")}
        )
        install_configuration(application)
        Path(application.root).mkdir()
    (tmp_path / "bad/root").rmdir()
    (tmp_path / "bad/backup_dir").rmdir()
    (tmp_path / "odd/config_dir/toy.json").write_text("{")
    play = [
        {
            "hosts": "bad:odd:warned",
            "gather_facts": False,
            "vars": {"tradekeep_become": False},
            "roles": ["tradekeep.ops.backup"],
        }
    ]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    done = ansible(tmp_path, collections, "ansible-playbook", "play.yml", "-i", "hosts.json")
    said = done.stdout
    assert words_of(said, "bad") == "; ".join(
        f"{tmp_path}/bad/{key}: the directory of {key} does not exist (run the playbook site)"
        for key in ("root", "backup_dir")
    )
    assert words_of(said, "odd").startswith(f"{tmp_path}/odd/config_dir/toy.json: ")
    assert re.search(r"^warned .*failed=0", said, re.MULTILINE), said
    assert "no backup is ever removed" in re.sub(r"\s+", " ", said + done.stderr)
    assert "failed_when" not in said


def test_a_host_with_nothing_to_change_is_asked_once_and_no_task_is_skipped(
    tmp_path: Path, collections: Path, ports: Any
) -> None:
    places = {name: str(tmp_path / name) for name in ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")}
    passphrase = tmp_path / "config_dir/toy.pass"
    application = defined_application(
        {**places, "profile": PROFILE, "system": False, "passphrase_file": str(passphrase)}
    )
    tree(application, ports, fix=True, credentials=[Credential("state/api.pem", b"secret")])
    install_configuration(application)
    install_program(ports, bin_dir=places["bin_dir"], config_dir=places["config_dir"])
    for path in (passphrase, tmp_path / "controllers.pass"):
        path.write_text("words\n")
        path.chmod(0o600)
    (tmp_path / "api.pem").write_text("secret")
    variables = {
        **{f"tradekeep_{name}": place for name, place in places.items()},
        "tradekeep_profile": PROFILE,
        "tradekeep_become": False,
        "layout_credentials": [{"path": "state/api.pem", "src": str(tmp_path / "api.pem")}],
        "backup_passphrase_file": str(passphrase),
        "backup_passphrase_src": str(tmp_path / "controllers.pass"),
    }

    def site(*words: str) -> str:
        given = json.dumps(variables)
        done = ansible(tmp_path, collections, "ansible-playbook", "tradekeep.ops.site", "-e", given, "-vvv", *words)
        return done.stdout + done.stderr

    said = site()
    assert re.findall(r"^Using module file \S*/(\w+)\.py", said, re.MULTILINE) == ["setup_info"]
    recap = re.search(r"^localhost +: ok=(\d+) +changed=0 .*failed=0 +skipped=0", said, re.MULTILINE)
    assert recap is not None, said
    assert int(recap[1]) <= 5, "the arguments, whose account, the places, the look, and what it found"
    assert "tradekeep_become is false: accounts, packages and systemd units are left out" in said
    for line in ("data tree: as the profile says", "nothing to do", "timers: none"):
        assert line in said
    (tmp_path / "api.pem").unlink()
    absent = f"These files do not exist on the controller, and nothing was done: {tmp_path}/api.pem"
    assert absent in re.sub(r"\s+", " ", site())
