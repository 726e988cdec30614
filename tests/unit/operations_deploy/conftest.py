# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository, a checkout in which a bot's data lies, and an application that deploys the one into the other."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.deploy import deploy
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.request import DeployRequest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

WHO = {f"GIT_{role}_{what}": "a@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
FIRST = {
    "bot.py": "print(1)\n",
    "lib/a.py": "a = 1\n",
    "lib/b.py": "b = 1\n",
    ".gitignore": "paper_trading_outputs/\nlogs/\n*.jsonl\n",
    "paper_trading_outputs/.gitkeep": "",
}
TRADES = "paper_trading_outputs/trades.jsonl"


class World:
    """See the module."""

    def __init__(self, base: Path, **settings) -> None:
        self.base = base
        self.upstream = base / "upstream"
        self.live = base / "live"
        self.upstream.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.first = self.push(FIRST)
        self.notes: list[str] = []
        self.profile: dict[str, object] = {}
        self.settings = {"repository": str(self.upstream), "backup_first": "none", **settings}
        self.ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())

    @property
    def application(self):
        paths = {name: str(self.base / name) for name in ("state_dir", "backup_dir", "config_dir", "bin_dir")}
        root = self.settings.get("root", str(self.live))
        deploying = {key: value for key, value in self.settings.items() if key != "root"}
        definition = {"extends": "paper_bot", **self.profile, "deploy": deploying}
        return resolve_application(definition, root=root, become=False, **paths)

    @property
    def state(self) -> Path:
        return Path(self.application.application_state_dir)

    def git(self, *arguments: str, at: Path | None = None) -> str:
        argv = ["git", "-c", "protocol.file.allow=always", *arguments]
        environment = {**os.environ, **WHO, "GIT_CONFIG_GLOBAL": "/dev/null"}
        done = subprocess.run(
            argv, cwd=at or self.upstream, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def push(self, files: dict[str, str | None]) -> str:
        """Commit some files upstream; None removes one. Returns the commit."""
        for name, content in files.items():
            path = self.upstream / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        self.git("add", "--all", "--force", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")
        return self.git("rev-parse", "HEAD")

    def clone(self) -> None:
        """The checkout as it was made by hand, and what the bot wrote into it since."""
        self.git("clone", "--quiet", str(self.upstream), str(self.live), at=self.base)
        self.write({TRADES: '{"n": 1}\n', "logs/bot.log": "started\n"})

    def write(self, files: dict[str, str]) -> None:
        for name, content in files.items():
            path = self.live / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")

    def read(self, path: str) -> str:
        return (self.live / path).read_text(encoding="utf-8")

    def code(self) -> dict[str, str]:
        """What lies in the checkout apart from git's own."""
        return {
            str(path.relative_to(self.live)): path.read_text(encoding="utf-8")
            for path in sorted(self.live.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(self.live).parts
        }

    def deploy(self, ref: str | None = "main", *, dry_run: bool = False, step=None, **fields):
        ports = self.ports if step is None else dataclasses.replace(self.ports, step=step)
        request = DeployRequest(ref=None if fields.get("rollback") else ref, **fields)
        return deploy(self.application, ports, request, dry_run=dry_run)

    def rollback(self, **fields):
        return self.deploy(rollback=True, **fields)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.clone()
    return made


def listing(top: Path) -> dict[str, tuple]:
    """Everything beneath a directory, so that not one write goes unseen."""
    found = {}
    for path in sorted(top.rglob("*")):
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[str(path)] = (facts.st_ino, facts.st_mode, facts.st_mtime_ns, content)
    return found
