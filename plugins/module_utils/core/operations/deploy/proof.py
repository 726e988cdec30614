# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The proof that a deploy left the data alone: what it was before, against what it is after.

Whoever changes a file changes its inode, size or times of change, so equal facts of inode(7) prove a file untouched
without reading it. Only where they differ is the content compared: the bot may have written, and a proof has to tell
that from damage.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Optional

from ...application import Application
from ...component_paths import fixed_part, is_open, lies_above
from ...deploy_settings import Layout
from ...errors import TradekeepError
from ...kinds.sqlite import SIDECAR_SUFFIXES
from ...patterns import classify
from ...signals import answer
from ...vocabulary import RESERVED_PREFIX
from ..found import lies_too_deep
from ..kind_of import kind_of
from ..shrinking import file_may_shrink, table_may_shrink
from ..text import counted
from .data_reader import DataReader

_APPENDED = ("jsonl", "log")
_OTHER = "not in a component"


@dataclass(frozen=True)
class Fact:
    """What the filesystem says of one file."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True)
class Sample:
    """What was read of one file before: the digest of its last part, or the rows of its tables."""

    size: int
    tail_sha256: Optional[str] = None
    rows: Optional[Mapping[str, Optional[int]]] = None


@dataclass
class Proof:
    """The verdict for each component. damaged: what the deploy did to the data, empty when it is preserved.

    by_bot: files that the bot itself wrote or removed.
    """

    components: dict[str, dict[str, int]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    by_bot: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For the record of the deploy."""
        return {
            "verdict": "damaged" if self.damaged else "preserved",
            "components": self.components,
            "damaged": self.damaged,
        }


def _nothing(_path: str) -> None:
    """For who wants to hear nothing meanwhile."""


def _of_nobody(_path: str) -> bool:
    """For who knows of no bot that runs."""
    return False


class Witness:
    """Looks at everything in and around the checkout that is not the deployed code.

    What the application's owner cannot look into is not the application's data. adopted: a directory that makes way for
    the link to the environment, and is code with all that it holds.
    """

    def __init__(
        self, application: Application, code: Collection[str], reader: DataReader, *, adopted: Optional[str] = None
    ) -> None:
        self._application = application
        self._checkout = f"{os.fspath(application.checkout)}/"
        self._root = os.fspath(application.root)
        self._code = frozenset(code)
        self._adopted = adopted
        self._reader = reader
        self.unreadable: set[str] = set()
        """Directories that the owner cannot look into."""

    def tops(self) -> tuple[str, ...]:
        """The directories beneath which all of it lies."""
        checkout = self._checkout.rstrip("/")
        in_place = self._application.profile.deploy.layout is Layout.IN_PLACE
        paths = {_top(path) for component in self._application.profile.components for path in component.paths}
        inner = {path for path in paths if any(lies_above(other, path) for other in paths)}
        found = [self._root] if "" in paths else [f"{self._root}/{path}" for path in sorted(paths - inner)]
        # Releases are code alone; what is written into one is looked for before it is removed.
        return (
            (checkout, *(top for top in found if not f"{top}/".startswith(self._checkout)))
            if in_place
            else tuple(found)
        )

    def facts(self) -> dict[str, Fact]:
        """The facts of every file that is not code, by absolute path."""
        return {path: fact for top in self.tops() for path, fact in self.walk(top)}

    def fact(self, path: str) -> Optional[Fact]:
        """The facts of one file as of now; None where there is none."""
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        return None if stat.S_ISDIR(status.st_mode) else _fact(status)

    @staticmethod
    def looks_into(name: str) -> bool:
        """Whether a directory is neither git's nor of this program."""
        return name != ".git" and not name.startswith(RESERVED_PREFIX)

    def is_data(self, path: str) -> bool:
        """Whether a file beneath one of the tops is neither code nor git's nor of this program."""
        if not self.looks_into(os.path.basename(path)):
            return False
        return not (path.startswith(self._checkout) and path[len(self._checkout) :] in self._code)

    def samples(self, facts: Mapping[str, Fact], meanwhile: Callable[[str], None] = _nothing) -> dict[str, Sample]:
        """What has to be read to judge a file that the bot goes on writing: logs and databases.

        meanwhile: called with the path of each, as reading can take long.
        """
        found: dict[str, Sample] = {}
        for path in facts:
            sample = self._sample(path)
            if sample is not None:
                found[path] = sample
                meanwhile(path)
        return found

    def compare(
        self,
        before: Mapping[str, Fact],
        after: Mapping[str, Fact],
        samples: Mapping[str, Sample],
        is_bots: Callable[[str], bool] = _of_nobody,
    ) -> Proof:
        """The proof from the facts before and after, and the samples taken before.

        is_bots: whether it was the bot itself that did something to a file, which is not judged then but named.
        """
        proof = Proof()
        changed = {path: fact for path, fact in after.items() if before.get(path) != fact}
        for path, fact in sorted(before.items()):
            counts = proof.components.setdefault(self.component(path), {"files": 0, "untouched": 0, "written": 0})
            counts["files"] += 1
            now = after.get(path)
            # Rows that are still in the WAL go with it, whatever the main file looks like.
            if now == fact and all(
                before.get(path + suffix) == after.get(path + suffix) for suffix in SIDECAR_SUFFIXES
            ):
                counts["untouched"] += 1
                continue
            counts["written"] += 1
            sample = samples.get(path)
            if is_bots(path):
                proof.by_bot.append(path)
                continue
            problem = self._judge(path, fact, now, sample)
            if problem is not None and not self.is_elsewhere(path, fact, sample, changed):
                proof.damaged.append(f"{path}: {problem}")
        return proof

    def _judge(self, path: str, fact: Fact, now: Optional[Fact], sample: Optional[Sample]) -> Optional[str]:
        if self._says(path, file_may_shrink):
            return None
        if now is None:
            return None if comes_and_goes(path) else "was there before the deploy and is gone"
        if (now.device, now.inode) != (fact.device, fact.inode):
            appended = self._kind(path) in (*_APPENDED, "sqlite")
            return "is another file than before: its inode changed" if appended else None
        if sample is None:
            return None
        if sample.rows is not None:
            return self._judge_rows(path, sample.rows)
        if now.size < sample.size:
            return f"shrank from {sample.size} to {now.size} bytes"
        try:
            unchanged = self._reader.tail(path, sample.size) == sample.tail_sha256
        except OSError as error:
            return f"cannot be read any more: {error.strerror}"
        return None if unchanged else "what it held before was changed"

    def is_elsewhere(self, path: str, fact: Fact, sample: Optional[Sample], changed: Mapping[str, Fact]) -> bool:
        """Whether what a file held is under another name now, as after a rotation of logs.

        That another file has its inode proves nothing: the number of a removed file goes to the next one made.
        """
        for name, now in changed.items():
            if name == path or comes_and_goes(name):
                continue
            renamed = (now.device, now.inode) == (fact.device, fact.inode)
            if sample is None:
                kept = renamed and (now.size, now.mtime_ns) == (fact.size, fact.mtime_ns)
            else:
                kept = renamed and self._holds(name, sample)
                if not kept and name.startswith(f"{path}."):
                    kept = self._holds(name, sample, name.rpartition(".")[2])
            if kept:
                return True
        return False

    def _holds(self, path: str, sample: Sample, compression: str = "") -> bool:
        if sample.rows is not None:
            return self._judge_rows(path, sample.rows) is None
        try:
            return self._reader.tail(path, sample.size, compression) == sample.tail_sha256
        except (OSError, TradekeepError):
            return False

    def _judge_rows(self, path: str, rows: Mapping[str, Optional[int]]) -> Optional[str]:
        try:
            now = self._reader.rows(path)
        except TradekeepError as error:
            return f"cannot be read any more: {error.message}"
        for table, count in rows.items():
            if self._says(path, partial(table_may_shrink, table=table)):
                continue
            if count is not None and (now.get(table) or 0) < count:
                return f"table {table} had {counted(count, 'row')} and has {now.get(table) or 0}"
        return None

    def _sample(self, path: str) -> Optional[Sample]:
        kind = self._kind(path)
        try:
            size = os.stat(path, follow_symlinks=False).st_size
            if kind == "sqlite":
                return Sample(size, rows=self._reader.rows(path))
            if kind in _APPENDED:
                return Sample(size, tail_sha256=self._reader.tail(path, size))
        except (OSError, TradekeepError):
            return None  # nothing is known of it beforehand, so nothing can be proved but its facts
        return None

    def _kind(self, path: str) -> str:
        """The kind of a file; outside of the root the profile says nothing, and its name decides."""
        inside = path.startswith(f"{self._root}/")
        return kind_of(self._application.profile, path[len(self._root) + 1 :] if inside else path)

    def _says(self, path: str, may: Callable[[Application, str], bool]) -> bool:
        """What the profile says of a file, where it says anything of it."""
        return self.component(path) != _OTHER and may(self._application, path[len(self._root) + 1 :])

    def component(self, path: str) -> str:
        """The name of the component that a file belongs to."""
        if not path.startswith(self._root + "/"):
            return _OTHER
        classified = classify(self._application.profile, path[len(self._root) + 1 :])
        return _OTHER if classified is None else classified.component.name

    def walk(self, top: str, enter: Callable[[str], None] = _nothing) -> Iterator[tuple[str, Fact]]:
        """The facts of the files beneath a directory. enter: called with each directory before it is looked into."""
        answer()
        enter(top)
        try:
            entries = sorted(os.scandir(top), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except PermissionError:
            self.unreadable.add(top)
            return
        for entry in entries:
            if entry.path == self._adopted:
                continue
            if entry.is_dir(follow_symlinks=False):
                if self.looks_into(entry.name) and not lies_too_deep(os.path.relpath(entry.path, self._root)):
                    yield from self.walk(entry.path, enter)
            elif self.is_data(entry.path):
                try:
                    yield entry.path, _fact(entry.stat(follow_symlinks=False))
                except (FileNotFoundError, PermissionError):
                    continue


def _fact(status: os.stat_result) -> Fact:
    return Fact(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _top(path: str) -> str:
    """The directory to look through for what a component's path names."""
    return fixed_part(path) if is_open(path) else path


def comes_and_goes(path: str) -> bool:
    """Sidecars of databases, locks and temporary files are their writer's to remove."""
    return path.endswith((*SIDECAR_SUFFIXES, ".tmp", ".lock", ".pid", ".swp"))
