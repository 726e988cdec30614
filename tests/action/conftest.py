# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A server, a runner, and the environment that the action installs, made once for all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from github_runner import Run
from jobs import ACTION, Job
from servers import LocalServer, Server, TestHost

HOST = os.environ.get("TRADEKEEP_ACTION_HOST", "")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the step "Install Ansible" makes, by running it."""
    temp = tmp_path_factory.mktemp("installed")
    place = temp / "place"
    (place / "private").mkdir(parents=True)
    variables = {**os.environ, "RUNNER_TEMP": str(temp), "TRADEKEEP_DIRECTORY": str(place)}
    subprocess.run([sys.executable, "-EB", str(ACTION / "install.py")], env=variables, check=True)
    (found,) = temp.glob("tradekeep-ansible-*")
    return found


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """TRADEKEEP_ACTION_HOST where it is named, else this machine."""
    scratch = tmp_path_factory.mktemp("server")
    if not HOST and (LocalServer.program is None or shutil.which("git") is None):
        pytest.skip("no sshd (openssh-server) on this machine to deploy to; molecule deploys to real hosts")
    found: Server = TestHost(scratch, HOST) if HOST else LocalServer(scratch)
    found.prepare()
    yield found
    found.close()


@pytest.fixture
def job(server: Server, environment: Path, tmp_path: Path) -> Job:
    """A job of a repository whose inventory is the server."""
    return Job(server, tmp_path, environment)


@pytest.fixture(scope="session")
def deployed(server: Server, environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The first deploy to the server, with the mode `new`; the bot has written something since."""
    commit = server.push({"bot.py": "print(1)\n", ".gitignore": "data/\n"})
    run = Job(server, tmp_path_factory.mktemp("new"), environment).run("new", commit)
    assert not run.failed, run.log
    server.write("data/trades.jsonl", '{"n": 1}\n')
    return run


@pytest.fixture
def checking(server: Server, tmp_path: Path) -> Job:
    """A job that does not get as far as Ansible."""
    return Job(server, tmp_path, None)
