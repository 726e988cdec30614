# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A developer with a working copy, who pushes releases by ssh."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any


class Developer:
    """The working copy. Each release is a commit on main; a bad one is followed by a good one in the next story."""

    def __init__(self, place: Path, variables: dict[str, Any]) -> None:
        self.copy = place / "bot"
        key, options = variables["ansible_ssh_private_key_file"], variables["ansible_ssh_common_args"]
        self._environment = {**os.environ, "GIT_SSH_COMMAND": f"ssh -i {key} -o BatchMode=yes {options}"}
        self.name = "first"
        self._run("git", "clone", "--quiet", f"ssh://git@{variables['ansible_host']}/srv/git/bot.git", str(self.copy))
        self._number = int(self._git("rev-list", "--count", "HEAD"))

    def release(self, *, crash: bool = False) -> str:
        """Push a release that changes, adds and removes files; the commit."""
        self._number += 1
        number = self._number
        self.name = f"release {number}"
        document = {"name": self.name, "crash": crash}
        (self.copy / "release.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
        for old in (self.copy / "lib").glob("edge-*.txt"):
            old.unlink()
        (self.copy / "lib" / f"edge-{number}.txt").write_text(f"edge {number}\n", encoding="utf-8")
        self._git("add", "--all")
        self._git(
            *("-c", "user.name=developer", "-c", "user.email=developer@example.com"),
            *("commit", "--quiet", "--message", f"Release {number}"),
        )
        self._git("push", "--quiet", "origin", "HEAD:main")
        return self._git("rev-parse", "HEAD")

    def code(self, commit: str) -> dict[str, str]:
        """The commit's paths, and the ids of what they hold."""
        lines = self._git("ls-tree", "-r", commit).splitlines()
        return {line.split("\t")[1]: line.split()[2] for line in lines}

    def _git(self, *arguments: str) -> str:
        return self._run("git", "-C", str(self.copy), *arguments)

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, env=self._environment, text=True, capture_output=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()
