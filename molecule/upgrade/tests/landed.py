# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The two versions: `site` of the checkout, or of the one that was in use before it, out of the repository's history.

python3 landed.py LIMIT       # runs `site` of the earlier version
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
INVENTORY = TOP / "molecule" / "shared" / "inventory"
COLLECTIONS = {"current": TOP / ".cache" / "collections", "landed": TOP / ".cache" / "landed"}
# The last version in which root worked by the names of paths below directories of the bot's.
COMMIT = "a7f0a240a617a5543fabd0ee52de62f4ee7dbc6a"
INSTALLED = ("galaxy.yml", "meta", "playbooks", "plugins", "roles")


def unpack() -> None:
    """Lay the earlier version where Ansible finds collections; what is there is of the same commit."""
    place = COLLECTIONS["landed"] / "ansible_collections" / "tradekeep" / "ops"
    done = place / f".{COMMIT}"
    if done.exists():
        return
    git = ["git", "-C", str(TOP)]
    if subprocess.run([*git, "cat-file", "-e", f"{COMMIT}^{{commit}}"], capture_output=True).returncode:
        raise SystemExit(
            f"{TOP} has no commit {COMMIT}, which the upgrade starts from; git fetch --unshallow brings it"
        )
    place.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run([*git, "archive", COMMIT, *INSTALLED], check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive, check=True)
    done.touch()


def site(version: str, limit: str) -> subprocess.CompletedProcess[str]:
    """Run the site playbook of a version as a person would who has that one installed."""
    if version == "landed":
        unpack()
    return subprocess.run(
        ["ansible-playbook", f"--inventory={INVENTORY}", f"--limit={limit}", "tradekeep.ops.site"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS[version]),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        },
    )


if __name__ == "__main__":
    ended = site("landed", sys.argv[1])
    print(ended.stdout)
    sys.exit(ended.returncode)
