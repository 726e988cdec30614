# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What git needs on a new host to fetch the code over ssh: a key that is let in, and the key of the other side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable, Optional

from ..application import Application
from ..errors import ConfigurationError, TradekeepError
from ..host.account import Account
from ..host.filesystem.identity import acting_as
from ..ports import Runner

GUIDE = "docs/private-repository.md"
GLOBAL_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
_URL = re.compile(r"(?i)(?:git\+)?ssh://(?:[^/@]*@)?(\[[^\]]+\]|[^/:]+)(?::(\d+))?(?:/|$)")
_SCP = re.compile(r"(?:[A-Za-z0-9_.+-]+@)?([A-Za-z0-9][A-Za-z0-9_.-]*):(?!//)")


def ssh_host(repository: str) -> Optional[str]:
    """The name that known_hosts has for the server of a repository; None where it is not reached over ssh."""
    found = _URL.match(repository)
    if found is not None:
        name, port = found[1].strip("[]"), found[2] or "22"
        return name if port == "22" else f"[{name}]:{port}"
    found = None if repository.startswith("/") or "://" in repository else _SCP.match(repository)
    return found[1] if found is not None else None


def known_hosts_files(application: Application, home: str) -> tuple[str, ...]:
    """The files on the host that ssh looks into, the one to choose first."""
    named = application.profile.deploy.known_hosts_file
    return (named, GLOBAL_KNOWN_HOSTS) if named else (GLOBAL_KNOWN_HOSTS, f"{home}/.ssh/known_hosts")


def access_problems(
    application: Application, home: str, brought: Mapping[str, str], exists: Callable[[str], bool]
) -> Iterator[TradekeepError]:
    """What will be missing on the host. home: of the owner. brought: files that are put there, by where they go."""
    deploy = application.profile.deploy
    host = ssh_host(deploy.repository or "")
    if host is None:
        return
    key = deploy.ssh_key_file
    if key is not None and key not in brought and not exists(key):
        yield ConfigurationError(
            "the ssh key that the code is fetched with is not on the host",
            path=key,
            hint="add it to recover_files, with owner and mode 0600",
        )
    places = known_hosts_files(application, home)
    if not _brought_lists(places, brought) and not any(map(exists, places)):
        yield ConfigurationError(
            f"nothing on the host says which key {host} has, where the code comes from",
            path=places[0],
            hint=f"ssh-keygen -F '{host}' | grep -v '^#' > known_hosts, and add that file to recover_files",
        )


def require_key(application: Application, account: Account) -> None:
    """Refuse a key that is not there, or that the account which fetches the code cannot read. Asks no server."""
    deploy = application.profile.deploy
    key = deploy.ssh_key_file
    if key is None or ssh_host(deploy.repository or "") is None:
        return
    message = _trouble_with(key, account)
    if message is not None:
        raise ConfigurationError(
            message, path=key, hint=f"put it there with mode 0600 for {account.name}, who fetches the code: {GUIDE}"
        )


def _trouble_with(key: str, account: Account) -> Optional[str]:
    """Why an account cannot read the key that it fetches with; None where it can."""
    try:
        with acting_as(account), open(key, "rb"):
            return None
    except FileNotFoundError:
        return "the ssh key that the code is fetched with is not on the host"
    except OSError as error:
        return f"the ssh key that the code is fetched with cannot be read: {(error.strerror or str(error)).lower()}"


def unknown_host(
    application: Application, home: str, brought: Mapping[str, str], runner: Runner
) -> Iterator[TradekeepError]:
    """Files of known hosts that are brought and do not have the server of the code. Looked at where they come from."""
    host = ssh_host(application.profile.deploy.repository or "")
    files = _brought_lists(known_hosts_files(application, home), brought)
    # A configuration of ssh may give the server another name.
    named = any(place.endswith("/.ssh/config") for place in brought)
    if host is None or not files or named or runner.find("ssh-keygen") is None:
        return
    if all(runner.run(("ssh-keygen", "-F", host, "-f", file), check=False).status != 0 for file in files):
        yield ConfigurationError(
            f"has no key of {host}, where the code comes from",
            path=files[0],
            hint=f"ssh-keygen -F '{host}' | grep -v '^#' >> {files[0]}",
        )


def _brought_lists(places: Sequence[str], brought: Mapping[str, str]) -> list[str]:
    """Lists of known hosts that are brought. Where the owner is at home is not always known."""
    return [source for place, source in brought.items() if place in places or place.endswith("/.ssh/known_hosts")]
