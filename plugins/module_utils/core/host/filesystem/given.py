# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Directories that root makes for another account.

What an account can make by itself, it makes. Root makes a directory for it only inside of one that root alone can
change: elsewhere the name could lead to another directory by the time that it is given away.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union

from ...errors import UnsafePathError
from ..account import Account
from ..files import open_directory, os_errors
from .beneath import DIRECTORY_FLAGS
from .identity import acting_as, privileged

AnyPath = Union[str, "os.PathLike[str]"]
_OTHERS_WRITE = 0o002


def give_directory(path: AnyPath, account: Account, *, mode: int = 0o700) -> bool:
    """Make a directory that belongs to an account, and those above it that are missing; returns whether it was made.

    What is there already is left as it is. Raises UnsafePathError where somebody else could meddle.
    """
    target = Path(path)
    with os_errors(target):
        _make_parents(target.parent, account)
        return _make(target, account, mode, given=True)


def _make_parents(directory: Path, account: Account) -> None:
    if not os.path.lexists(directory):
        _make_parents(directory.parent, account)
        _make(directory, account, 0o755, given=False)


def _make(target: Path, account: Account, mode: int, *, given: bool) -> bool:
    try:
        with acting_as(account):
            target.mkdir(mode=mode)
            target.chmod(mode)
        return True
    except FileExistsError:
        return False
    except PermissionError:
        if os.geteuid() != 0 or account.uid == 0:
            raise
    with privileged():
        return _make_as_root(target, account, mode, given=given)


def _make_as_root(target: Path, account: Account, mode: int, *, given: bool) -> bool:
    given = given and not account.is_current
    parent = open_directory(target.parent)
    try:
        if given:
            _refuse_meddlers(parent, target, account)
        try:
            os.mkdir(target.name, mode, dir_fd=parent)
        except FileExistsError:
            return False
        descriptor = os.open(target.name, DIRECTORY_FLAGS, dir_fd=parent)
        try:
            if given:
                os.fchown(descriptor, account.uid, account.gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
    finally:
        os.close(parent)
    return True


def _refuse_meddlers(parent: int, target: Path, account: Account) -> None:
    """Nobody but root may be able to exchange the new directory before it is given away."""
    facts = os.fstat(parent)
    if facts.st_uid != 0 or facts.st_mode & _OTHERS_WRITE:
        raise UnsafePathError(
            f"cannot be made for {account.name}: others can change the directory above it",
            path=target,
            hint=f"make it yourself: install -d -o {account.as_argument} {target}",
        )
