# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Step 3: the playbooks. The servers do the work; this step waits for them and sees to it that records come back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import inventory
from calling import environment, hosts, playbook, workspace
from common import Places, places, private_file, say, step

PLAYBOOKS = {
    "plan": ["tradekeep.ops.deploy"],
    "update": ["tradekeep.ops.deploy"],
    "rollback": ["tradekeep.ops.deploy"],
    "new": ["tradekeep.ops.new"],
}


def main() -> int:
    """Run what the mode stands for."""
    here = places()
    settings = here.settings()
    inventory.check(here, environment(here), Path(workspace()))
    expected = hosts(here)
    private_file(here.private / "hosts.json", json.dumps(expected))
    say(f"{settings['mode']} on {len(expected)} host{'s' if len(expected) != 1 else ''}")
    more = ["--check", "--diff"] if settings["mode"] == "plan" else []
    status = playbook(here, PLAYBOOKS[settings["mode"]], variables(here, settings), *more)
    return 1 if status else 0


def variables(here: Places, settings: dict[str, Any]) -> dict[str, Any]:
    """What the playbook is asked for."""
    return {
        "deploy_ref": settings["ref"],
        "deploy_rollback": settings["mode"] == "rollback",
        "deploy_record_dir": str(here.records),
        "deploy_by": by(),
    }


def by() -> str:
    """Who asked, for the servers' records."""
    named = {name: os.environ.get(f"GITHUB_{name}", "") for name in ("ACTOR", "REPOSITORY", "RUN_ID", "RUN_ATTEMPT")}
    run = f"{named['REPOSITORY']} run {named['RUN_ID']}.{named['RUN_ATTEMPT']}".strip(" .")
    return f"{named['ACTOR'] or 'somebody'} by {run}"


if __name__ == "__main__":
    step(main)
