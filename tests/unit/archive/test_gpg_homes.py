# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The temporary homes of gpg: where they are made, and that none outlives its process for long."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Encryption
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import encryption
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import open_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_reader import read_archive
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import EncryptionError
from ansible_collections.tradekeep.ops.tests.unit.archive.samples import RUNNER, sample_container

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
HOLDING_A_HOME = """
import subprocess, sys
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.encryption import temporary_home
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
with temporary_home(SubprocessRunner()) as home:
    subprocess.run(["gpgconf", "--homedir", home, "--launch", "gpg-agent"], check=True)
    print(home, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def private_tmp(monkeypatch):
    base = tempfile.mkdtemp(prefix="tk-")
    monkeypatch.setattr(tempfile, "tempdir", base)
    yield base
    assert os.listdir(base) == []
    os.rmdir(base)


@pytest.fixture
def passphrase_file(tmp_path):
    path = tmp_path / "passphrase"
    path.touch(0o600)
    path.write_text("correct horse\n")
    return str(path)


def holding_a_home(place):
    """A process with a gpg home and an agent for it; returns both, and the agent's id."""
    environment = {**os.environ, "TMPDIR": place, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", HOLDING_A_HOME],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    home = process.stdout.readline().strip()
    asked = ["gpg-connect-agent", "--homedir", home, "--no-autostart", "getinfo pid", "/bye"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return process, home, int(said.split()[1])


def wait_until_gone(agent):
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{agent}"):
        assert time.monotonic() < deadline, "the agent still runs"
        time.sleep(0.02)


@pytest.mark.once
def test_homes_and_agents_of_killed_runs_go_with_the_next_one(private_tmp):
    killed, left, agent = holding_a_home(private_tmp)
    living, held, other = holding_a_home(private_tmp)
    killed.kill()
    killed.wait()
    assert os.path.exists(f"/proc/{agent}")
    with encryption.temporary_home(RUNNER) as home:
        assert not os.path.exists(left)
        wait_until_gone(agent)
        assert sorted(os.listdir(private_tmp)) == sorted(os.path.basename(path) for path in (held, home))
        assert os.path.exists(f"/proc/{other}")
    living.communicate()
    assert living.returncode == 0
    wait_until_gone(other)


def test_only_our_own_leftovers_are_swept(tmp_path, private_tmp):
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    link = os.path.join(private_tmp, "tradekeep-gpg-planted0")
    os.symlink(treasure, link)
    with encryption.temporary_home(RUNNER):
        assert treasure.is_dir()
        assert os.path.islink(link)
    os.unlink(link)


@pytest.mark.once
def test_a_long_temporary_directory_is_passed_by(tmp_path, passphrase_file, monkeypatch):
    long = tmp_path / ("d" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    path = tmp_path / "a.tar.gz.gpg"
    with encryption.temporary_home(RUNNER) as home:
        assert len(home) < 80
    sample_container(path, encryption=Encryption(passphrase_file=passphrase_file))
    with open_container(path, runner=RUNNER, passphrase_file=passphrase_file) as stream:
        assert read_archive(stream).ok
    assert os.listdir(long) == []
    monkeypatch.setattr(encryption, "_places", lambda: (str(long),))
    with pytest.raises(EncryptionError, match="too long") as caught, encryption.temporary_home(RUNNER):
        pass
    assert "TMPDIR" in caught.value.hint
    monkeypatch.setattr(encryption, "_places", lambda: ("/nonexistent",))
    with pytest.raises(EncryptionError, match="no such file"), encryption.temporary_home(RUNNER):
        pass
