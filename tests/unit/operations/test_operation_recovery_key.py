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
