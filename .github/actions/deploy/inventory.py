# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the inventory and the files of variables may say: data about the servers, and nothing that runs on the runner.

The repository of a bot writes them, on any branch, and the runner holds the key that deploys. Ansible takes programs
from variables (`ansible_ssh_executable`, options of ssh with a ProxyCommand, a local connection), from templates
(`lookup('pipe', ...)`), from inventories that are programs and from plugins that an inventory names. So what is not
listed here is refused. Everything is looked at as ansible-inventory lists it, which evaluates no template; a value that
is in a vault is what whoever has its password has written.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import Places, Refused, private_file

# How a server is reached and who works there. ssh itself is configured by prepare.py alone.
CONNECTION = frozenset(
    {
        "ansible_host",
        "ansible_port",
        "ansible_user",
        "ansible_become",
        "ansible_become_user",
        "ansible_become_pass",
        "ansible_become_password",
        "ansible_python_interpreter",
        "ansible_remote_tmp",
    }
)
# Of these, what says nothing about this machine, where it would count too: variables of a file reach all hosts.
CONNECTION_EVERYWHERE = frozenset({"ansible_port", "ansible_user", "ansible_become_pass", "ansible_become_password"})
# Inputs of the roles that the action runs; `vault_` and `my_` are for a repository's own.
INPUTS = re.compile(
    r"(?:tradekeep|profile|vault|my)_[a-z0-9_]+"
    r"|backup_(?:gpg_key_files|gpg_recipients|passphrase_file|allow_(?:row_)?loss|deep|encrypt|poll|timeout|tier|unit_dir)"
    r"|deploy_(?:backup_first|fleet_rollback|leave_down|on_collision|patience|poll|repository|serial|strategy|timeout)"
    r"|drill_(?:backup|fail|key_file|poll|source|timeout)"
    r"|layout_(?:account|credentials)"
    r"|runtime_(?:interpreter|packages|deploy_packages|passphrase_src)"
)
# A template may name another variable, which is judged itself, and nothing more.
TEMPLATE = re.compile(r"\{\{ *(?:inventory_dir|inventory_hostname(?:_short)?|ansible_host|[a-z]+_[a-z0-9_]+) *\}\}")
INVENTORY_DIR = re.compile(r"\{\{ *inventory_dir *\}\}")
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# Files that the runner reads and sends to a server.
FILES = ("backup_gpg_key_files", "profile_gpg_key_files", "runtime_passphrase_src")
VAULT_VARIABLES = ("ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST")
_PLUGIN = re.compile(r"^[ \t]*[\"']?plugin[\"']?[ \t]*:", re.MULTILINE)
_STATIC = ("", ".yml", ".yaml", ".json", ".ini")


def check(places: Places, environment: dict[str, str], workspace: Path) -> None:
    """Raises Refused, with the host and the name, for the first thing that is not allowed."""
    settings = places.settings()
    _check_vault(environment)
    sources = [Path(path) for path in settings["inventory"]]
    for source in sources:
        _check_source(source, workspace.resolve())
    inventory = [f"--inventory={path}" for path in sources]
    hosts = _listed(places, environment, workspace, [*inventory, "--list"]).get("_meta", {}).get("hostvars", {})
    directories = [source if source.is_dir() else source.parent for source in sources]
    for host, variables in hosts.items():
        if host in LOCAL_NAMES:
            raise Refused(f"inventory: names {host}, which is the runner and no server")
        _check_variables(f"inventory: {host}", variables, CONNECTION, directories, workspace)
    here = _listed(places, environment, workspace, [*inventory, "--host=localhost"])
    here.pop("ansible_connection", None)  # Ansible's own
    _check_variables("inventory: localhost", here, CONNECTION, directories, workspace)
    if settings["variables"]:
        _check_extra(places, environment, workspace, settings["variables"], directories)


def _check_extra(
    places: Places, environment: dict[str, str], workspace: Path, files: list[str], directories: list[Path]
) -> None:
    alone = places.private / "alone.json"
    alone.unlink(missing_ok=True)
    private_file(alone, json.dumps({"all": {"hosts": {"every host": None}}}))
    given = [f"--extra-vars=@{path}" for path in files]
    listed = _listed(places, environment, workspace, [f"--inventory={alone}", *given, "--list"])
    for variables in listed["_meta"]["hostvars"].values():
        _check_variables("variables: every host", variables, CONNECTION_EVERYWHERE, directories, workspace)
        if "tradekeep_hosts" in variables:
            raise Refused("variables: set tradekeep_hosts, and which hosts are reached is said by limit")


def _check_vault(environment: dict[str, str]) -> None:
    """Ansible runs a password file that is executable."""
    named = [environment.get(VAULT_VARIABLES[0], "")]
    named += [part.rpartition("@")[2] for part in environment.get(VAULT_VARIABLES[1], "").split(",")]
    for name in filter(None, (part.strip() for part in named)):
        if name.endswith("-client") or os.access(Path(name).expanduser(), os.X_OK) or "-client." in Path(name).name:
            raise Refused(f"{name}: a vault's password is read from a file that is no program; take its x bits away")


def _check_source(source: Path, workspace: Path) -> None:
    """Static files of the repository: no program, no plugin, no link to elsewhere."""
    if not source.resolve().is_relative_to(workspace):
        raise Refused(f"inventory: {source} lies outside of the checked-out repository")
    files = [path for path in sorted(source.rglob("*")) if not path.is_dir()] if source.is_dir() else [source]
    beside = source.parent if source.is_file() else source
    for directory in ("group_vars", "host_vars"):
        files += [path for path in sorted((beside / directory).rglob("*")) if not path.is_dir()]
    for path in files:
        shown = path.relative_to(source.parent)
        if not path.resolve().is_relative_to(workspace) or not path.is_file():
            raise Refused(f"inventory: {shown} is a link that leads out of the checked-out repository, or no file")
        if path.suffix not in _STATIC:
            continue
        head = path.read_bytes()[:65536].decode("utf-8", "replace")
        if head.startswith("#!"):
            raise Refused(f"inventory: {shown} is a program; expected YAML, JSON or INI")
        if _PLUGIN.search(head) and path.parent.name not in ("group_vars", "host_vars"):
            raise Refused(f"inventory: {shown} names a plugin; expected hosts and variables in YAML, JSON or INI")


def _listed(places: Places, environment: dict[str, str], workspace: Path, arguments: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [str(places.ansible / "ansible-inventory"), *arguments],
        env=environment,
        cwd=workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    try:
        listed = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        listed = None
    if not isinstance(listed, dict):
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Refused(f"inventory: ansible cannot read it: {lines[-1].strip() if lines else 'it does not say why'}")
    return listed


def _check_variables(
    where: str, variables: dict[str, Any], connection: frozenset[str], directories: list[Path], workspace: Path
) -> None:
    for name, value in variables.items():
        if name not in connection and not INPUTS.fullmatch(name):
            reason = "could name a program of the runner" if name.startswith("ansible_") else "is no input of the roles"
            raise Refused(
                f"{where} sets {name!r}, which {reason}; variables of your own begin with my_ or vault_, "
                f"and of Ansible's there are {', '.join(sorted(connection))}"
            )
        for text in _texts(value):
            rest = TEMPLATE.sub("", text)
            if any(mark in rest for mark in ("{{", "{%", "{#")):
                raise Refused(f"{where} sets {name!r} to a template; expected a value, or the name of another variable")
    for name, path in _files(variables):
        _check_file(where, name, path, directories, workspace.resolve())


def _texts(value: Any) -> Iterator[str]:
    """All text in a value that Ansible would take for a template, names of keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        if set(value) in ({"__ansible_vault"}, {"__ansible_unsafe"}):
            return
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)


def _files(variables: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in FILES:
        value = variables.get(name)
        yield from ((name, str(path)) for path in (value if isinstance(value, list) else [value]) if path)
    credentials = variables.get("layout_credentials")
    for item in credentials if isinstance(credentials, list) else []:
        if isinstance(item, dict) and item.get("src"):
            yield "layout_credentials", str(item["src"])


def _check_file(where: str, name: str, path: str, directories: list[Path], workspace: Path) -> None:
    """A file that is sent to a server comes out of the repository: the runner holds the key of the job too."""
    for directory in directories:
        text = INVENTORY_DIR.sub(lambda _: str(directory), path)  # noqa: B023 (called at once)
        if "{{" in text or text.startswith("~") or not Path(workspace, text).resolve().is_relative_to(workspace):
            raise Refused(f"{where} sets {name!r} to {path!r}; expected a path in the checked-out repository")
