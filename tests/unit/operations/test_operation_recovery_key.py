# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the proof of the recovery key to the bad day: a public key on the host, its secret half elsewhere."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import runner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recovery_source import (
    RecoverySource,
    examine_source,
)

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")


def gpg(home: Path, *arguments: str) -> bytes:
    argv = ["gpg", "--batch", "--quiet", "--homedir", str(home), "--pinentry-mode", "loopback", "--passphrase", ""]
    return subprocess.run([*argv, *arguments], check=True, capture_output=True).stdout


class Operator:
    """Somebody with a key pair, away from the host."""

    def __init__(self, place: Path, name: str) -> None:
        self.home = place / name
        self.home.mkdir(mode=0o700)
        gpg(self.home, "--quick-gen-key", f"{name} <{name}@example.com>", "ed25519", "cert", "never")
        listed = gpg(self.home, "--with-colons", "--list-keys").decode()
        fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
        gpg(self.home, "--quick-add-key", fingerprint, "cv25519", "encr", "never")
        self.public, self.secret = place / f"{name}.asc", place / f"{name}.secret.asc"
        self.public.write_bytes(gpg(self.home, "--armor", "--export"))
        self.secret.write_bytes(gpg(self.home, "--armor", "--export-secret-keys"))
        self.secret.chmod(0o600)


@pytest.fixture(scope="module")
def operators():
    place = Path(tempfile.mkdtemp(prefix="tk-"))  # gpg's agent wants a short path
    found = [Operator(place, name) for name in ("operator", "stranger")]
    yield found
    for operator in found:
        subprocess.run(["gpgconf", "--homedir", str(operator.home), "--kill", "all"], check=False)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def host(make_bench, operators, tmp_path, monkeypatch):
    """A host that shall not read its own backups, and nothing in its temporary directory."""
    monkeypatch.setattr(runner, "home_directory", lambda: str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o700)
    temporary = tempfile.mkdtemp(prefix="tk-")
    monkeypatch.setattr(tempfile, "tempdir", temporary)
    bench = make_bench(gpg_recipients=(str(operators[0].public),), host_key=False)
    bench.make_tree()
    bench.database().close()
    install_configuration(bench.application)
    yield bench
    assert os.listdir(temporary) == []
    os.rmdir(temporary)


def tradekeep(bench, *words: object) -> tuple[int, dict]:
    out = io.StringIO()
    config_dir = str(bench.application.config_dir)
    status = cli.main(["--json", *map(str, words)], config_dir=config_dir, stdout=out, stderr=io.StringIO())
    return status, json.loads(out.getvalue())


def test_hazard_b8_the_recovery_key_decrypts_what_the_host_cannot(host, operators, tmp_path):
    operator, stranger = operators
    status, answer = tradekeep(host, "config", "check", "--recovery-key", operator.secret)
    assert (status, answer["record"]["problems"]) == (0, [])
    status, answer = tradekeep(host, "config", "check", "--recovery-key", stranger.secret)
    assert (status, len(answer["record"]["problems"])) == (1, 1)
    assert "no secret key" in answer["record"]["problems"][0]
    # Neither key is kept: the host cannot read its own backups.
    keyring = subprocess.run(["gpg", "--batch", "--list-secret-keys"], capture_output=True, text=True, check=False)
    assert keyring.stdout == ""
    status, answer = tradekeep(host, "backup", "--encrypt")
    made = Path(answer["record"]["backup"]["path"])
    assert (status, made.name.endswith(".tar.gz.gpg")) == (0, True)
    (host.root / "databases/accounts/kalshi/demo/fills.db").unlink()
    status, answer = tradekeep(host, "restore", "latest")
    assert status == 3
    assert "no secret key" in answer["error"]["message"]
    # Where the secret key is.
    plain = tmp_path / made.name[: -len(".gpg")]
    plain.write_bytes(gpg(operator.home, "--decrypt", str(made)))
    plain.chmod(0o600)
    assert tradekeep(host, "restore", plain)[0] == 0
    assert host.rows() == 100


def test_a_key_that_does_not_open_the_archive_is_found_on_the_controller(host, operators, tmp_path):
    """With everything else that is wrong there, before a server is touched; nothing of a secret stays."""
    operator, stranger = operators
    archive = Path(tradekeep(host, "backup", "--encrypt")[1]["record"]["backup"]["path"])

    def examined(**given) -> dict:
        outcome = examine_source(host.application, host.ports, RecoverySource(**{"archive": archive, **given}))
        assert (outcome.status == 0) == (outcome.record["problems"] == [])
        return outcome.record

    good = examined(key=operator.secret)
    assert good["problems"] == [] and good["encrypted"] and good["checksum_file"]
    assert good["bytes"] > good["archive_bytes"] > 0
    (problem,) = examined(key=stranger.secret)["problems"]
    assert problem.startswith(f"{archive}: no secret key for this backup")
    (problem,) = examined(key=operator.public)["problems"]
    assert "holds no" in problem
    (problem,) = examined(bare=True)["problems"]
    assert "recover_key_on_controller" in problem
    assert examined()["problems"] == [], "the host may have the key"
    assert examined(bare=True, unlocked_there=True)["problems"] == []
    vaulted = tmp_path / "vaulted.asc"
    vaulted.write_text("$ANSIBLE_VAULT;1.1;AES256\n")
    assert examined(key=vaulted)["problems"] == []
    assert "is not tested" in host.notes[-1]
    damaged = tmp_path / archive.name
    damaged.write_bytes(archive.read_bytes()[:-5])
    shutil.copy(f"{archive}.sha256", tmp_path)
    problems = examined(archive=damaged, key=tmp_path / "absent.asc")["problems"]
    assert problems[0] == f"{tmp_path}/absent.asc: there is no such file on the controller"
    assert "is not what its .sha256 says" in problems[1]
    assert not list(Path("/dev/shm").glob(".tradekeep-unlock-*"))


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_known_hosts_have_to_come_along(make_bench, tmp_path):
    bench = make_bench(
        profile={"extends": "kalshi", "deploy": {"repository": "ssh://git@git.example.com:2222/bot.git"}}
    )
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    kind, key = (tmp_path / "key.pub").read_text().split()[:2]
    known = tmp_path / "known_hosts"

    def problems(**brought: str) -> list[str]:
        source = RecoverySource(files={f"/{place}": str(known) for place in brought.values()}, bare=True)
        return examine_source(bench.application, bench.ports, source).record["problems"]

    (problem,) = problems()
    assert problem.startswith("/etc/ssh/ssh_known_hosts: nothing on the host says which key [git.example.com]:2222 has")
    known.write_text(f"git.example.com {kind} {key}\n")
    (problem,) = problems(place="etc/ssh/ssh_known_hosts")
    assert problem.startswith(f"{known}: has no key of [git.example.com]:2222")
    known.write_text(f"[git.example.com]:2222 {kind} {key}\n")
    assert problems(place="etc/ssh/ssh_known_hosts") == []
    assert problems(place="home/azureuser/.ssh/known_hosts") == []
