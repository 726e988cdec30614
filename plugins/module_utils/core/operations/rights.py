# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Owners, modes and times of what a restore brings."""

from __future__ import annotations

import os

from ..application import Application
from ..archive.manifest import Entry
from ..errors import UnsafePathError
from ..host.filesystem.chown import give_owner_mode
from ..host.ownership import gid_of, uid_of
from .attributes import give_attributes
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
        return  # it belongs to whoever made it, and nobody's rights depend on it
    descriptor = _open_staged(staged)
    try:
        if entry.type == "file":
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        give_attributes(application, entry, descriptor, uid)
        give_owner_mode(descriptor, uid=uid if uid >= 0 else None, gid=gid if gid >= 0 else None, mode=mode)
    finally:
        os.close(descriptor)


def _open_staged(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnsafePathError(
            f"is not there any more as it was staged: {(error.strerror or str(error)).lower()}",
            path=path,
            hint="something moves the directories of the data meanwhile: look for what does, then run it again",
        ) from error
