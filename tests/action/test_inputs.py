# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the action refuses before it reaches a server, and the files that it and its workflows are made of."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from github_runner import PINNED, TOP, Run
from jobs import ACTION, Job

USES = re.compile(r"^\s*-?\s*uses: (\S+)(.*)$", re.MULTILINE)
FILES = sorted([*(TOP / ".github").glob("workflows/*.yml"), *(TOP / ".github").glob("actions/*/action.yml")])


def assert_refused(run: Run, message: str) -> None:
    """The step that checks failed with one line, nothing ran after it, and nothing stayed."""
    assert run.failed
    assert f"::error title=tradekeep::{message}" in run.log
    assert run.outcomes["Check the inputs"] == "failure"
    assert run.outcomes["Install Ansible"] == run.outcomes["Run the playbooks"] == run.outcomes["Report"] == "skipped"
    assert run.outcomes["Remove the key"] == "success"
    assert run.left() == []


@pytest.mark.parametrize(
    "ref",
    [
        "$(touch executed)",
        "`touch executed`",
        "main; touch executed",
        "main && touch executed",
        "main\ntouch executed",
        "--upload-pack=touch executed",
        "{{ lookup('ansible.builtin.pipe', 'touch executed') }}",
        "${{ github.token }}",
        "'",
        "../../etc",
        "",
    ],
)
def test_a_ref_is_a_name_and_nothing_else(checking: Job, ref: str) -> None:
    run = checking.run("update", ref)
    assert_refused(run, "ref: expected a branch, a tag or a commit")
    assert not list(checking.workspace.rglob("executed"))


@pytest.mark.parametrize("known_hosts", ["", "\n", "# nothing\n"])
def test_missing_known_hosts_are_refused(checking: Job, known_hosts: str) -> None:
    assert_refused(
        checking.run("update", "main", known_hosts=known_hosts), "known-hosts: expected the hosts' public keys"
    )


def test_known_hosts_that_are_none_are_refused(checking: Job) -> None:
    assert_refused(checking.run("update", "main", known_hosts="StrictHostKeyChecking no\n"), "known-hosts: expected")


def test_a_key_that_does_not_open_is_refused_and_not_shown(checking: Job, tmp_path: Path) -> None:
    path = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret words", "-f", str(path)], check=True)
    run = checking.run("update", "main", ssh_key=path.read_text())
    assert_refused(run, "ssh-key: expected a private key without a passphrase")
    assert not any(line in run.log for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"mode": "destroy"}, "mode: expected one of plan, update, new, rollback"),
        ({"inventory": ""}, "inventory: expected the path of an inventory"),
        ({"inventory": "elsewhere"}, "inventory: expected a path in the checked-out repository"),
        ({"inventory": "inventory.json,"}, "inventory: expected a path in the checked-out repository"),
        ({"limit": "@/etc/passwd"}, "limit: expected a pattern of hosts"),
        ({"variables": "nothing.yml"}, "variables: expected a path"),
        ({"ssh-key": ""}, "ssh-key: expected a private key, found nothing"),
        ({"ssh-certificate": "no certificate"}, "ssh-certificate: expected a certificate"),
        ({"artifact-backup": "yes"}, "artifact-backup: expected true or false"),
        ({"artifact-backup": "true"}, "artifact-backup-recipients: expected the files of the public keys"),
    ],
)
def test_a_wrong_input_is_named(checking: Job, inputs: dict[str, str], message: str) -> None:
    mode = inputs.pop("mode", "update")
    assert_refused(checking.run(mode, "main", **inputs), message)


def test_a_rollback_takes_no_ref(checking: Job) -> None:
    assert_refused(checking.run("rollback", "main"), "ref: a rollback leads to the deploy before")


def test_a_message_cannot_be_a_command_of_the_runner(checking: Job) -> None:
    run = checking.run("update", "main\n::add-mask::x")
    assert not any(line.startswith("::add-mask::") for line in run.log.splitlines())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_used_is_pinned_and_nothing_is_interpolated(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name, comment in USES.findall(text):
        assert PINNED.fullmatch(name), name
        assert comment.startswith("  # "), f"{name} does not say which version it is"
    document = yaml.safe_load(text)
    jobs = document.get("jobs", {}).values() if "jobs" in document else [document["runs"]]
    for step in (step for job in jobs for step in job["steps"]):
        assert "${{" not in step.get("run", "")


def test_secrets_are_given_to_one_step_only() -> None:
    definition = yaml.safe_load((ACTION / "action.yml").read_text(encoding="utf-8"))
    given = [
        step["name"]
        for step in definition["runs"]["steps"]
        if any("ssh-key" in str(value) or "ssh-cert" in str(value) for value in step.get("env", {}).values())
    ]
    assert given == ["Check the inputs"]


def test_the_requirements_are_all_pinned_by_digest() -> None:
    text = (ACTION / "requirements.txt").read_text(encoding="utf-8")
    packages = re.findall(r"^([a-z0-9-]+)==\S+.*\\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n?)+)", text, re.MULTILINE)
    names = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(packages) == len(names) >= 8
    wanted = (TOP / "requirements" / "dev.txt").read_text(encoding="utf-8")
    assert re.search(r"^ansible-core==(\S+)", text, re.MULTILINE)[1] in wanted  # type: ignore[index]
