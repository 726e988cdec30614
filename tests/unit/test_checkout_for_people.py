# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What people meet who work from a checkout: old Pythons, servers with a password, their inventory and their keys."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

import environments

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.once
@pytest.mark.parametrize(("version", "name"), [("3.9.2", "demo"), ("3.10.12", "dev")])
def test_an_old_python_is_told_which_one_is_needed(tmp_path, monkeypatch, version, name):
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755)
    newer = tmp_path / "python3.12"
    newer.symlink_to(python)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TRADEKEEP_CACHE", str(tmp_path / "cache"))
    wanted = rf"requirements/{name}\.txt needs Python 3\.11 or newer, and .*python3 is {re.escape(version)}"
    with pytest.raises(environments.EnvironmentFailure, match=rf"{wanted}.*PYTHON=python3\.12"):
        environments.environment(name, python=python)
    newer.unlink()
    with pytest.raises(environments.EnvironmentFailure, match=rf"{wanted}.*install a newer one, then: make"):
        environments.environment(name, python=python)
    assert not (tmp_path / "cache").exists()


@pytest.mark.once
@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed")
def test_a_server_that_has_a_password_only_can_be_reached():
    """A new server often has nothing else. Without -k ansible itself tells ssh not to ask for one."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(TOP / "ansible.cfg")
    options = shlex.split(settings["ssh_connection"]["ssh_args"])
    asked = subprocess.run(["ssh", "-F", "none", "-G", *options, "host"], capture_output=True, text=True, check=True)
    chosen = dict(line.partition(" ")[::2] for line in asked.stdout.splitlines())
    assert "password" in chosen.get("preferredauthentications", "password")
    assert chosen["passwordauthentication"] == "yes"
    assert settings["defaults"].getboolean("host_key_checking")


@pytest.mark.once
def test_an_inventory_of_ones_own_is_not_committed(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copy(TOP / ".gitignore", tmp_path)
    ask = ["git", "-C", str(tmp_path), "check-ignore", "--quiet"]
    assert subprocess.run([*ask, "inventories/mine/hosts.yml"]).returncode == 0
    assert subprocess.run([*ask, "inventories/example/hosts.yml"]).returncode == 1


@pytest.mark.once
@pytest.mark.parametrize("before", ["nothing", "open"])
def test_the_guide_makes_secret_keys_that_nobody_else_can_read(tmp_path, before):
    """With gpg left out; the shell's umask is the usual one."""
    guide = (TOP / "docs/first-server.md").read_text(encoding="utf-8")
    chapter = guide[guide.index("## 1.") : guide.index("## 2.")]
    commands = re.findall(r"^\$ (.*)$", chapter, re.MULTILINE)
    assert any("--export-secret-keys" in command for command in commands)
    gpg = tmp_path / "bin/gpg"
    gpg.parent.mkdir()
    gpg.write_text("#!/bin/sh\necho key\n")
    gpg.chmod(0o755)
    safe = tmp_path / "safe"
    if before == "open":
        safe.mkdir(mode=0o755)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{gpg.parent}:{os.environ['PATH']}"}
    script = "\n".join(["set -e", "umask 022", *commands])
    subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, check=True)
    assert stat.S_IMODE(safe.stat().st_mode) == 0o700
    assert stat.S_IMODE((safe / "operator-secret.asc").stat().st_mode) == 0o600
    assert (tmp_path / "inventories/mine/keys/operator.asc").read_text() == "key\n"
