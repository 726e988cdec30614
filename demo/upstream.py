# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The repository that the bot's code is deployed from, and what people push to it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import bot

HEALTH = """import strategy

print(f"edge {strategy.edge(0.5, 0.52):.2f}")
"""
GOOD = """def edge(price, fair):
    return fair - price
"""
BETTER = """FEE = 0.01


def edge(price, fair):
    return fair - price - FEE
"""
# What everybody has pushed once: the name is wrong, and Python finds out when it runs.
BAD = BETTER.replace("- price", "- prise")


class Upstream:
    """A repository in a directory of the demo's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self) -> None:
        """The first version."""
        self._git("init", "--quiet", "--initial-branch=main", str(self._directory), at=self._directory.parent)
        (self._directory / "health.py").write_text(HEALTH, encoding="utf-8")
        self.push("the first version", GOOD)

    def push(self, subject: str, strategy: str) -> str:
        """A new version of the strategy; returns the commit."""
        (self._directory / "strategy.py").write_text(strategy, encoding="utf-8")
        return self._commit(subject)

    def track_data(self) -> str:
        """Somebody commits a log of fills, from a test at home."""
        log = self._directory / "user_data" / bot.LOG
        log.parent.mkdir(parents=True)
        log.write_text('{"id": 1, "ticker": "TEST"}\n', encoding="utf-8")
        return self._commit("everything")

    def text(self, commit: str, name: str) -> str:
        """A file as a commit has it."""
        return self._git("show", f"{commit}:{name}")

    def _commit(self, subject: str) -> str:
        self._git("add", "--all", "--force")
        self._git("commit", "--quiet", "--message", subject)
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str, at: Path | None = None) -> str:
        who = {f"GIT_{role}_{what}": "demo" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *arguments],
            cwd=at or self._directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout
