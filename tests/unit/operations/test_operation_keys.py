# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys are proven by `config check`, long before the day on which they are needed."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SEARCH_PATH, SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")


def gpg(home, *arguments):
    argv = ["gpg", "--batch", "--quiet", "--homedir", home, "--pinentry-mode", "loopback", "--passphrase", ""]
    return subprocess.run([*argv, *arguments], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Public and secret key files of two people."""
    files = {}
    for name in ("owner", "other"):
        # The name of a socket of gpg's may have 107 bytes.
        with tempfile.TemporaryDirectory(prefix="tk-") as home:
            gpg(home, "--quick-gen-key", name, "rsa2048", "cert,encr", "never")
            for kind, option in (("public", "--export"), ("secret", "--export-secret-keys")):
                path = tmp_path_factory.getbasetemp() / f"{name}-{kind}.asc"
                path.write_bytes(gpg(home, "--armor", option))
                files[f"{name} {kind}"] = str(path)
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], capture_output=True)
    return files


def prepared(make_bench, **options):
    bench = make_bench(**options)
    bench.make_tree()
    bench.backups.mkdir(mode=0o700)
    return bench


@pytest.mark.once
def test_hazard_b8_config_check_decrypts_a_sample(make_bench, tmp_path):
    """A gpg that seems to work: nothing but the decrypted bytes tells."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    passphrase.chmod(0o600)
    bench = prepared(make_bench, passphrase_file=str(passphrase))
    assert check_configuration(bench.application, bench.ports).status == ExitStatus.DONE
    programs = tmp_path / "programs"
    programs.mkdir()
    script = f'#!/bin/sh\nPATH={SEARCH_PATH}\ncase "$*" in *--decrypt*) cat >&2; echo x;; *) exec gpg "$@";; esac\n'
    (programs / "gpg").write_text(script)
    (programs / "gpg").chmod(0o755)
    ports = dataclasses.replace(bench.ports, runner=SubprocessRunner(search_path=f"{programs}:{SEARCH_PATH}"))
    found = check_configuration(bench.application, ports)
    assert found.status == ExitStatus.FINDINGS
    assert "other bytes than were encrypted" in found.record["problems"][0]


def test_hazard_b8_a_recovery_key_of_somebody_else_is_found(make_bench, keys):
    bench = prepared(make_bench, gpg_recipients=[keys["owner public"]], host_key=False)
    right = check_configuration(bench.application, bench.ports, recovery_key=keys["owner secret"])
    assert (right.status, right.record["problems"]) == (ExitStatus.DONE, [])
    wrong = check_configuration(bench.application, bench.ports, recovery_key=keys["other secret"])
    assert wrong.status == ExitStatus.FINDINGS
    assert "no secret key for this backup" in wrong.record["problems"][0]
    assert not list(Path(bench.base).rglob("*.gpg"))


def test_deep_verification_of_what_cannot_be_opened_does_not_say_ok(make_bench, keys):
    bench = prepared(make_bench, gpg_recipients=[keys["owner public"]])
    backup(bench.application, bench.ports, encrypt=True)
    done = verify(bench.application, bench.ports, reference="latest", deep=True)
    (result,) = done.record["backups"]
    assert (result["ok"], result["opened"], result["level"]) == (True, False, "checksum")
    assert "cannot decrypt it" in done.lines[0]
    assert " unopened " in done.lines[-1] and " ok " not in done.lines[-1]
