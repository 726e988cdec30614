# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The new code, made ready beside the checkout, and the renames that put it in place."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from ...errors import TradekeepError
from ...host.account import Account
from ...host.files import open_directory, os_errors, write_all
from ...host.filesystem.beneath import open_at
from ...host.ownership import name_of_gid, name_of_uid
from ...signals import answer
from ...transaction.plan import Replacement
from ...transaction.stage import Stage
from .code import EXECUTABLE, SYMLINK, CodeEntry
from .code_plan import Action, CodeChange, CodePlan
from .look import Thing, digests_of

_CHUNK = 1 << 20
_EXPORT = "the export"
"""How messages call its directory, which is gone by the time that somebody reads them."""
_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
# A date further in the future than this is a wrong one, and not to be exceeded.
_CLOCK_SECONDS = 60


class CodeStage:
    """Fills a stage with code for a directory beneath the checkout, by default the checkout itself.

    Stage and export are in reach of the owner, who may exchange whatever lies there at any moment: all of it is read
    and written with the owner's rights, and belongs to the owner from its beginning. system: whether groups can be
    given.
    """

    def __init__(self, checkout: Path, stage: Stage, owner: Account, *, system: bool, beneath: str = "") -> None:
        self._checkout = os.fspath(checkout)
        self._stage = stage
        self._owner = owner
        self._system = system
        self._beneath = f"{beneath}/" if beneath else ""

    def fill(self, plan: CodePlan, exported: Path) -> CodePlan:
        """Copy what was exported; returns the plan with the digests, without what turns out to be there already."""
        entries = dict(plan.entries)
        changes: list[CodeChange] = []
        source = open_directory(exported)
        try:
            for change in plan.changes:
                entry = change.entry
                if entry is None:
                    changes.append(change)
                    continue
                sha256 = self._copy(change, entry, source, plan.notes)
                entries[entry.path] = dataclasses.replace(entry, sha256=sha256)
                if not _is_there(change, entry, sha256):
                    changes.append(change)
        finally:
            os.close(source)
        return dataclasses.replace(plan, changes=changes, entries=entries)

    def symlink(self, path: str, target: str) -> Replacement:
        """Stage a symlink; the replacement puts it in the place of what is there."""
        staged = self._staged(path)
        self._make_parents(staged)
        with os_errors(staged):
            self._make_symlink(target, staged)
        return self._replacement(path, staged)

    def mark(self, path: str) -> None:
        """Stage an empty file."""
        with os_errors(path):
            os.close(os.open(self._staged(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _FILE_MODE))

    def replacements(self, plan: CodePlan) -> list[Replacement]:
        """The renames for a filled plan: removals, directories that make way or are new, files."""
        wanted: dict[str, Replacement] = {}
        for change in plan.changes:
            staged = None if change.action is Action.REMOVE else self._staged(change.path)
            wanted[change.path] = self._replacement(change.path, staged)
        for path in plan.emptied:
            wanted.setdefault(path, self._replacement(path, None))
        for path in self._new_directories(change.path for change in plan.changes if change.entry is not None):
            # Where a removed file makes way for the directory, both are one exchange.
            wanted[path] = self._replacement(path, self._staged(path))
        return list(wanted.values())

    def directory(self, path: str) -> list[Replacement]:
        """The renames that put a wholly staged directory in place, with those above it that are missing."""
        above = self._new_directories([f"{path}/"])
        return [self._replacement(name, self._staged(name)) for name in above]

    def _replacement(self, path: str, staged: Optional[str]) -> Replacement:
        whole = self._beneath + path
        return Replacement(f"{self._checkout}/{whole}", staged, self._stage.kept_for(whole))

    def _staged(self, path: str) -> str:
        return self._stage.path_for(self._beneath + path)

    def _new_directories(self, paths: Iterable[str]) -> list[str]:
        missing: set[str] = set()
        for path in paths:
            names = path.split("/")[:-1]
            for count in range(1, len(names) + 1):
                name = "/".join(names[:count])
                live = f"{self._checkout}/{self._beneath}{name}"
                if os.path.islink(live) or not os.path.isdir(live):
                    missing.add(name)
        return sorted(missing)

    def _copy(self, change: CodeChange, entry: CodeEntry, source: int, notes: list[str]) -> str:
        target = self._staged(entry.path)
        self._make_parents(target)
        with os_errors(target):
            if entry.mode == SYMLINK:
                return self._copy_symlink(source, target, entry)
            return self._copy_file(source, target, change, entry, notes)

    def _copy_symlink(self, source: int, target: str, entry: CodeEntry) -> str:
        parent, _slash, name = entry.path.rpartition("/")
        directory = open_at(source, parent, os.O_RDONLY | os.O_DIRECTORY, shown=_EXPORT)
        try:
            leads_to = os.readlink(name, dir_fd=directory)
        finally:
            os.close(directory)
        self._make_symlink(leads_to, target)
        return digests_of(os.fsencode(leads_to))[1]

    def _make_symlink(self, leads_to: str, target: str) -> None:
        os.symlink(leads_to, target)

    def _copy_file(self, source: int, target: str, change: CodeChange, entry: CodeEntry, notes: list[str]) -> str:
        digest = hashlib.sha256()
        # The export belongs to the application's owner: nothing in it is trusted to stay what it was.
        with open(open_at(source, entry.path, os.O_RDONLY | os.O_NONBLOCK, shown=_EXPORT), "rb") as content:
            if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
                raise TradekeepError("is not a regular file after its export", path=entry.path)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                while chunk := content.read(_CHUNK):
                    answer()
                    digest.update(chunk)
                    write_all(descriptor, chunk)
                self._give_rights(descriptor, change, entry, notes)
                _be_newer(descriptor, change)
            finally:
                os.close(descriptor)
        return digest.hexdigest()

    def _give_rights(self, descriptor: int, change: CodeChange, entry: CodeEntry, notes: list[str]) -> None:
        """What is there keeps its mode, but for the right to execute, and its group where the owner may give it."""
        known = change.look.thing is Thing.FILE
        mode = change.look.mode & 0o7777 if known else _FILE_MODE
        readers = (mode & 0o444) >> 2
        mode = mode | readers if entry.mode == EXECUTABLE else mode & ~0o111
        if self._system:
            uid, gid = (change.look.uid, change.look.gid) if known else (self._owner.uid, self._owner.gid)
            if not _own(descriptor, uid, gid):
                was = f"{name_of_uid(uid)}:{name_of_gid(gid)}"
                notes.append(f"{entry.path}: belonged to {was}, and belongs to {self._owner.name} now")
        os.fchmod(descriptor, mode & ~0o6000)

    def _make_parents(self, target: str) -> None:
        parent = os.path.dirname(target)
        if os.path.isdir(parent):
            return
        self._make_parents(parent)
        with os_errors(parent):
            os.mkdir(parent, _DIRECTORY_MODE)
            os.chmod(parent, _DIRECTORY_MODE)


def _own(descriptor: int, uid: int, gid: int) -> bool:
    """Give a new file an owner and a group, or the group alone; returns whether it has both."""
    for wanted in (uid, -1):
        try:
            os.fchown(descriptor, wanted, gid)
        except PermissionError:
            continue
        return wanted == uid
    return False


def _be_newer(descriptor: int, change: CodeChange) -> None:
    """Let a file have a later second than the one it replaces.

    Python takes compiled code for current when the source has the size and the second that it was compiled from (PEP
    552): two deploys within one second could leave the old code running.
    """
    now, before = int(os.fstat(descriptor).st_mtime), change.look.mtime
    if now <= before <= now + _CLOCK_SECONDS:
        os.utime(descriptor, (before + 1, before + 1))


def _is_there(change: CodeChange, entry: CodeEntry, sha256: str) -> bool:
    look = change.look
    if (look.thing is Thing.SYMLINK) != (entry.mode == SYMLINK) or look.sha256 != sha256:
        return False
    return look.thing is Thing.SYMLINK or look.executable == (entry.mode == EXECUTABLE)
