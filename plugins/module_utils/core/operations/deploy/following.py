# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The facts of all data, kept up by what the kernel tells of it: looked at again is only what was touched."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Optional

from ...errors import TradekeepError
from ...host.mounts import Mount, mounts_holding
from ...host.watch import Watch
from .proof import Fact, Witness

# Filesystems of one host alone, on which nothing is written that the kernel does not tell.
_LOCAL = {"bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "ntfs3", "overlay", "ramfs"}
_LOCAL |= {"reiserfs", "tmpfs", "vfat", "xfs", "zfs"}
_Identity = Optional[tuple[int, int]]


class Followed:
    """The data from now on. Every method raises TradekeepError where something can have gone unseen: look yourself.

    facts: of every file, as of the last ``catch_up``. files: how many of them each component has. changed: files whose
    facts are other ones than when this was emptied.
    """

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self.facts: dict[str, Fact] = {}
        self.files: Counter[str] = Counter()
        self.changed: set[str] = set()
        self._beneath: dict[str, set[str]] = {}
        self._watched: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._touched: set[str] = set()
        self._moved: set[str] = set()
        self._places = self._look_at_places()
        for top, (_where, mounts) in self._places.items():
            _refuse_shared(top, mounts)
        self._watch = Watch()
        try:
            for top in self._places:
                self._take_in(top)
            self.catch_up()
        except BaseException:
            self.close()
            raise

    def hear(self) -> None:
        """Note what the kernel has to tell, before it becomes too much."""
        for event in self._watch.events():
            directory = self._names.get(event.watch)
            if directory is None:
                continue  # left out since; what lies there now was looked at after that
            path = f"{directory}/{event.name}"
            if event.is_directory and event.comes_or_goes and self._witness.looks_into(event.name):
                self._moved.add(path)
            elif event.name and not event.is_directory and self._witness.is_data(path):
                self._touched.add(path)

    def catch_up(self) -> None:
        """Bring the facts up to now."""
        self.hear()
        moved, self._moved = self._moved, set()
        touched, self._touched = self._touched, set()
        # One that was renamed has to be left out before it is taken in under its other name.
        for path in moved:
            self._leave_out(path)
        for path in moved:
            if os.path.isdir(path) and not os.path.islink(path):
                self._take_in(path)
        for path in touched:
            self._note(path, self._witness.fact(path))
        self._refuse_other_places()

    def touched(self) -> frozenset[str]:
        """The files to which anything was done since the facts were brought up to date, theirs and new ones."""
        self.hear()
        self._refuse_other_places()
        below = {path for directory in self._moved for path in self._files_beneath(directory)}
        return frozenset(self._touched | below)

    def close(self) -> None:
        """Follow it no longer."""
        self._watch.close()

    def _take_in(self, top: str) -> None:
        for path, fact in self._witness.walk(top, self._enter):
            self._note(path, fact)

    def _enter(self, directory: str) -> None:
        """Watched first and looked into then, so that nothing is done there between the two."""
        number = self._watch.add(directory)
        if number is None:
            return
        if self._names.setdefault(number, directory) != directory:
            raise TradekeepError(f"is the same directory as {self._names[number]}", path=directory)
        self._watched[directory] = number
        self._beneath.setdefault(directory, set())
        self._beneath.setdefault(os.path.dirname(directory), set()).add(directory)
        self.hear()

    def _leave_out(self, directory: str) -> None:
        for path in self._beneath.pop(directory, ()):
            self._leave_out(path)
            self._note(path, None)
        number = self._watched.pop(directory, None)
        if number is not None:
            self._watch.remove(number)
            del self._names[number]

    def _files_beneath(self, directory: str) -> Iterator[str]:
        for path in self._beneath.get(directory, ()):
            if path in self.facts:
                yield path
            yield from self._files_beneath(path)

    def _note(self, path: str, fact: Optional[Fact]) -> None:
        known = path in self.facts
        if self.facts.get(path) != fact:
            self.changed.add(path)
        if fact is not None:
            self.facts[path] = fact
            self._beneath.setdefault(os.path.dirname(path), set()).add(path)
        elif known:
            del self.facts[path]
        if known != (fact is not None):
            self.files[self._witness.component(path)] += -1 if known else 1

    def _refuse_other_places(self) -> None:
        """Who mounts something over the data, or moves it as a whole, does nothing in the directories themselves."""
        if self._look_at_places() != self._places:
            raise TradekeepError("a directory of the data was moved, made or mounted meanwhile")

    def _look_at_places(self) -> dict[str, tuple[_Identity, tuple[Mount, ...]]]:
        return {top: (_identity(top), mounts_holding(top)) for top in self._witness.tops()}


def _identity(directory: str) -> _Identity:
    try:
        status = os.stat(f"{directory}/")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _refuse_shared(top: str, mounts: tuple[Mount, ...]) -> None:
    if not mounts:
        raise TradekeepError("on which filesystem the data lies is not known", path=top)
    for mount in mounts:
        if mount.filesystem not in _LOCAL:
            raise TradekeepError(f"the kernel does not tell all of {mount.filesystem}", path=mount.point)
