# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Owners by name and modes by profile for what a restore brings."""

from __future__ import annotations

import os

from ..application import Application
from ..archive.manifest import Entry
from ..errors import UnsafePathError
from ..host.filesystem.chown import give_owner_mode
from ..host.ownership import gid_of, gid_or, uid_of, uid_or
from ..patterns import classify, classify_directory


def give_rights(application: Application, entry: Entry, staged: str) -> None:
    """Set owner, group, mode and time of a restored file, directory or symlink.

    The profile's word comes first; what it does not know keeps the backup's owner where an account of that name exists
    here, else belongs to the application's owner: never to whoever has that number on this host, and never to root.
    """
    look_up = classify_directory if entry.type == "directory" else classify
    classified = look_up(application.profile, entry.path)
    mode = entry.mode if classified is None else classified.mode
    uid = gid = -1
    if application.system:
        own_uid, own_gid = uid_of(application.owner), gid_of(application.group)
        if classified is not None:
            uid = uid_of(classified.owner) if classified.owner else own_uid
            gid = gid_of(classified.group) if classified.group else own_gid
        else:
            uid, gid = uid_or(entry.owner, own_uid), gid_or(entry.group, own_gid)
    if entry.type == "symlink":
        return  # it belongs to whoever made it, and nobody's rights depend on it
    descriptor = _open_staged(staged)
    try:
        if entry.type == "file":
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
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
