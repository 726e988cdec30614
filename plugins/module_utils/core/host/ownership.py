# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Accounts by name, and owners and modes of what is open."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import Optional

from ..errors import ConfigurationError, TradekeepError


def uid_of(name: str) -> int:
    """The number of an account; ``#1234`` stands for the number itself."""
    if name.startswith("#"):
        return _number(name, "account")
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        raise ConfigurationError(
            "there is no such account", path=name, hint="create it with useradd --system, or name another owner"
        ) from None


def gid_of(name: str) -> int:
    """The number of a group; ``#1234`` stands for the number itself."""
    if name.startswith("#"):
        return _number(name, "group")
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise ConfigurationError(
            "there is no such group", path=name, hint="create it with groupadd --system, or name another group"
        ) from None


def is_number(name: str) -> bool:
    """Whether an account or group is meant by its number, and need not have a name on this host."""
    return name.startswith("#")


def canonical_owner(name: str) -> str:
    """What ``name_of_uid`` says of the same account."""
    return name_of_uid(uid_of(name)) if is_number(name) else name


def canonical_group(name: str) -> str:
    """What ``name_of_gid`` says of the same group."""
    return name_of_gid(gid_of(name)) if is_number(name) else name


def name_of_uid(uid: int) -> str:
    """The name of an account, or ``#1234`` where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def name_of_gid(gid: int) -> str:
    """The name of a group, or ``#1234`` where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"#{gid}"


def apply_owner_mode(
    descriptor: int, *, uid: Optional[int] = None, gid: Optional[int] = None, mode: Optional[int] = None
) -> bool:
    """Give what is open an owner, group and mode; None leaves as is. Returns whether anything changed."""
    present = os.fstat(descriptor)
    new_uid = present.st_uid if uid is None else uid
    new_gid = present.st_gid if gid is None else gid
    changed = False
    if (new_uid, new_gid) != (present.st_uid, present.st_gid):
        _change_owner(descriptor, new_uid, new_gid)
        changed = True
    # A change of owner may clear bits of the mode, so the mode comes second.
    if mode is not None and stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
        os.fchmod(descriptor, mode)
        changed = True
    return changed


def place_of(descriptor: int) -> Optional[str]:
    """What the system calls it now, for a message."""
    return os.readlink(f"/proc/self/fd/{descriptor}") if os.path.isdir("/proc/self/fd") else None


def _change_owner(descriptor: int, uid: int, gid: int) -> None:
    try:
        os.fchown(descriptor, uid, gid)
    except PermissionError:
        raise TradekeepError(
            f"cannot be given to {name_of_uid(uid)}:{name_of_gid(gid)} by {name_of_uid(os.geteuid())}",
            path=place_of(descriptor),
            hint="run as root, or configure the account that runs as the owner",
        ) from None


def _number(name: str, what: str) -> int:
    if not name[1:].isdigit():
        raise ConfigurationError(
            f"is not a number of an {what}" if what == "account" else f"is not a number of a {what}", path=name
        )
    return int(name[1:])
