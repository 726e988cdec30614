# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The action's own steps, run for real against a server: what they do, and what never leaves them."""

from __future__ import annotations

import contextlib
import json
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from github_runner import Run
from jobs import Job
from servers import Server, TestHost


def answer(run: Run) -> dict:
    """What the only host answered, from the uploaded artifact."""
    (artifact,) = (path for name, path in run.artifacts.items() if not name.endswith("-backup"))
    (file,) = artifact.iterdir()
    return json.loads(file.read_text(encoding="utf-8"))


def assert_no_secret(run: Run, server: Server) -> None:
    """No line of the key in what a job shows and keeps, and no file with it on the runner."""
    kept = [path for path in run.temp.rglob("*") if path.is_file() and "tradekeep-ansible-" not in str(path)]
    texts = [run.log, run.summary, *run.outputs.values(), *(path.read_text(errors="replace") for path in kept)]
    for line in server.key.splitlines()[1:-1]:
        assert not any(line in text for text in texts)
    assert not list(run.temp.glob("tradekeep-*/private"))


class Watch(threading.Thread):
    """Every command line of the machine, and the modes of the key and its directory, while a job runs."""

    def __init__(self, temp: Path) -> None:
        super().__init__()
        self.temp, self.done = temp, threading.Event()
        self.commands: set[bytes] = set()
        self.modes: dict[str, int] = {}

    def run(self) -> None:
        while not self.done.wait(0.02):
            for path in [*Path("/proc").glob("[0-9]*/cmdline"), *self.temp.glob("tradekeep-*/private/key")]:
                # What is gone by now is seen another time.
                with contextlib.suppress(OSError):
                    self._see(path)

    def _see(self, path: Path) -> None:
        if path.name == "cmdline":
            self.commands.add(path.read_bytes())
        else:
            self.modes[path.name] = stat.S_IMODE(path.stat().st_mode)
            self.modes[path.parent.name] = stat.S_IMODE(path.parent.stat().st_mode)

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.join()


def test_new_sets_up_and_deploys(deployed: Run, server: Server) -> None:
    assert deployed.outputs["result"] == "deployed"
    assert deployed.outputs["old-commit"] == ""
    assert len(deployed.outputs["new-commit"]) == 40
    assert deployed.outputs["preserved"] == "preserved"
    assert server.read("bot.py") == "print(1)\n"
    assert_no_secret(deployed, server)


def test_plan_says_all_and_writes_nothing(deployed: Run, job: Job) -> None:
    job.server.push({"bot.py": "print('planned')\n", "new_`|<file>.py": "x\n"})
    before = job.server.everything()
    with Watch(job.temp) as watch:
        run = job.run("plan", "main")
    assert not run.failed, run.log
    assert run.outputs["result"] == "planned"
    assert run.outputs["new-commit"] == job.server.head
    assert run.outputs["downtime"] == run.outputs["preserved"] == ""
    assert job.server.everything() == before
    assert answer(run)["record"]["changes"]["created"] == 1
    assert "<code>replace bot.py</code>" in run.summary
    assert "new&#95;&#96;&#124;&#60;file&#62;.py" in run.summary
    assert watch.modes == {"key": 0o600, "private": 0o700}
    assert any(b"ansible-playbook" in command for command in watch.commands), "the watch saw nothing"
    for line in job.server.key.splitlines()[1:-1]:
        assert not any(line.encode() in command for command in watch.commands)
    job.server.push({"new_`|<file>.py": None})


def test_update_proves_that_data_is_left_alone_and_rollback_goes_back(deployed: Run, job: Job) -> None:
    old = job.run("plan", "main").outputs["old-commit"]
    inode, data = job.server.inode("data/trades.jsonl"), job.server.read("data/trades.jsonl")
    code = job.server.read("bot.py")
    new = job.server.push({"bot.py": "print(2)\n"})
    run = job.run("update", "main")
    assert not run.failed, run.log
    assert (run.outputs["result"], run.outputs["old-commit"], run.outputs["new-commit"]) == ("deployed", old, new)
    assert run.outputs["preserved"] == "preserved"
    assert float(run.outputs["downtime"]) >= 0
    assert job.server.read("bot.py") == "print(2)\n"
    assert answer(run)["record"]["by"] == "octocat by octo/bot run 42.1"
    # Later steps of the job read the records.
    assert json.loads((Path(run.outputs["record"]) / "bot1.json").read_text())["host"] == "bot1"
    again = job.run("update", new)
    assert (again.outputs["result"], again.failed) == ("unchanged", False)
    back = job.run("rollback")
    assert not back.failed, back.log
    assert (back.outputs["result"], back.outputs["new-commit"]) == ("rolled_back", old)
    assert job.server.read("bot.py") == code
    assert (job.server.inode("data/trades.jsonl"), job.server.read("data/trades.jsonl")) == (inode, data)
    for each in (run, again, back):
        assert_no_secret(each, job.server)


def test_a_deploy_that_takes_longer_is_waited_for(deployed: Run, job: Job) -> None:
    """On a host with systemd the first call answers at once, and the play asks again for what its unit does."""
    (job.workspace / "more.yml").write_text("deploy_patience: 0\ndeploy_poll: 1\n", encoding="ascii")
    new = job.server.push({"bot.py": "print('in its own time')\n"})
    run = job.run("update", new, variables="more.yml")
    assert not run.failed, run.log
    assert (run.outputs["result"], run.outputs["new-commit"]) == ("deployed", new)
    assert answer(run)["record"]["proof"]["verdict"] == "preserved"
    assert job.server.read("bot.py") == "print('in its own time')\n"
    if isinstance(job.server, TestHost):
        assert "Wait for the deploy" in run.log, run.log


def test_a_release_that_does_not_come_up_fails_the_job_and_is_undone(deployed: Run, job: Job) -> None:
    before = job.server.read("bot.py")
    job.server.push({"bot.py": "print('bad')\n", "broken": "\n"})
    try:
        run = job.run("update", "main")
    finally:
        job.server.push({"bot.py": before, "broken": None})
    assert run.failed
    assert (run.outputs["result"], run.outputs["preserved"]) == ("undone", "preserved"), run.log
    assert job.server.read("bot.py") == before
    assert "| bot1 | undone |" in run.summary
    assert_no_secret(run, job.server)


def test_a_collision_fails_the_job_and_is_named(deployed: Run, job: Job) -> None:
    data = job.server.read("data/trades.jsonl")
    job.server.push({"data/trades.jsonl": "upstream\n"})
    try:
        run = job.run("update", "main")
    finally:
        job.server.push({"data/trades.jsonl": None})
    assert run.failed
    assert run.outputs["result"] == "refused"
    assert "data/trades.jsonl" in run.summary
    assert job.server.read("data/trades.jsonl") == data


def test_another_host_key_fails_and_no_key_stays(server: Server, job: Job, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    host = server.known_hosts.split()[0]
    other = f"{host} {(tmp_path / 'other.pub').read_text()}"
    # Nothing in the repository can turn the check off.
    for name in ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_host_key_checking"):
        server.inventory(job.workspace / "inventory.json", **{name: "-o StrictHostKeyChecking=no"})
        run = job.run("update", "main", known_hosts=other)
        assert run.failed
        assert f"inventory: bot1 sets '{name}'" in run.log
        assert_no_secret(run, server)
    server.inventory(job.workspace / "inventory.json")
    (job.workspace / "ansible.cfg").write_text("[defaults]\nhost_key_checking = false\n")
    run = job.run("update", "main", {"ANSIBLE_HOST_KEY_CHECKING": "false"}, known_hosts=other)
    assert run.failed
    assert run.outputs["result"] == "failed"
    assert "Host key verification failed" in run.log or "REMOTE HOST IDENTIFICATION HAS CHANGED" in run.log
    assert_no_secret(run, server)


def test_a_certificate_opens_where_the_key_alone_does_not(deployed: Run, job: Job) -> None:
    key, certificate = job.server.certified()
    assert job.run("plan", "main", ssh_key=key).outputs["result"] == "failed"
    run = job.run("plan", "main", ssh_key=key, ssh_certificate=certificate)
    assert not run.failed, run.log


@pytest.fixture
def recipient(tmp_path: Path) -> Path:
    """The public half of a key of its own, and beside it the home in which the secret half lies."""
    return make_key(tmp_path / "gnupg")


def make_key(home: Path) -> Path:
    """A new gpg key; returns the file of its public half."""
    home.mkdir(mode=0o700)
    public = home.with_suffix(".asc")
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    quick = ["--passphrase", "", "--quick-generate-key", "Recovery <recovery@example.org>", "default", "default"]
    subprocess.run([*gpg, *quick, "never"], check=True)
    subprocess.run([*gpg, "--armor", "--output", str(public), "--export"], check=True)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    return public


def test_an_encrypted_backup_becomes_an_artifact(deployed: Run, job: Job, recipient: Path) -> None:
    (job.workspace / "operator.asc").write_bytes(recipient.read_bytes())
    (job.workspace / "recovery.asc").write_bytes(recipient.read_bytes())
    key_files = ["{{ inventory_dir }}/recovery.asc"]
    job.server.inventory(job.workspace / "inventory.json", backup_gpg_key_files=key_files)
    inputs = {"artifact_backup": "true", "artifact_backup_recipients": "operator.asc"}
    run = job.run("new", "main", **inputs)
    assert not run.failed, run.log
    (artifact,) = (path for name, path in run.artifacts.items() if name.endswith("-backup"))
    (archive,) = (path for path in artifact.rglob("*") if path.is_file())
    decrypt = ["gpg", "--homedir", str(recipient.with_suffix("")), "--batch", "--quiet", "--decrypt", str(archive)]
    decrypted = subprocess.run(decrypt, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["gpgconf", "--homedir", str(recipient.with_suffix("")), "--kill", "all"], check=True)
    assert decrypted.startswith(b"\x1f\x8b")
    assert not list(run.temp.glob("tradekeep-*/backups/**/*"))
    assert_no_secret(run, job.server)
    # The host encrypts to its own recipients; an artifact that somebody else could open is not one.
    stranger = make_key(recipient.with_name("stranger"))
    (job.workspace / "operator.asc").write_bytes(stranger.read_bytes())
    run = job.run("update", "main", **inputs)
    assert run.failed
    assert "can be opened by keys that are not named" in run.log
    assert not [name for name in run.artifacts if name.endswith("-backup")]
    assert not list(run.temp.glob("tradekeep-*/backups/**/*"))


def test_without_encryption_there_is_no_artifact(deployed: Run, job: Job, recipient: Path) -> None:
    (job.workspace / "operator.asc").write_bytes(recipient.read_bytes())
    run = job.run("new", "main", artifact_backup="true", artifact_backup_recipients="operator.asc")
    assert run.failed
    assert run.outcomes["Fetch an encrypted backup"] == "failure"
    assert not [name for name in run.artifacts if name.endswith("-backup")]
    assert_no_secret(run, job.server)
