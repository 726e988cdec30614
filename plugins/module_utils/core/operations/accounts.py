# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Accounts and groups: what is missing is made, and what exists is never changed.

The owner of an application may be an account that a person logs in with, and the bot may run as it at this moment: its
shell, home and groups are nobody's business here.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from ..application import Application
from ..errors import ConfigurationError, TradekeepError
from ..host.account import account_of
from ..host.ownership import canonical_group, canonical_owner, gid_of, is_number
from ..ports import Ports

_SHELL = "/usr/sbin/nologin"
_SHELLS_OF_SERVICES = frozenset(("nologin", "false"))
_SECONDS = 60.0


@dataclass(frozen=True)
class AccountPlan:
    """The owner and the group of an application, and which of them is missing. home: of an account that is made."""

    owner: str
    group: str
    home: str
    owner_missing: bool
    group_missing: bool

    @property
    def missing(self) -> bool:
        """Whether anything is to be made."""
        return self.owner_missing or self.group_missing

    def facts(self, *, made: bool) -> dict[str, Any]:
        """Both as a diff shows them."""
        absent = {"state": "absent"}
        home = {"home": self.home, "shell": _SHELL} if self.owner_missing else {}
        return {
            "group": {"name": self.group, **({"state": "present"} if made or not self.group_missing else absent)},
            "account": {
                "name": self.owner,
                **({"state": "present", **home} if made or not self.owner_missing else absent),
            },
        }


def plan_accounts(application: Application) -> AccountPlan:
    """Which of the two is missing on this host. A number needs no name, and is never given one."""
    return AccountPlan(
        owner=application.owner,
        group=application.group,
        home=application.profile.home or str(application.root),
        owner_missing=not is_number(application.owner) and _account(application.owner) is None,
        group_missing=not is_number(application.group) and _group(application.group) is None,
    )


def home_of(plan: AccountPlan) -> str:
    """Where the owner is at home, or will be."""
    if is_number(plan.owner):
        return account_of(plan.owner).home
    owner = _account(plan.owner)
    return plan.home if owner is None else owner.pw_dir


def make_accounts(plan: AccountPlan, ports: Ports) -> None:
    """Make what is missing: a group and an account of the system, which nobody can log in with."""
    if plan.group_missing:
        ports.runner.run(("groupadd", "--system", plan.group), timeout_seconds=_SECONDS)
    if plan.owner_missing:
        group = str(gid_of(plan.group)) if is_number(plan.group) else plan.group
        names = ("--gid", group, "--home-dir", plan.home, "--no-create-home", "--shell", _SHELL, plan.owner)
        ports.runner.run(("useradd", "--system", *names), timeout_seconds=_SECONDS)


def account_notes(plan: AccountPlan) -> Iterator[str]:
    """What is left as it is and may be unexpected."""
    owner = _account(plan.owner)
    if owner is None or canonical_group(plan.group) in _groups_of(owner):
        return
    with contextlib.suppress(KeyError):
        own = grp.getgrgid(owner.pw_gid).gr_name
        yield (
            f"the account {plan.owner} exists and is not in the group {plan.group}, which is not changed; "
            f"set tradekeep_group to {own} for files of its own group"
        )


def account_problems(application: Application, plan: AccountPlan, *, makes: bool) -> Iterator[TradekeepError]:
    """Why the tree could not be given to whom it belongs. makes: whether owner and group are made where missing."""
    made = {plan.owner, plan.group} if makes else set()
    owners, groups = _named(application)
    for kind, names, known, command in (
        ("account", owners, _account, "useradd"),
        ("group", groups, _group, "groupadd"),
    ):
        for name in sorted(names - made):
            if not is_number(name) and known(name) is None:
                yield ConfigurationError(
                    f"there is no such {kind}", path=name, hint=f"make it with {command} --system {name}"
                )
    if plan.owner_missing and is_number(plan.group) and _group(plan.group) is None:
        yield ConfigurationError(
            f"cannot be made, because its group {plan.group} has no name on this host",
            path=plan.owner,
            hint="set tradekeep_group to a name, or tradekeep_owner to a number too",
        )
    for person in _people_at_home_in(str(application.root)):
        if person != canonical_owner(plan.owner):
            yield ConfigurationError(
                f"is the home of the account {person}, which could not log in any more if it belonged to {plan.owner}",
                path=application.root,
                hint=f"set tradekeep_owner to {person}, or tradekeep_root to a directory below",
            )


def _named(application: Application) -> tuple[set[str], set[str]]:
    """All accounts and groups that something in the tree is to belong to."""
    parts: list[Any] = []
    for component in application.profile.components:
        parts += [component, *component.files]
    owners = {application.owner, *(part.owner for part in parts if part.owner)}
    return owners, {application.group, *(part.group for part in parts if part.group)}


def named_accounts(application: Application) -> set[str]:
    """All accounts that something in the tree is to belong to."""
    return _named(application)[0]


def _people_at_home_in(directory: str) -> Iterator[str]:
    for entry in pwd.getpwall():
        if os.path.basename(entry.pw_shell) not in _SHELLS_OF_SERVICES and os.path.normpath(entry.pw_dir) == directory:
            yield entry.pw_name


def _groups_of(owner: pwd.struct_passwd) -> set[str]:
    groups = {entry.gr_name for entry in grp.getgrall() if owner.pw_name in entry.gr_mem}
    with contextlib.suppress(KeyError):
        groups.add(grp.getgrgid(owner.pw_gid).gr_name)
    return groups


def _account(name: str) -> Optional[pwd.struct_passwd]:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(int(name[1:])) if is_number(name) else pwd.getpwnam(name)
    return None


def _group(name: str) -> Optional[grp.struct_group]:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(int(name[1:])) if is_number(name) else grp.getgrnam(name)
    return None
