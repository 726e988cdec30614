# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What only Ansible itself can show: the zip that it ships a module in, and a playbook from end to end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.deploy import deploy
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.request import DeployRequest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import Credential, tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import Exchange, pending
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.plan import Replacement
from ansible_collections.tradekeep.ops.plugins.module_utils.definition import defined_application
from playing import ansible

BUILD = """
import sys
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_program
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())
wanted = install_program(ports, bin_dir=sys.argv[1], config_dir="/etc/somewhere", dry_run=True)
sys.stdout.write(wanted.record["sha256"])
"""


def test_hazard_f_the_program_from_ansibles_zip_is_that_from_the_checkout(tmp_path: Path, collections: Path) -> None:
    options = f"bin_dir={tmp_path / 'bin'} config_dir=/etc/somewhere"
    done = ansible(tmp_path, collections, "ansible", "localhost", "-m", "tradekeep.ops.runtime", "-a", options)
    assert done.returncode == 0, done.stdout + done.stderr
    build = [sys.executable, "-B", "-S", "-c", BUILD, str(tmp_path / "bin")]
    direct = subprocess.run(build, env={"PYTHONPATH": str(collections)}, capture_output=True, check=True).stdout
    assert hashlib.sha256((tmp_path / "bin/tradekeep").read_bytes()).hexdigest() == direct.decode()
    said = subprocess.run([tmp_path / "bin/tradekeep", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("tradekeep ")


def cut_off(root: Path, state: Path) -> None:
    """Leave a transaction as a crash in the middle of it does."""
    stage = root / ".tradekeep-stage-0123456789abcdef"
    stage.mkdir()
    (stage / "new").write_text('{"mode": "new"}')
    replacement = Replacement(str(root / "state/mode.json"), str(stage / "new"), str(stage / "kept"))

    def crash(step: str) -> None:
        if step == "sync":
            raise KeyboardInterrupt

    begun = Exchange.begin(
        state, operation="restore", replacements=[replacement], stages=[str(stage)], clock=SystemClock()
    )
    with pytest.raises(KeyboardInterrupt):
        begun.apply(crash)


def test_the_playbook_recover_undoes_what_was_cut_off(
    tmp_path: Path, collections: Path, definition: dict[str, Any], ports: Any
) -> None:
    application = defined_application({**definition, "gpg_recipients": [], "passphrase_file": None})
    tree(application, ports, fix=True)
    install_configuration(application)
    document = Path(definition["root"], "state/mode.json")
    old = document.read_text()
    state = Path(application.application_state_dir)
    cut_off(Path(definition["root"]), state)
    assert json.loads(document.read_text()) == {"mode": "new"}

    def recover(*words: str) -> str:
        options = {
            "tradekeep_profile": definition["profile"],
            "tradekeep_config_dir": definition["config_dir"],
            "tradekeep_become": False,
        }
        done = ansible(
            tmp_path, collections, "ansible-playbook", "tradekeep.ops.recover", "-e", json.dumps(options), *words
        )
        assert done.returncode == 0, done.stdout + done.stderr
        recap = re.search(r"localhost .* (changed=\d+) ", done.stdout)
        assert recap is not None, done.stdout
        return recap[1]

    assert recover("--check") == "changed=1"
    assert pending(state) is not None
    assert recover() == "changed=1"
    assert document.read_text() == old
    assert pending(state) is None
    assert recover() == "changed=0"


def test_plays_say_what_was_done_and_what_was_left_alone(
    tmp_path: Path, collections: Path, definition: dict[str, Any], ports: Any
) -> None:
    """A credential that was rotated on the controller and not here, and what a restore did, in plain lines."""
    application = defined_application({**definition, "gpg_recipients": [], "passphrase_file": None})
    tree(application, ports, fix=True, credentials=[Credential("keys/api", b"old")])
    install_configuration(application)
    backup(application, ports, name="first")
    places = ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")
    options = {
        "tradekeep_profile": definition["profile"],
        "tradekeep_become": False,
        **{f"tradekeep_{name}": definition[name] for name in places},
    }

    def play(name: str, **more: Any) -> str:
        words = ("ansible-playbook", f"tradekeep.ops.{name}", "-e", json.dumps({**options, **more}))
        done = ansible(tmp_path, collections, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return re.sub(r"\s+", " ", done.stdout + done.stderr)

    said = play("site", layout_credentials=[{"path": "keys/api", "content": "new"}], runtime_packages=[])
    assert re.search(r"\[WARNING\]: keys/api: differs from the one handed over and was left alone", said), said
    assert "data tree: as the profile says" in said and "command: 0" in said
    Path(definition["root"], "state/mode.json").write_text("{}")
    said = play("restore", restore_poll=1)
    assert re.search(r"restored 1 path from \S+_first\.tar\.gz: state/mode\.json", said), said
    assert "what was there before is in /" in said


def git(place: Path, *words: str) -> str:
    """Run git in a repository of the test's own."""
    who = {f"GIT_{role}_{what}": "a@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(["git", *words], cwd=place, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def push(upstream: Path, **files: str) -> str:
    for name, content in files.items():
        (upstream / name).write_text(content)
    git(upstream, "add", "--all")
    git(upstream, "commit", "--quiet", "--message", "next")
    return git(upstream, "rev-parse", "HEAD")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_hazard_d14_a_fleet_is_not_left_mixed(
    tmp_path: Path, collections: Path, definition: dict[str, Any], ports: Any
) -> None:
    upstream = tmp_path / "upstream"
    upstream.mkdir()
    git(upstream, "init", "--quiet", "--initial-branch=main")
    push(upstream, bot="1\n", check="exit 0\n")
    hosts = {}
    for name in ("canary", "second", "sick", "lost"):
        place = tmp_path / name
        code = place / "code"
        settings = {
            "directory": str(code),
            "backup_first": "none",
            "health": [{"command": ["sh", str(code / "check")], "timeout_seconds": 0.5}],
        }
        places = {key: str(place / key) for key in ("backup_dir", "config_dir", "state_dir", "bin_dir")}
        root = {"root": str(code / "data"), "gpg_recipients": [], "passphrase_file": None}
        application = defined_application(
            {**definition, **places, **root, "profile": {**definition["profile"], "deploy": settings}}
        )
        tree(application, ports, fix=True)
        install_configuration(application)
        deploy(application, ports, DeployRequest(ref="main", repository=str(upstream)))
        hosts[name] = {"tradekeep_config_dir": places["config_dir"]}
    hosts["lost"].update(ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=1)
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"bots": {"hosts": hosts}}))

    def deploy_all(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        given = {
            "tradekeep_hosts": "bots",
            "tradekeep_app": "toy",
            "tradekeep_become": False,
            "deploy_repository": str(upstream),
            "deploy_ref": "main",
            "deploy_poll": 1,
            **options,
        }
        words = ("tradekeep.ops.deploy", "-i", inventory, "-e", json.dumps(given), *words)
        return ansible(tmp_path, collections, "ansible-playbook", *words)

    def code() -> dict[str, str]:
        return {name: (tmp_path / name / "code/bot").read_text().strip() for name in hosts}

    assert set(code().values()) == {"1"}
    push(upstream, bot="2\n", check='case "$0" in */sick/*) exit 1;; esac\n')
    done = deploy_all(deploy_fleet_rollback=True)
    assert done.returncode != 0
    assert re.search(r"Rolled back: (second, canary|canary, second)", re.sub(r"\s+", " ", done.stdout)), done.stdout
    assert set(code().values()) == {"1"}
    mixed = deploy_all()
    assert mixed.returncode != 0
    told = re.sub(r"\s+", " ", mixed.stdout)
    assert re.search(r"These hosts keep the new code: (second, canary|canary, second)", told), mixed.stdout
    assert code() == {"canary": "2", "second": "2", "sick": "1", "lost": "1"}
    sick = deploy_all(tradekeep_hosts="sick")
    assert (sick.returncode, sick.stdout.count("fatal: ")) == (2, 1), sick.stdout
    again = deploy_all("-vvv", tradekeep_hosts="canary")
    assert re.search(r"^canary .*changed=0 .*failed=0", again.stdout, re.MULTILINE), again.stdout
    assert re.findall(r"^Using module file \S*/(\w+)\.py", again.stdout, re.MULTILINE) == ["deploy"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_tracked_data_is_named_and_the_protective_lines_are_written_once(tmp_path: Path, collections: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "logs").mkdir(parents=True)
    git(copy, "init", "--quiet", "--initial-branch=main")
    push(copy, **{"bot.py": "print(1)\n", "logs/bot.log": "data\n"})

    def report(**options: str) -> str:
        given = {"tradekeep_profile": "paper_bot", "deploy_gitignore_path": str(copy), **options}
        done = ansible(tmp_path, collections, "ansible-playbook", "tradekeep.ops.tracked_data", "-e", json.dumps(given))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "logs/bot.log" in done.stdout
        found = re.search(r"^localhost .* (changed=\d+) ", done.stdout, re.MULTILINE)
        assert found is not None, done.stdout
        return found[1]

    assert report() == "changed=0"
    assert not (copy / ".gitignore").exists()
    assert report(deploy_gitignore="write") == "changed=1"
    lines = (copy / ".gitignore").read_text().splitlines()
    assert {"/paper_trading_outputs", "/logs", "*.jsonl", "*.jsonl.gz", "*.csv", "*.log", ".env"} <= set(lines)
    assert report(deploy_gitignore="write") == "changed=0"
    assert (copy / "logs/bot.log").read_text() == "data\n"
