# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a deploy would do to each path of the checkout, and where upstream and live data collide.

Only paths that the old or the new manifest lists are planned at all, and of these none that is preserved: what nobody
deployed is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Optional, Protocol

from ...deploy_settings import CollisionPolicy
from ...kinds import default_kind
from .code import EXECUTABLE, SUBMODULE, SYMLINK, CodeEntry, CodeManifest
from .look import Look, Looker, Thing

# What a bot writes and nobody writes by hand: edited since the last deploy, it is data whoever tracks it.
_DATA_KINDS = ("sqlite", "jsonl", "log")
LARGEST_EDIT = 1 << 28
"""More is not kept aside, and so not replaced where nobody knows what it is."""
_SUBMODULES = "a submodule cannot be deployed: put its files into the repository, or preserve its path"


class DataPaths(Protocol):
    """What is data and not code."""

    def reason(self, path: str) -> Optional[str]:
        """Why a path is left alone, in words; None when it is code."""

    def holds(self, directory: str) -> bool:
        """Whether a part of the data lies beneath a directory, there now or not."""


class Action(str, Enum):
    """What happens to one path."""

    CREATE = "create"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True)
class CodeChange:
    """One path that changes. edited: what lies there is not what a deploy put there, and is kept in the quarantine."""

    path: str
    action: Action
    look: Look
    entry: Optional[CodeEntry] = None
    edited: bool = False

    def describe(self) -> str:
        """One line of a plan."""
        return f"{self.action.value} {self.path}" + (" (not what was deployed; kept aside)" if self.edited else "")


@dataclass(frozen=True)
class Collision:
    """A place that upstream wants and live data has. kept: the policy leaves the live data there and goes on.

    code: it is no data, but code of which nobody knows where it is from. Left there it would pass for the commit's.
    """

    path: str
    kind: str
    what: str
    kept: bool
    code: bool = False

    def describe(self) -> str:
        """One line of a plan or an error."""
        return f"{self.path}: {self.what}" + ("; kept as it is" if self.kept else "")


@dataclass
class CodePlan:
    """The changes, the collisions, what is worth knowing, and the manifest that results."""

    changes: list[CodeChange] = field(default_factory=list)
    collisions: list[Collision] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    entries: dict[str, CodeEntry] = field(default_factory=dict)
    emptied: list[str] = field(default_factory=list)
    """Directories that make way for a file of the same name, deepest first."""

    @property
    def refused(self) -> list[Collision]:
        """The collisions that stop the deploy."""
        return [collision for collision in self.collisions if not collision.kept]


@dataclass(frozen=True)
class Upstream:
    """A commit: its paths, and those of them that its own .gitignore files ignore."""

    commit: str
    entries: Mapping[str, CodeEntry]
    ignored: frozenset[str] = frozenset()


def plan_code(
    upstream: Upstream,
    old: CodeManifest,
    looker: Looker,
    preserved: DataPaths,
    policy: CollisionPolicy,
    *,
    adopt: bool = False,
) -> CodePlan:
    """Compare the commit, what was deployed and what lies there; reads only.

    adopt: a file in the place of code that no deploy put there is replaced, and kept in the quarantine.
    """
    planner = _Planner(upstream, old, looker, preserved, policy, adopt)
    for path in sorted(upstream.entries):
        planner.wanted(upstream.entries[path])
    for path in sorted(set(old.entries) - set(upstream.entries)):
        planner.gone(old.entries[path])
    return planner.plan


class _Planner:
    def __init__(
        self,
        upstream: Upstream,
        old: CodeManifest,
        looker: Looker,
        preserved: DataPaths,
        policy: CollisionPolicy,
        adopt: bool,
    ) -> None:
        self._new = upstream.entries
        self._ignored = upstream.ignored
        self._old = old.entries
        self._knows_origin = old.commit is not None
        self._adopt = adopt
        self._looker = looker
        self._preserved = preserved
        self._policy = policy
        self._directories = {path[:end] for path in self._new for end in _slashes(path)}
        self.plan = CodePlan()

    def wanted(self, entry: CodeEntry) -> None:
        """A path that the commit has."""
        look = self._looker.at(entry.path)
        reason = self._preserved.reason(entry.path)
        if reason is None and self._preserved.holds(entry.path) and entry.mode != SUBMODULE:
            self._replaced_data(entry, look)
        elif reason is not None or self._preserved.holds(entry.path):
            self._data(entry, look, reason or "holds data")
        elif entry.mode == SUBMODULE:
            self._submodule(entry, look)
        elif look.above is not None:
            self._hidden(entry, look)
        elif look.thing is Thing.ABSENT:
            self._absent(entry, look)
        elif look.thing is Thing.DIRECTORY:
            self._replaced_directory(entry, look)
        elif look.thing is Thing.SPECIAL:
            self._collide(entry, "special", "is a socket, pipe or device here and tracked upstream")
        else:
            self._present(entry, look)

    def gone(self, entry: CodeEntry) -> None:
        """A path that was deployed and that the commit does not have."""
        reason = self._preserved.reason(entry.path)
        look = self._looker.at(entry.path)
        if look.thing is Thing.ABSENT or not entry.ours:
            return
        if reason is not None:
            self.plan.notes.append(f"{entry.path}: no longer tracked upstream; it is data ({reason}) and stays")
        elif look.thing not in (Thing.FILE, Thing.SYMLINK):
            self.plan.notes.append(f"{entry.path}: no longer tracked upstream; it is a {look.thing.value} and stays")
        elif not is_deployed(look, entry) and _is_data(entry.path):
            self.plan.notes.append(f"{entry.path}: no longer tracked upstream; it was written here and stays")
        else:
            edited = not is_deployed(look, entry)
            self.plan.changes.append(CodeChange(entry.path, Action.REMOVE, look, None, edited))

    def _present(self, entry: CodeEntry, look: Look) -> None:
        """A file or symlink lies where the commit has one."""
        before = self._old.get(entry.path)
        if self._is_same(look, entry, before):
            self._leave(entry, look)
        elif before is None or not before.ours:
            self._undeployed(entry, look, before)
        elif is_deployed(look, before):
            self._change(entry, look, Action.REPLACE)
        elif self._is_written(entry.path):
            self._written_data(entry, before)
        else:
            self._change(entry, look, Action.REPLACE, edited=True)

    def _undeployed(self, entry: CodeEntry, look: Look, before: Optional[CodeEntry]) -> None:
        """What lies there was put there by nobody that we know of."""
        code = not self._is_written(entry.path)
        if code and look.oid == entry.oid and look.thing is Thing.FILE and entry.mode != SYMLINK:
            self._change(entry, look, Action.REPLACE)  # a copy that has lost or won the right to execute
        elif code and self._adopt and look.thing is Thing.FILE and look.size <= LARGEST_EDIT:
            self._change(entry, look, Action.REPLACE, edited=True)
        elif before is not None and before.oid == entry.oid:
            self._leave_out(entry, "is not what was deployed and upstream has not changed it; kept as it is")
        elif code and not self._knows_origin:
            self.plan.collisions.append(Collision(entry.path, "untracked", _unknown(look), kept=False, code=True))
        else:
            self._collide(entry, "untracked", "exists here and nobody deployed it; upstream tracks it now")

    def _written_data(self, entry: CodeEntry, before: CodeEntry) -> None:
        """A tracked file that the bot writes to."""
        if before.oid == entry.oid:
            self._leave_out(entry, "tracked by mistake: it is written here; kept as it is")
        else:
            kind = "ignored_but_tracked" if entry.path in self._ignored else "tracked_data"
            self._collide(entry, kind, "was written here and is changed upstream, which tracks it by mistake")

    def _data(self, entry: CodeEntry, look: Look, reason: str) -> None:
        """The commit has a path that is preserved."""
        before = self._old.get(entry.path)
        same_place = look.above is None and entry.mode != SUBMODULE
        if same_place and look.thing is Thing.ABSENT:
            if self._policy is CollisionPolicy.KEEP_LIVE:
                self._leave_out(entry, f"tracked upstream, but data ({reason}); left out")
            else:
                self._absent(entry, look, ours=False)
        elif same_place and self._is_same(look, entry, before):
            self._leave_out(entry, None)
        elif before is not None and before.oid == entry.oid and before.mode == entry.mode:
            self._leave_out(entry, f"tracked by mistake: it is data ({reason}); kept as it is")
        else:
            self._collide(entry, *_shape(entry, look, reason))

    def _replaced_data(self, entry: CodeEntry, look: Look) -> None:
        """Upstream has a file or symlink where a directory above the data belongs."""
        if look.thing is Thing.SYMLINK and self._is_same(look, entry, self._old.get(entry.path)):
            self._leave_out(entry, None)
        else:
            self._collide(entry, *_shape(entry, look, "holds data"))

    def _submodule(self, entry: CodeEntry, look: Look) -> None:
        if look.thing is Thing.DIRECTORY and self._foreign_below(entry.path):
            self._collide(entry, "submodule", "holds files that nobody deployed and is a submodule upstream")
        else:
            self.plan.collisions.append(Collision(entry.path, "submodule", _SUBMODULES, False))

    def _hidden(self, entry: CodeEntry, look: Look) -> None:
        """A file or symlink lies where the commit has a directory."""
        above = str(look.above)
        blocking = self._old.get(above)
        if blocking is not None and blocking.ours and above not in self._new:
            self._change(entry, look, Action.CREATE)
        else:
            thing = self._looker.at(above, digest=False).thing.value
            self._collide(entry, f"{thing}_in_the_way", f"cannot be written: {above} is a {thing} here")

    def _absent(self, entry: CodeEntry, look: Look, *, ours: bool = True) -> None:
        other = self._looker.other_case(entry.path)
        if other is not None and self._is_live(other):
            self._collide(entry, "case", f"differs from {other}, which is here, in upper and lower case alone")
        else:
            self._change(entry, look, Action.CREATE, ours=ours)

    def _replaced_directory(self, entry: CodeEntry, look: Look) -> None:
        foreign = self._foreign_below(entry.path)
        if foreign is not None:
            what = "symlink" if entry.mode == SYMLINK else "file"
            self._collide(entry, f"directory_becomes_{what}", f"is a {what} upstream and holds {foreign} here")
            return
        self.plan.emptied.extend(self._looker.directories_below(entry.path))
        self._change(entry, look, Action.CREATE)

    def _foreign_below(self, directory: str) -> Optional[str]:
        """A file beneath a directory that this deploy would not remove."""
        for path in sorted(self._looker.files_below(directory)):
            entry = self._old.get(path)
            if entry is None or not entry.ours or self._preserved.reason(path) is not None:
                return path
            if _is_data(path) and not is_deployed(self._looker.at(path), entry):
                return path
        return None

    def _is_live(self, path: str) -> bool:
        """Whether something other than code that goes away lies there."""
        if path in self._new or path in self._directories:
            return False
        if self._preserved.reason(path) is not None or self._preserved.holds(path):
            return True
        if self._looker.at(path, digest=False).thing is Thing.DIRECTORY:
            return self._foreign_below(path) is not None
        return path not in self._old

    def _is_written(self, path: str) -> bool:
        """Whether the bot writes such a file, whoever tracks it."""
        return _is_data(path) or path in self._ignored

    def _is_same(self, look: Look, entry: CodeEntry, before: Optional[CodeEntry]) -> bool:
        if (look.thing is Thing.SYMLINK) != (entry.mode == SYMLINK):
            return False
        if look.thing is Thing.FILE and look.executable != (entry.mode == EXECUTABLE):
            return False
        unchanged = before is not None and before.oid == entry.oid and is_deployed(look, before)
        return look.oid == entry.oid or unchanged

    def _leave(self, entry: CodeEntry, look: Look) -> None:
        self.plan.entries[entry.path] = CodeEntry(entry.path, entry.mode, entry.oid, look.sha256)

    def _leave_out(self, entry: CodeEntry, note: Optional[str]) -> None:
        self.plan.entries[entry.path] = CodeEntry(entry.path, entry.mode, entry.oid, ours=False)
        if note is not None:
            self.plan.notes.append(f"{entry.path}: {note}")

    def _change(self, entry: CodeEntry, look: Look, action: Action, *, edited: bool = False, ours: bool = True) -> None:
        planned = CodeEntry(entry.path, entry.mode, entry.oid, ours=ours)
        self.plan.entries[entry.path] = planned
        self.plan.changes.append(CodeChange(entry.path, action, look, planned, edited))

    def _collide(self, entry: CodeEntry, kind: str, what: str) -> None:
        kept = self._policy is not CollisionPolicy.FAIL
        self.plan.collisions.append(Collision(entry.path, kind, what, kept))
        if kept:
            self._leave_out(entry, None)


def is_deployed(look: Look, entry: CodeEntry) -> bool:
    """Whether what lies there is what a deploy put there."""
    if (look.thing is Thing.SYMLINK) != (entry.mode == SYMLINK) or look.thing not in (Thing.FILE, Thing.SYMLINK):
        return False
    return look.sha256 == entry.sha256 if entry.sha256 is not None else look.oid == entry.oid


def _is_data(path: str) -> bool:
    return default_kind(path.rpartition("/")[2]) in _DATA_KINDS


def _unknown(look: Look) -> str:
    if look.thing is Thing.SYMLINK:
        return "is a symlink here, no deploy made it, and upstream has something else; move it away"
    if look.size > LARGEST_EDIT:
        return "is here, no deploy put it there, and it is too large to be kept aside; move it away"
    return "is here, no deploy put it there, and upstream has it with other content"


def _shape(entry: CodeEntry, look: Look, reason: str) -> tuple[str, str]:
    """Kind and description of a collision at a preserved path."""
    upstream = {SUBMODULE: "submodule", SYMLINK: "symlink"}.get(entry.mode, "file")
    if look.above is not None:
        return "behind_symlink", f"is data ({reason}) behind {look.above} here and newly tracked upstream"
    if look.thing is Thing.DIRECTORY or upstream != "file":
        return f"directory_becomes_{upstream}", f"is data here ({reason}) and a {upstream} upstream"
    return "newly_tracked", f"is data here ({reason}) and tracked upstream, with other content"


def _slashes(path: str) -> Iterable[int]:
    return (index for index, character in enumerate(path) if character == "/")
