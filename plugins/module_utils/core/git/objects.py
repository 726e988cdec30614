# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What commits hold, read from a repository's objects: trees, differences, messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import UnsafePathError
from .process import Git

FILE, EXECUTABLE, SYMLINK, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o160000
_MODES = {FILE, EXECUTABLE, SYMLINK, SUBMODULE}


@dataclass(frozen=True)
class TreeEntry:
    """One path of a commit. size: of the blob in the repository, 0 for a submodule."""

    path: str
    mode: int
    oid: str
    size: int = 0


@dataclass(frozen=True)
class Changes:
    """Paths by what happened to them; a file that became a symlink (and the like) is modified."""

    added: tuple[str, ...]
    modified: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many paths differ."""
        return len(self.added) + len(self.modified) + len(self.removed)


@dataclass(frozen=True)
class LogLine:
    """A commit in one line."""

    commit: str
    subject: str


def tree(git: Git, treeish: str) -> list[TreeEntry]:
    """Every path of a commit, sorted by bytes. Raises UnsafePathError for paths that no checkout may have."""
    found: list[TreeEntry] = []
    for record in git.fields("ls-tree", "-r", "-z", "-l", "--full-tree", treeish):
        facts, path = record.split("\t", 1)
        mode, _type, oid, size = facts.split()
        _check_path(path)
        number = int(mode, 8)
        # Old tools wrote 100664; git itself takes it for 100644.
        known = number if number in _MODES else (EXECUTABLE if number & 0o100 else FILE)
        found.append(TreeEntry(path, known, oid, int(size) if size.isdigit() else 0))
    return found


def blobs(git: Git, oids: Iterable[str]) -> dict[str, bytes]:
    """The content of some small blobs."""
    wanted = list(dict.fromkeys(oids))
    data = git.read("cat-file", "--batch=%(objectname) %(objectsize)", text="".join(f"{o}\n" for o in wanted).encode())
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        oid, size = data[at:end].split()
        if size.isdigit():
            at = end + 1 + int(size) + 1
            found[oid.decode()] = data[end + 1 : at - 1]
        else:
            at = end + 1
    return found


def diff(git: Git, old: str, new: str) -> Changes:
    """Which paths differ between two commits."""
    fields = git.fields("diff-tree", "-r", "-z", "--no-renames", "--name-status", old, new)
    by_status: dict[str, list[str]] = {}
    for status, path in zip(fields[::2], fields[1::2]):
        by_status.setdefault(status[:1], []).append(path)
    modified = [path for status, paths in by_status.items() if status not in "AD" for path in paths]
    return Changes(tuple(by_status.get("A", ())), tuple(sorted(modified)), tuple(by_status.get("D", ())))


def log(git: Git, old: str, new: str, *, limit: int = 50) -> list[LogLine]:
    """The commits that new has and old has not, newest first."""
    told = git.fields(
        "log", "-z", f"--max-count={limit}", "--format=%H %s", "--no-show-signature", f"{old}..{new}", "--"
    )
    return [LogLine(*line.split(" ", 1)) for line in told if " " in line]


def _check_path(path: str) -> None:
    for name in path.split("/"):
        if name in ("", ".", "..") or name.lower() == ".git":
            raise UnsafePathError("is a path that no commit may hold", path=path, hint="find out who made this commit")
