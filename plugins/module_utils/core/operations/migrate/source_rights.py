# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""With whose rights a source is read that lies on this host: root's only where nobody but root can put anything there.

Whoever can change what lies in a directory chooses what is read through it. So root's own rights count where each level
from ``/`` down is root's to change, and where nobody else can reach what lies below, or every directory there is root's
to change as well. Everything else is read in the name of whoever can change it, and holds what that account can read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ...application import Application
from ...errors import UnsafePathError
from ...host.account import Account, account_of, owner_of
from ...host.filesystem.beneath import DIRECTORY_FLAGS, open_at
from ...host.filesystem.identity import acting_as, privileged
from ...host.ownership import name_of_uid
from ...signals import answer

_MOST_SYMLINKS = 40
_OF_OTHERS = 0o022
_CLOSED = 0o077


@dataclass(frozen=True)
class SourceRights:
    """Whose they are; None is root itself, or the only account that there is."""

    account: Optional[Account]

    def acting(self) -> AbstractContextManager[None]:
        """Read with them, inside the block."""
        return privileged() if self.account is None else acting_as(self.account)

    def __str__(self) -> str:
        return "root" if self.account is None else self.account.name


def rights_to_read(application: Application, given: Path) -> SourceRights:
    """The rights for a directory or an archive that somebody names."""
    if os.geteuid() != 0:
        return SourceRights(None)
    with privileged():
        return SourceRights(_account(application, _who_can_change(given)))


def _account(application: Application, uid: Optional[int]) -> Optional[Account]:
    if uid is None:
        return None
    # Root's own, and yet others can write there: nobody can say who.
    return owner_of(application) if uid == 0 else account_of(name_of_uid(uid))


def _who_can_change(given: Path) -> Optional[int]:
    """The account that can change what is found at a path, 0 where there are several; None for root alone."""
    here, closed = os.open("/", DIRECTORY_FLAGS), False
    parts, links = [part for part in str(given).split("/") if part], 0
    try:
        while parts:
            part = parts.pop(0)
            try:
                status = os.stat(part, dir_fd=here, follow_symlinks=False)
            except OSError:
                return None  # there is nothing to read
            who = _who_can_replace(os.fstat(here), status)
            if who is not None:
                return who
            if stat.S_ISLNK(status.st_mode):
                if not parts:
                    return None  # refused as a source
                links += 1
                target = os.readlink(part, dir_fd=here)
                parts[:0] = [name for name in target.split("/") if name]
                closed = closed and not target.startswith("/")
                deeper = os.open("/" if target.startswith("/") else ".", DIRECTORY_FLAGS, dir_fd=here)
            elif stat.S_ISDIR(status.st_mode):
                deeper = os.open(part, DIRECTORY_FLAGS, dir_fd=here)
                closed = (closed and part != "..") or (status.st_uid == 0 and not status.st_mode & _CLOSED)
            else:
                return None  # nobody else can put another one there
            os.close(here)
            here = deeper
            if links > _MOST_SYMLINKS:
                raise UnsafePathError("leads through too many symlinks", path=given)
        return None if closed else next(_others_below(here), None)
    finally:
        os.close(here)


def _who_can_replace(directory: os.stat_result, status: os.stat_result) -> Optional[int]:
    """The account that can put something else in the place of what has this status; None for root alone."""
    if directory.st_uid != 0:
        return directory.st_uid
    if not directory.st_mode & _OF_OTHERS:
        return None
    if directory.st_mode & stat.S_ISVTX and (status.st_nlink == 1 or not stat.S_ISREG(status.st_mode)):
        return status.st_uid or None
    return 0  # a file of root's with a second name may have got that one from anybody


def _others_below(top: int) -> Iterator[int]:
    """Accounts that can change what lies in some directory. Only directories of root's are entered."""
    waiting = [""]
    while waiting:
        answer()
        directory = waiting.pop()
        here = open_at(top, directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            status = os.fstat(here)
            if status.st_uid != 0 or status.st_mode & _OF_OTHERS:
                yield status.st_uid
                return
            with os.scandir(here) as listing:
                waiting += [f"{directory}{item.name}/" for item in listing if item.is_dir(follow_symlinks=False)]
        finally:
            os.close(here)
