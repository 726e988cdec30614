# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A job of a repository that uses the action."""

from __future__ import annotations

import sys
from pathlib import Path

from github_runner import TOP, Run, Runner
from servers import Server

ACTION = TOP / ".github" / "actions" / "deploy"


class Job:
    """One job of a repository with an inventory: the action, called as a workflow would call it."""

    def __init__(self, server: Server, directory: Path, environment: Path | None) -> None:
        self.server, self.workspace, self.temp = server, directory / "workspace", directory / "temp"
        self.workspace.mkdir(parents=True)
        self.temp.mkdir()
        if environment is not None:
            (self.temp / environment.name).symlink_to(environment)
        server.inventory(self.workspace / "inventory.json")
        self.runner = Runner(ACTION, workspace=self.workspace, temp=self.temp, python=sys.executable)

    def run(self, mode: str, ref: str = "", environment: dict[str, str] | None = None, **inputs: str) -> Run:
        """Call it; keyword arguments are more inputs, with underscores for dashes."""
        given = {
            "mode": mode,
            "ref": ref,
            "inventory": "inventory.json",
            "known-hosts": self.server.known_hosts,
            "ssh-key": self.server.key,
            **{name.replace("_", "-"): value for name, value in inputs.items()},
        }
        return self.runner.run(given, environment)
