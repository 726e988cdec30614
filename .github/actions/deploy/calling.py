# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What calls Ansible: its command line, its environment, and who may write into the log meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from common import Places, Refused, Untrusted, private_file

# A repository may decide how its vault is opened, and nothing else of how Ansible works here.
KEPT = ("ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST")


def playbook(places: Places, names: list[str], variables: dict[str, Any], *more: str) -> int:
    """Run playbooks on the hosts; returns the status of ansible-playbook."""
    command = [*command_line(places, names, variables), *more]
    with Untrusted():
        return subprocess.run(
            command, env=environment(places), cwd=workspace(), stdin=subprocess.DEVNULL, check=False
        ).returncode


def hosts(places: Places) -> list[str]:
    """The hosts that the playbook would reach, by their names in the inventory."""
    listed = subprocess.run(
        [*command_line(places, ["tradekeep.ops.deploy"], {}), "--list-hosts"],
        env=environment(places),
        cwd=workspace(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if listed.returncode:
        raise Refused(f"inventory: ansible cannot read it: {_last_line(listed.stderr)}")
    found = _names(listed.stdout)
    if not found:
        raise Refused("limit: expected hosts of the inventory, found none")
    return found


def _names(listing: str) -> list[str]:
    """Host names are what is indented most in ``--list-hosts``, below the line that counts them."""
    found: list[str] = []
    below = False
    for line in listing.splitlines():
        text = line.strip()
        below = text.startswith("hosts (") or (below and bool(text) and not text.startswith(("play #", "pattern:")))
        if below and not text.startswith("hosts ("):
            found.append(text)
    return list(dict.fromkeys(found))


def command_line(places: Places, names: list[str], variables: dict[str, Any]) -> list[str]:
    """Values are in files. What comes last overrides: how hosts are reached and what is deployed is never a variable
    of the inventory or of the repository.
    """
    settings = places.settings()
    command = [str(places.ansible / "ansible-playbook"), *names]
    command += [f"--inventory={path}" for path in settings["inventory"]]
    command += [f"--limit={settings['limit']}"] if settings["limit"] else []
    command += [f"--extra-vars=@{path}" for path in settings["variables"]]
    if variables:
        command.append(f"--extra-vars=@{_written(places, variables)}")
    return [*command, f"--extra-vars=@{places.private / 'connection.json'}"]


def _written(places: Places, variables: dict[str, Any]) -> Path:
    """Every text marked as text: none is taken for a template, and no commit of digits for a number, as ``!unsafe`` of
    YAML would.
    """
    marked = {
        name: {"__ansible_unsafe": value} if isinstance(value, str) else value for name, value in variables.items()
    }
    path = places.private / "variables.json"
    path.unlink(missing_ok=True)
    return private_file(path, json.dumps(marked))


def environment(places: Places) -> dict[str, str]:
    """The job's environment without what would configure Ansible or Python differently."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or not name.startswith(("ANSIBLE_", "PYTHON", "INPUT_", "SSH_"))
    }
    return {
        **kept,
        "PATH": f"{places.ansible}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_CONFIG": str(places.private / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }


def workspace() -> str:
    """Where the repository is checked out."""
    return os.environ.get("GITHUB_WORKSPACE", ".")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it does not say why"
