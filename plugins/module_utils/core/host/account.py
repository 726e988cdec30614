# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Running programs as the account that owns an application: what the bot wrote must never run as root."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, Protocol

from .ownership import gid_of, name_of_uid, uid_of


class HasOwner(Protocol):
    """What an application says of its owner."""

    @property
    def system(self) -> bool:
        """Whether owners are managed at all."""

    @property
    def owner(self) -> str:
        """The account's name."""

    @property
    def group(self) -> str:
        """The group's name."""


@dataclass(frozen=True)
class Account:
    """Who runs a program. ``name`` is ``#1234`` where the number has no name on this host."""

    name: str
    uid: int
    gid: int
    home: str

    @property
    def as_argument(self) -> str:
        """As chown(1) and install(1) take it: the name, or the number without a sign that begins a comment."""
        return self.name.lstrip("#")

    @property
    def is_current(self) -> bool:
        """Whether the engine itself runs as this account."""
        return (self.uid, self.gid) == (os.geteuid(), os.getegid())


def current_account() -> Account:
    """The account that the engine runs as."""
    uid = os.geteuid()
    return Account(name=name_of_uid(uid), uid=uid, gid=os.getegid(), home=_home_of(uid))


def asker() -> str:
    """Who asks, for a record: whoever called sudo, else the account itself."""
    return os.environ.get("SUDO_USER") or name_of_uid(os.getuid())


def account_of(owner: str, group: str = "") -> Account:
    """The account of an owner; without a group its own first one, without an owner whoever runs the engine.

    Raises ConfigurationError where there is no such account or group.
    """
    if not owner:
        return current_account()
    uid = uid_of(owner)
    return Account(
        name=name_of_uid(uid), uid=uid, gid=gid_of(group) if group else _first_group(uid), home=_home_of(uid)
    )


def owner_of(application: HasOwner) -> Account:
    """The account that an application's data belongs to; whoever runs the engine where owners are not managed."""
    return account_of(application.owner, application.group) if application.system else current_account()


def account_of_uid(uid: int, gid: int) -> Account:
    """The account that something belongs to, with its group."""
    return Account(name=name_of_uid(uid), uid=uid, gid=gid, home=_home_of(uid))


def command_as(account: Account, argv: Sequence[str], *, directory: Optional[str] = None) -> list[str]:
    """The command line that runs a program as an account, and in a directory where one is given.

    Only root can become somebody else; another account runs the program as itself. The directory is entered by the
    account, not by root.
    """
    inside = ["env", f"--chdir={directory}", *argv] if directory else list(argv)
    if os.geteuid() != 0 or account.is_current:
        return inside
    # Without a name there is no list of further groups, and root's own must not be kept.
    groups = "--clear-groups" if account.name.startswith("#") else "--init-groups"
    return ["setpriv", "--reuid", str(account.uid), "--regid", str(account.gid), groups, "--", *inside]


def environment_of(account: Account) -> dict[str, str]:
    """What a program finds in its environment about whom it runs as; root's own HOME is not its business."""
    return {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}


def groups_of(account: Account) -> list[int]:
    """The groups of an account: its own one and, where it has a name, those that list it. Never root's."""
    if account.name.startswith("#"):
        return [account.gid]
    return sorted(set(os.getgrouplist(account.name, account.gid)))


def become(account: Account) -> None:
    """Turn this process into the account's for good: no way back, no capability, no program that gives one.

    For a process that was forked for it. Does nothing for an account that is not root.
    """
    if os.geteuid() == 0 and not account.is_current:
        os.setgroups(groups_of(account))
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)


def _first_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def _home_of(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_dir or "/"
    return "/"
