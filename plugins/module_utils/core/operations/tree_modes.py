# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which modes of a data tree are drift, and what others can reach without the profile stating that they may.

A bot that writes a document to a temporary file and renames it gives it the mode of its own umask, each time. What is
stricter than the profile states is therefore left alone, and so is a mode of which the profile says nothing: otherwise
bot and playbook would change the same file back and forth for ever.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from .text import counted

_OTHERS_PASS = 0o001
_OTHERS_WRITE = 0o002
_OTHERS_READ = 0o005
_MOST_NOTES = 3


def mended_mode(found: int, wanted: int, *, stated: bool, directory: bool) -> int:
    """The mode that something which is there should have: its own, without what a stated one does not allow.

    Nothing becomes more open by it, but for what its owner needs where the mode is stated. Who may read a file keeps
    the right to execute it, whatever is stated, and no file keeps the right to run as another account.
    """
    if not stated:
        return found if directory else found & 0o777
    if directory:
        return found & wanted | wanted & 0o700
    kept = found & wanted & 0o777 | wanted & 0o400
    return kept | executable_by_readers(found, kept)


def executable_by_readers(found: int, mode: int) -> int:
    """Those rights to execute in ``found`` that are of owner, group or others who may read by ``mode``."""
    return found & (mode & 0o444) >> 2


def mode_beside(mode: int, live: int) -> int:
    """The mode of a restored file that takes the place of a live one: as private as the stricter of the two.

    The rights to execute are those of both.
    """
    kept = mode & (live | 0o700) & 0o666
    return kept | executable_by_readers(mode | live, kept)


def umask_notes(mended: Iterable[int]) -> Iterator[str]:
    """How files that are stated stricter than they were are written so by the bot; ``mended`` are their new modes."""
    modes = list(mended)
    if modes:
        group = max(modes) & 0o070
        others = max(modes) & 0o007
        umask = (0o020 if group else 0o070) | (0o002 if others else 0o007)
        were = "was" if len(modes) == 1 else "were"
        yield (
            f"{counted(len(modes), 'file')} {were} more open than the profile states: if that comes again, the bot "
            f"writes them so, and UMask={umask:04o} in its unit ends it"
        )


class OpenToOthers:
    """Collects what other accounts can read or write where the profile states no mode. Parents are seen first."""

    def __init__(self, root: PurePosixPath) -> None:
        self._root = root
        self._closed: set[str] = set()
        self._told: set[str] = set()
        self._notes: list[str] = []
        self._more = 0
        self._reachable = all(_others_pass(parent) for parent in root.parents)

    def see(self, path: str, mode: int, *, stated: bool, directory: bool, key: str) -> None:
        """One thing, with the mode that it keeps or gets. key: what the profile would state it with."""
        above = path.rpartition("/")[0] if path else None
        if not self._reachable or above in self._closed:
            self._closed.add(path)
            return
        if directory and not mode & _OTHERS_PASS:
            self._closed.add(path)
        # To close a directory closes all that lies in it: one line is enough.
        known = above in self._told
        if known and directory:
            self._told.add(path)
        if stated:
            return
        if mode & _OTHERS_WRITE and not (directory and mode & stat.S_ISVTX):
            self._tell(path, mode, "write", key)
        elif directory and mode & _OTHERS_READ and not known:
            self._told.add(path)
            self._tell(path, mode, "read", key)

    def notes(self) -> list[str]:
        """A few lines."""
        more = [f"and {counted(self._more, 'path')} more that others can write or read"] if self._more else []
        return [*self._notes, *more]

    def _tell(self, path: str, mode: int, what: str, key: str) -> None:
        if len(self._notes) == _MOST_NOTES:
            self._more += 1
            return
        shown = path or str(self._root)
        self._notes.append(
            f"{shown}: {mode:04o} lets other accounts {what}; left alone, as the profile states no {key} (set it to "
            "close this)"
        )


def _others_pass(directory: PurePosixPath) -> bool:
    try:
        return bool(os.stat(directory).st_mode & _OTHERS_PASS)
    except OSError:
        return True
