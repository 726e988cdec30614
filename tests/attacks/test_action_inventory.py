# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A repository whose inventory wants to run something on the runner of the action, which holds the key that deploys.

The action's own steps run for real; the server is an address where nobody answers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("ansible")

ACTION = Path(__file__).parents[2] / ".github" / "actions" / "deploy"
PIPE = "{{ lookup('ansible.builtin.pipe', 'touch EXECUTED') }}"


@dataclass
class Runner:
    """A runner with a repository checked out."""

    base: Path

    @property
    def workspace(self) -> Path:
        return self.base / "workspace"

    @property
    def executed(self) -> Path:
        return self.base / "executed"

    def write(self, name: str, content: object, mode: int = 0o644) -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text.replace("EXECUTED", str(self.executed)).replace("WORKSPACE", str(self.workspace)))
        path.chmod(mode)
        return path

    def inventory(self, **variables: object) -> None:
        reached = {"ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_user": "nobody"}
        self.write("inventory/hosts.json", {"all": {"hosts": {"bot1": {**reached, **variables}}}})

    def deploy(self, inventory: str = "inventory", variables: str = "", **environment: str) -> str:
        """The steps from the check of the inputs to the playbooks; returns what they say."""
        temp = self.base / "temp"
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
        key = self.base / "key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        given = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "GITHUB_"))},
            "RUNNER_TEMP": str(temp),
            "GITHUB_OUTPUT": str(temp / "output"),
            "GITHUB_WORKSPACE": str(self.workspace),
            "INPUT_MODE": "update",
            "INPUT_REF": "main",
            "INPUT_INVENTORY": inventory,
            "INPUT_VARIABLES": variables,
            "INPUT_KNOWN_HOSTS": f"[127.0.0.1]:9 {key.with_suffix('.pub').read_text()}",
            "INPUT_SSH_KEY": key.read_text(),
            **environment,
        }
        said = self._step("prepare.py", given)
        (directory,) = temp.glob("tradekeep-*")
        (directory / "private/ansible").write_text(str(Path(sys.executable).parent))
        return said + self._step("deploy.py", {**given, "TRADEKEEP_DIRECTORY": str(directory)})

    def _step(self, name: str, environment: dict[str, str]) -> str:
        done = subprocess.run(
            [sys.executable, "-EB", str(ACTION / name)],
            env=environment,
            cwd=self.workspace,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.stdout + done.stderr


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    made = Runner(tmp_path)
    made.workspace.mkdir()
    made.write("evil", "#!/bin/sh\ntouch EXECUTED\necho '{}'\n", 0o755)
    made.inventory()
    return made


def assert_refused(runner: Runner, said: str, *words: str) -> None:
    assert not runner.executed.exists()
    (line,) = [line for line in said.splitlines() if line.startswith("::error")]
    assert all(word in line for word in words), line
    assert "Traceback" not in said
    assert "PLAY [" not in said


VARIABLES: dict[str, dict[str, object]] = {
    "another ssh": {"ansible_ssh_executable": "WORKSPACE/evil"},
    "another ssh, by its older name": {"ansible_ssh_executable": "WORKSPACE/evil", "ansible_connection": "ssh"},
    "options of ssh": {"ansible_ssh_common_args": "-o ProxyCommand=WORKSPACE/evil"},
    "more options of ssh": {"ansible_ssh_extra_args": "-o ProxyCommand=WORKSPACE/evil"},
    "a password, by sshpass": {"ansible_password": PIPE},
    "another scp": {"ansible_scp_executable": "WORKSPACE/evil"},
    "another sftp": {"ansible_sftp_executable": "WORKSPACE/evil"},
    "a local connection": {"ansible_connection": "local", "ansible_python_interpreter": "WORKSPACE/evil"},
    "another connection": {"ansible_connection": "community.docker.docker"},
    "another shell": {"ansible_connection": "local", "ansible_shell_executable": "WORKSPACE/evil"},
    "another way to become root": {"ansible_become_exe": "WORKSPACE/evil", "ansible_connection": "local"},
    "a template as the address": {"ansible_host": PIPE},
    "a template as an input": {"tradekeep_root": PIPE},
    "a template deep in the profile": {"tradekeep_profile": {"name": "bot", "components": {"a": {"paths": [PIPE]}}}},
    "a template as the name of a key": {"tradekeep_profile": {PIPE: 1}},
    "a statement": {"ansible_user": "{% if lookup('ansible.builtin.pipe', 'touch EXECUTED') %}x{% endif %}"},
    "a filter": {"tradekeep_root": "{{ my_x | map(attribute='y') }}"},
    "an internal variable of a role": {"__profile_command": ["WORKSPACE/evil"]},
    "a working copy on the runner": {"deploy_gitignore_path": "WORKSPACE", "deploy_gitignore": True},
    "a key of the runner": {"layout_credentials": [{"path": "k.pem", "src": "/proc/self/environ"}]},
    "a key of the runner, by the home": {"layout_credentials": [{"path": "k.pem", "src": "~/.ssh/id_ed25519"}]},
    "a key of the runner, upwards": {"backup_gpg_key_files": ["{{ inventory_dir }}/../../key"]},
    "a passphrase of the runner": {"runtime_passphrase_src": "/etc/shadow"},
}


@pytest.mark.parametrize("variables", VARIABLES.values(), ids=VARIABLES)
@pytest.mark.parametrize("place", ["host", "group_vars", "host_vars"])
def test_a_variable_that_reaches_for_the_runner_is_refused(
    runner: Runner, variables: dict[str, object], place: str
) -> None:
    if place == "host":
        runner.inventory(**variables)
    else:
        runner.write(f"inventory/{place}/{'all' if place == 'group_vars' else 'bot1'}.yml", variables)
    name = next(reversed(variables)) if len(variables) == 1 else next(iter(variables))
    said = runner.deploy()
    assert_refused(runner, said, "inventory: ")
    assert any(word in said for word in variables), (name, said)


@pytest.mark.parametrize(
    "variables",
    [
        {"ansible_ssh_executable": "WORKSPACE/evil"},
        {"ansible_connection": "local"},
        {"ansible_python_interpreter": "WORKSPACE/evil"},
        {"ansible_host": "127.0.0.2"},
        {"tradekeep_root": PIPE},
        {"tradekeep_hosts": "localhost"},
        {"layout_credentials": [{"path": "k.pem", "src": "/proc/self/environ"}]},
    ],
)
def test_a_file_of_variables_reaches_for_the_runner_no_more(runner: Runner, variables: dict[str, object]) -> None:
    runner.write("more.yml", variables)
    assert_refused(runner, runner.deploy(variables="more.yml"), "variables: ", *variables)


def test_variables_of_the_runner_itself_are_judged_too(runner: Runner) -> None:
    runner.write("inventory/host_vars/localhost.yml", {"ansible_shell_executable": "WORKSPACE/evil"})
    assert_refused(runner, runner.deploy(), "inventory: localhost", "ansible_shell_executable")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_runner_is_no_server(runner: Runner, name: str) -> None:
    runner.write("inventory/hosts.json", {"all": {"hosts": {name: {"tradekeep_become": False}}}})
    assert_refused(runner, runner.deploy(), f"inventory: names {name}")


def test_an_inventory_that_is_a_program_is_not_run(runner: Runner) -> None:
    assert_refused(runner, runner.deploy(inventory="evil"), "evil is a program")
    shutil.copy(runner.workspace / "evil", runner.workspace / "inventory/more")
    assert_refused(runner, runner.deploy(), "more is a program")


def test_a_binary_program_is_not_run_either(runner: Runner) -> None:
    """Without ``#!`` nothing tells it from data, and the executable bit means nothing."""
    runner.write("inventory/more", "touch EXECUTED\n", 0o755)
    runner.deploy()
    assert not runner.executed.exists()


@pytest.mark.parametrize(
    "plugin", ["ansible.builtin.constructed", "ansible.builtin.generator", "community.general.nmap"]
)
def test_an_inventory_that_names_a_plugin_is_refused(runner: Runner, plugin: str) -> None:
    runner.write("inventory/constructed.yml", f'plugin: {plugin}\nstrict: false\ncompose:\n  x: "{PIPE[3:-3]}"\n')
    assert_refused(runner, runner.deploy(), "constructed.yml names a plugin")


def test_links_lead_nowhere_else(runner: Runner) -> None:
    (runner.base / "secret.yml").write_text("my_secret: x\n")
    (runner.workspace / "inventory/group_vars").mkdir()
    (runner.workspace / "inventory/group_vars/all.yml").symlink_to(runner.base / "secret.yml")
    assert_refused(runner, runner.deploy(), "all.yml is a link that leads out")


def test_a_vault_password_that_is_a_program_is_not_run(runner: Runner) -> None:
    evil = str(runner.workspace / "evil")
    assert_refused(runner, runner.deploy(ANSIBLE_VAULT_PASSWORD_FILE=evil), "no program")
    assert_refused(runner, runner.deploy(ANSIBLE_VAULT_IDENTITY_LIST=f"one@{evil}"), "no program")


def test_configuration_of_the_repository_has_no_effect(runner: Runner) -> None:
    runner.write(
        "ansible.cfg", "[ssh_connection]\nssh_executable = WORKSPACE/evil\n[inventory]\nenable_plugins = script\n"
    )
    said = runner.deploy(ANSIBLE_SSH_EXECUTABLE=str(runner.workspace / "evil"))
    assert not runner.executed.exists()
    assert "PLAY [Deploy]" in said


def test_an_ordinary_inventory_reaches_its_hosts(runner: Runner) -> None:
    runner.write("inventory/keys/operator.asc", "no matter")
    runner.write("inventory/credentials/k.pem", "no matter")
    runner.write("inventory/group_vars/all.yml", {"vault_pem": "x", "my_name": "bot", "tradekeep_become": True})
    runner.inventory(
        ansible_python_interpreter="/usr/bin/python3",
        tradekeep_profile={"name": "{{ my_name }}", "root": "/opt/{{ my_name }}", "components": {}},
        backup_gpg_key_files=["{{ inventory_dir }}/keys/operator.asc"],
        layout_credentials=[
            {"path": "k.pem", "src": "{{ inventory_dir }}/credentials/k.pem"},
            {"path": "l.pem", "content": "{{ vault_pem }}"},
        ],
    )
    runner.write("more.yml", {"deploy_timeout": 60})
    said = runner.deploy(variables="more.yml")
    assert "PLAY [Deploy]" in said, said
    assert "::error" not in said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("hosts", "[bots]\nbot1 ansible_host=127.0.0.1 ansible_port=9\n"),
        ("hosts.yml", "all: {hosts: {bot1: {ansible_port: 9}}}\n"),
    ],
)
def test_ini_and_yaml_are_read(runner: Runner, name: str, content: str) -> None:
    runner.write(f"plain/{name}", content)
    assert "PLAY [Deploy]" in runner.deploy(inventory=f"plain/{name}")
