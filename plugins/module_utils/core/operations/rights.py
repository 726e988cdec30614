# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Owners, modes and times of what a restore brings."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import lru_cache
from typing import Optional

from ..application import Application
from ..archive.attributes import FACT
from ..archive.manifest import Entry
from ..errors import UnsafePathError
from ..host.filesystem.chown import give_owner_mode
from ..host.ownership import gid_of, uid_of
from .attributes import give_attributes, has_list, list_of_live
from .rights_plan import granted_rights


def give_rights(application: Application, entry: Entry, staged: str, *, in_place: bool = True) -> None:
    """Set owner, group, mode and time of a restored file, directory or symlink.

    Which ones is decided in rights_plan.py. in_place: whether it takes the place of what is live.
    """
    if entry.type == "symlink":
        return  # it belongs to whoever made it, and nobody's rights depend on it
    live = live_mode(application, entry) if in_place else None
    granted = granted_rights(application, entry, live)
    uid = gid = -1
    if application.system:
        uid, gid = _uid_of(granted.owner), _gid_of(granted.group)
    if entry.type == "file" and list_of_live(application, entry.path, uid) is not None:
        granted = granted_rights(application, entry, live, listed=True)
    mode = granted.mode
    if entry.type == "file" and _is_settled(application, entry, staged, mode, (uid, gid)):
        return
    descriptor = _open_staged(staged)
    try:
        if entry.type == "file":
            _date(descriptor, entry)
        give_attributes(application, entry, descriptor, uid)
        give_owner_mode(descriptor, uid=uid if uid >= 0 else None, gid=gid if gid >= 0 else None, mode=mode)
    finally:
        os.close(descriptor)


def live_mode(application: Application, entry: Entry) -> Optional[int]:
    """The mode of the live file at the place of an entry, None where there is none."""
    try:
        status = os.lstat(os.path.join(str(application.root), entry.path))
    except OSError:
        return None
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None


def settle(application: Application, *, in_place: bool = True) -> Callable[[Entry, int], None]:
    """What gives a file its mode and time where it is written, while it is open, in the name of who writes it."""

    def settled(entry: Entry, descriptor: int) -> None:
        _date(descriptor, entry)
        live = live_mode(application, entry) if in_place else None
        os.fchmod(descriptor, granted_rights(application, entry, live).mode)

    return settled


def _date(descriptor: int, entry: Entry) -> None:
    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))


def _is_settled(application: Application, entry: Entry, staged: str, mode: int, wanted: tuple[int, int]) -> bool:
    """Whether nothing is left to give to a file that was settled when it was written."""
    if FACT in entry.facts or has_list(application, entry.path):
        return False
    try:
        status = os.lstat(staged)
    except OSError:
        return False
    owners = all(want in (-1, is_now) for want, is_now in zip(wanted, (status.st_uid, status.st_gid)))
    return owners and status.st_mode == stat.S_IFREG | mode and status.st_mtime_ns == entry.mtime_ns


@lru_cache(maxsize=64)
def _uid_of(name: str) -> int:
    """Asked once for each account, as a look-up reads the system's list anew."""
    return uid_of(name)


@lru_cache(maxsize=64)
def _gid_of(name: str) -> int:
    return gid_of(name)


def _open_staged(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnsafePathError(
            f"is not there any more as it was staged: {(error.strerror or str(error)).lower()}",
            path=path,
            hint="something moves the directories of the data meanwhile: look for what does, then run it again",
        ) from error
