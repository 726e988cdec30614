# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Owners, modes and times of what a restore brings."""

from __future__ import annotations

import os

from ..application import Application
from ..archive.manifest import Entry
from ..host.ownership import apply_link_owner, apply_owner_mode, gid_of, uid_of
from .rights_plan import granted_rights


def give_rights(application: Application, entry: Entry, staged: str) -> None:
    """Set owner, group, mode and time of a restored file, directory or symlink.

    Which ones is decided in rights_plan.py.
    """
    granted = granted_rights(application, entry)
    mode = granted.mode
    uid = gid = -1
    if application.system:
        uid, gid = uid_of(granted.owner), gid_of(granted.group)
    if entry.type == "symlink":
        _own_link(staged, uid, gid)
        return
    descriptor = os.open(staged, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if entry.type == "file":
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        apply_owner_mode(descriptor, uid=uid if uid >= 0 else None, gid=gid if gid >= 0 else None, mode=mode)
    finally:
        os.close(descriptor)


def _own_link(staged: str, uid: int, gid: int) -> None:
    if uid < 0:
        return
    directory = os.open(os.path.dirname(staged), os.O_RDONLY | os.O_DIRECTORY)
    try:
        apply_link_owner(os.path.basename(staged), directory=directory, uid=uid, gid=gid)
    finally:
        os.close(directory)
