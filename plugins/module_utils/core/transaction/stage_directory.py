# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""One directory of a stage, in the tree and so in reach of the bot: made, and removed, as the owner of the tree."""

from __future__ import annotations

import os
import stat

from ..errors import TradekeepError, UnsafePathError
from ..host.files import make_private_directory, os_errors, remove_tree
from ..host.filesystem.beneath import open_at, open_root
from ..host.filesystem.identity import acting_uid, privileged
from ..host.filesystem.scratch import empty


def make_stage(directory: str) -> bool:
    """Create it with its two parts; returns False where the name is taken."""
    made = make_beside(directory)
    if made:
        for part in ("new", "kept"):
            make_private_directory(f"{directory}/{part}")
    return made


def make_beside(directory: str) -> bool:
    """Create a directory at the top of a tree; returns False where the name is taken.

    It belongs to the account that acts, also where that one may not write to the top of the tree itself.
    """
    try:
        return make_private_directory(directory)
    except TradekeepError:
        if acting_uid() == 0 or not _make_for(directory, acting_uid()):
            raise
        return True


def _make_for(directory: str, uid: int) -> bool:
    """Make a directory in one of root's for an account; False where the directory above is not root's."""
    parent, name = os.path.split(directory)
    with privileged(), os_errors(directory):
        above = open_root(parent)
        try:
            status = os.fstat(above)
            if status.st_uid != 0 or status.st_mode & 0o022:
                return False
            os.mkdir(name, 0o700, dir_fd=above)
            made = open_at(above, name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fchown(made, uid, -1)
            finally:
                os.close(made)
        finally:
            os.close(above)
    return True


def adopt_stage(directory: str, uid: int) -> None:
    """Give a stage that an earlier version made as root to the account that works there now.

    Its own three directories alone: what lies in them belongs to whom it belonged when it was live, or is to be.
    """
    if uid == 0 or not _is_roots_own(directory):
        return
    with privileged(), os_errors(directory):
        top = open_root(directory)
        try:
            for part in ("new", "kept", ""):
                descriptor = open_at(top, part, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if os.fstat(descriptor).st_uid == 0:
                        os.fchown(descriptor, uid, -1)
                finally:
                    os.close(descriptor)
        finally:
            os.close(top)


def remove_stage(directory: str) -> bool:
    """Remove it and all in it; returns whether there was one.

    As the account that acts. In a directory of root's, where it was made for that account, root removes it once it is
    empty. What earlier versions left belongs to root, and root removes it: a directory of root's that nobody else can
    write to, and that lies where nothing but a stage does.
    """
    try:
        return remove_tree(directory)
    except TradekeepError:
        if acting_uid() == 0 or not (_removed_for(directory, acting_uid()) or _removed_as_root(directory)):
            raise
    return True


def _removed_for(directory: str, uid: int) -> bool:
    """Remove what ``_make_for`` made and its account has emptied; False where that is not what is there."""
    parent, name = os.path.split(directory)
    with privileged(), os_errors(directory):
        above = open_root(parent)
        try:
            status = os.fstat(above)
            # Nobody but root can put something else there meanwhile; rmdir(2) leaves what is not empty.
            if status.st_uid != 0 or status.st_mode & 0o022:
                return False
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
                return False
            os.rmdir(name, dir_fd=above)
        finally:
            os.close(above)
    return True


def _removed_as_root(directory: str) -> bool:
    """Remove a directory of root's by descriptors; False where it is none, or something else by now."""
    parent, name = os.path.split(directory)
    with privileged(), os_errors(directory):
        above = open_root(parent)
        try:
            stage = open_at(above, name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                status = os.fstat(stage)
                if not _is_stage_of_root(stage):
                    return False
                empty(stage)
            finally:
                os.close(stage)
            if not os.path.samestat(os.stat(name, dir_fd=above, follow_symlinks=False), status):
                return False
            os.rmdir(name, dir_fd=above)
        finally:
            os.close(above)
    return True


def _is_roots_own(directory: str) -> bool:
    with privileged():
        try:
            descriptor = open_root(directory)
        except (OSError, UnsafePathError):
            return False
        try:
            return _is_stage_of_root(descriptor)
        finally:
            os.close(descriptor)


def _is_stage_of_root(descriptor: int) -> bool:
    """Whether an open directory is root's alone, and holds what a stage does."""
    status = os.fstat(descriptor)
    private = status.st_uid == 0 and stat.S_IMODE(status.st_mode) == 0o700
    return private and set(os.listdir(descriptor)) <= {"new", "kept"}
