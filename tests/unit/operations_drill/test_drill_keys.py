# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills of encrypted backups: only what was given for the drill opens them, and nothing of it stays behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import EncryptionError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import runner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from drill_bench import FILLS, Bench

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")


def gpg(home: Path, *arguments: str) -> bytes:
    argv = ["gpg", "--batch", "--quiet", "--homedir", str(home), "--pinentry-mode", "loopback", "--passphrase", ""]
    return subprocess.run([*argv, *arguments], check=True, capture_output=True).stdout


class KeyPair:
    """A key pair whose secret half lies in a file, as it would lie with somebody away from the host."""

    def __init__(self, place: Path, name: str, *more: str, expires: str = "never") -> None:
        self.home = place / name
        self.home.mkdir(mode=0o700)
        gpg(self.home, *more, "--quick-gen-key", f"{name} <{name}@example.com>", "future-default", "default", expires)
        self.public, self.secret = place / f"{name}.asc", place / f"{name}.secret.asc"
        self.public.write_bytes(gpg(self.home, "--armor", "--export"))
        self.secret.write_bytes(gpg(self.home, "--armor", "--export-secret-keys"))
        self.secret.chmod(0o600)

    def encrypt(self, source: Path, target: Path, *more: str) -> None:
        gpg(self.home, *more, "--trust-model", "always", "-r", "example.com", "-o", str(target), "-e", str(source))


@pytest.fixture(scope="module")
def place():
    made = Path(tempfile.mkdtemp(prefix="tk-"))  # gpg's agent wants a short path
    yield made
    for home in (path for path in made.iterdir() if path.is_dir()):
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def operator(place):
    return KeyPair(place, "operator")


@pytest.fixture(scope="module")
def stranger(place):
    return KeyPair(place, "stranger")


@pytest.fixture
def temporary(monkeypatch):
    """Where gpg homes are made; it is empty again at the end."""
    made = tempfile.mkdtemp(prefix="tk-")
    monkeypatch.setattr(tempfile, "tempdir", made)
    yield made
    assert os.listdir(made) == []
    os.rmdir(made)


@pytest.fixture
def sealed(make_bench, operator, temporary):
    bench = make_bench(gpg_recipients=(str(operator.public),))
    bench.database().close()
    bench.backup(encrypt=True)
    return bench


def problems(outcome) -> str:
    return "\n".join(outcome.record["problems"])


def test_the_key_that_is_given_opens_the_backup(sealed, operator):
    outcome = sealed.drill(key_file=str(operator.secret))
    assert outcome.record["verdict"] == "passed", problems(outcome)
    assert outcome.record["backup"]["encrypted"] and outcome.record["notes"] == []
    assert outcome.record["databases"][0]["rows"] == 100


def test_the_key_of_the_profile_opens_it_too(sealed, operator):
    sealed.set(key_file=str(operator.secret))
    assert sealed.drill().record["verdict"] == "passed"


def test_without_a_key_the_drill_fails_even_where_the_host_has_it(sealed, operator, place, monkeypatch):
    (place / "root").mkdir()
    (place / "root/.gnupg").symlink_to(operator.home)
    monkeypatch.setattr(runner, "home_directory", lambda: str(place / "root"))
    outcome = sealed.drill()
    assert "no key was given for this backup" in problems(outcome) and "--key" in problems(outcome)
    assert int(outcome.status) == 1


def test_hazard_b8_a_wrong_key_is_a_finding(sealed, stranger):
    outcome = sealed.drill(key_file=str(stranger.secret))
    assert "no secret key for this backup" in problems(outcome)
    assert sealed.leftovers() == []


@pytest.mark.parametrize(
    ("name", "word"),
    [("absent", "cannot be read"), ("public", "holds no secret key"), ("text", "no key that can be imported")],
)
def test_what_is_no_secret_key_is_named(sealed, operator, tmp_path, name, word):
    (tmp_path / "text").write_text("no key\n")
    key = {"absent": tmp_path / "absent", "public": operator.public, "text": tmp_path / "text"}[name]
    assert word in problems(sealed.drill(key_file=str(key)))


def test_a_key_past_its_time_still_decrypts_and_is_noted(make_bench, place, temporary):
    """It was good when the backup was made; gpg lets an expired key decrypt. New backups would fail."""

    def days_ago(days: int) -> tuple[str, str]:
        return "--faked-system-time", time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() - days * 86400))

    expired = KeyPair(place, "expired", *days_ago(30), expires="7d")
    bench = make_bench()
    bench.database().close()
    made = bench.backup()
    encrypted = made.with_name(made.name + ".gpg")
    # A day later: each call of gpg begins anew at the time it is told, and the key must exist by then.
    expired.encrypt(made, encrypted, *days_ago(29))
    made.unlink()
    outcome = bench.drill(reference=encrypted.name, key_file=str(expired.secret))
    assert outcome.record["verdict"] == "passed", problems(outcome)
    assert any("past its time" in text for text in outcome.record["notes"])


def test_a_key_that_others_can_read_is_noted(sealed, operator, tmp_path):
    open_key = tmp_path / "key"
    shutil.copy(operator.secret, open_key)
    open_key.chmod(0o644)
    outcome = sealed.drill(key_file=str(open_key))
    assert any("can be read by others" in text for text in outcome.record["notes"])


@pytest.mark.once
def test_a_passphrase_opens_the_backup_and_a_wrong_one_does_not(make_bench, tmp_path, temporary):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for path in (right, wrong):
        path.write_text(path.name + "\n")
        path.chmod(0o600)
    bench = make_bench(passphrase_file=str(right))
    bench.database().close()
    bench.backup(encrypt=True)
    assert bench.drill().record["verdict"] == "passed"
    outcome = bench.drill(passphrase_file=str(wrong))
    assert "wrong passphrase" in problems(outcome) and outcome.record["verdict"] == "failed"


def test_the_key_that_is_given_opens_an_archive_for_a_new_server_too(sealed, operator, stranger, tmp_path):
    archive = sealed.drill(key_file=str(operator.secret)).record["backup"]["path"]
    new = Bench(tmp_path / "new")
    install_configuration(new.application)
    with pytest.raises(EncryptionError, match="no secret key"):
        migrate(new.application, new.ports, source=archive, force=True, key_file=str(stranger.secret))
    assert not (new.root / FILLS).exists()
    done = migrate(new.application, new.ports, source=archive, force=True, key_file=str(operator.secret))
    assert done.record["holds"]["databases"][FILLS]["tables"] == {"fills": 100}
    assert (new.root / FILLS).exists()


@pytest.mark.once
def test_a_key_that_is_locked_says_so(make_bench, place, temporary, tmp_path):
    locked = KeyPair(place, "locked")
    secret = tmp_path / "pass"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    again = ("--pinentry-mode", "loopback", "--passphrase-file", str(secret))
    argv = ["gpg", "--batch", "--quiet", "--homedir", str(place / "locked")]
    new = [*argv, *again, "--quick-gen-key", "locked2 <locked2@example.com>", "future-default", "default", "never"]
    subprocess.run(new, check=True, capture_output=True)
    keys = [*argv, *again, "--armor", "--export-secret-keys", "locked2@example.com"]
    locked.secret.write_bytes(subprocess.run(keys, check=True, capture_output=True).stdout)
    public = subprocess.run([*argv, "--armor", "--export", "locked2@example.com"], check=True, capture_output=True)
    locked.public.write_bytes(public.stdout)
    bench = make_bench(gpg_recipients=(str(locked.public),))
    bench.database().close()
    bench.backup(encrypt=True)
    assert "the key is locked with a passphrase" in problems(bench.drill(key_file=str(locked.secret)))
    opened = bench.drill(key_file=str(locked.secret), passphrase_file=str(secret))
    assert opened.record["verdict"] == "passed"
