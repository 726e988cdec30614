# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A checkout that somebody made with git, looked at without changing anything in it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ..errors import CommandError, TradekeepError, UnsafePathError
from ..formatting import pasted
from ..host.account import Account, command_as
from ..host.files import open_directory_beneath, open_file_beneath, os_errors
from ..host.ownership import name_of_uid
from ..ports import Runner
from .holders import LockFile, look_at_lock
from .mirror import Mirror
from .process import Git, private_directory

_IN_PROGRESS = (
    ("MERGE_HEAD", "merge"),
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("BISECT_LOG", "bisect"),
    ("sequencer", "sequence"),
)
_SUBMODULE = "160000"
_LARGEST_EXCLUDE = 1 << 20


@dataclass(frozen=True)
class CheckoutState:
    """What a checkout is like. branch: None when detached. head: None before the first commit."""

    git_dir: Path
    head: Optional[str]
    branch: Optional[str]
    shallow: bool = False
    sparse: bool = False
    skip_worktree: tuple[str, ...] = ()
    assume_unchanged: tuple[str, ...] = ()
    in_progress: Optional[str] = None
    index_lock: Optional[LockFile] = None
    local_commits: tuple[str, ...] = ()
    stashes: tuple[str, ...] = ()
    linked_worktree: bool = False
    has_submodules: bool = False
    edited: tuple[str, ...] = ()
    unmerged: tuple[str, ...] = ()
    staged: tuple[str, ...] = ()

    @property
    def detached(self) -> bool:
        """Whether no branch is checked out."""
        return self.branch is None

    @property
    def has_local_work(self) -> bool:
        """Whether there is anything that only this checkout has."""
        return bool(self.local_commits or self.stashes or self.edited or self.staged or self.in_progress)


@dataclass(frozen=True)
class _Index:
    """What ``git ls-files`` says of the index."""

    skip_worktree: list[str] = field(default_factory=list)
    assume_unchanged: list[str] = field(default_factory=list)
    unmerged: list[str] = field(default_factory=list)
    submodules: list[str] = field(default_factory=list)


class Checkout:
    """A directory with a ``.git`` of the owner's. Every git runs as the owner."""

    def __init__(self, runner: Runner, account: Account, directory: Path, git_dir: Path) -> None:
        self.directory = directory
        self.git_dir = git_dir
        self.account = account
        self.git = Git(runner, account, git_dir=git_dir, work_tree=directory)

    @classmethod
    def at(cls, runner: Runner, account: Account, directory: Path) -> Optional[Checkout]:
        """The checkout in a directory; None where it has no ``.git``. A parent's ``.git`` never counts.

        Raises TradekeepError where the ``.git`` belongs to somebody else: what it says would run as the owner.
        """
        git_dir = _git_dir(Path(directory))
        if git_dir is None:
            return None
        for path in (git_dir, git_dir / "HEAD", git_dir / "config", _common(git_dir)):
            _check_owner(path, account)
        return cls(runner, account, Path(directory), git_dir)

    @property
    def common_dir(self) -> Path:
        """Where objects and refs are: the ``.git`` itself unless this is a linked work tree."""
        return _common(self.git_dir)

    @property
    def objects(self) -> Path:
        """The object store."""
        return self.common_dir / "objects"

    def head(self) -> Optional[str]:
        """The commit that is checked out; None before the first commit."""
        completed = self.git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}", check=False)
        return completed.stdout.strip() or None

    def tree_of(self, commit: str) -> str:
        """The tree of a commit."""
        return self.git.run("rev-parse", "--verify", f"{commit}^{{tree}}").stdout.strip()

    def look(self, mirror: Optional[Mirror] = None, *, target: Optional[str] = None) -> CheckoutState:
        """All that a deploy must know before it begins. With a mirror, commits that upstream has are not local."""
        head = self.head()
        index = self._index()
        with self.private_index(index) as looking:
            edited = _changed(looking, head)
        return CheckoutState(
            git_dir=self.git_dir,
            head=head,
            branch=self._branch(),
            shallow=_has_content(self.common_dir / "shallow"),
            sparse=os.path.lexists(self.git_dir / "info/sparse-checkout") and self._configured("core.sparseCheckout"),
            skip_worktree=tuple(index.skip_worktree),
            assume_unchanged=tuple(index.assume_unchanged),
            in_progress=next((what for name, what in _IN_PROGRESS if os.path.lexists(self.git_dir / name)), None),
            index_lock=look_at_lock(self.git_dir / "index.lock", self.directory),
            local_commits=tuple(self._local_commits(head, mirror, target)),
            stashes=tuple(self.stashes()),
            linked_worktree=self.common_dir != self.git_dir,
            has_submodules=bool(index.submodules),
            edited=tuple(edited),
            unmerged=tuple(index.unmerged),
            staged=tuple(self._staged(head)),
        )

    def stashes(self) -> list[str]:
        """The commits of the stashes, the latest first."""
        if self.git.run("rev-parse", "--verify", "--quiet", "refs/stash", check=False).status != 0:
            return []
        logged = self.git.read("log", "-g", "--format=%H", "refs/stash", "--").decode().split()
        latest = self.git.read("rev-parse", "refs/stash").decode().strip()
        return list(dict.fromkeys([latest, *logged]))

    def branches(self) -> dict[str, str]:
        """Local branches and their commits."""
        told = self.git.read("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/")
        pairs = (line.split(b" ", 1) for line in told.splitlines())
        return {os.fsdecode(name)[len("refs/heads/") :]: number.decode() for number, name in pairs}

    @contextlib.contextmanager
    def private_index(self, index: Optional[_Index] = None, *, unseen: Iterable[str] = ()) -> Iterator[Git]:
        """Git with a copy of the index that hides nothing behind skip-worktree or assume-unchanged.

        Files that a sparse checkout left out stay so. ``unseen``: paths that are taken for unchanged. The checkout's
        own index is neither written nor locked, and as the copy knows sizes and times only what was touched is read.
        """
        found = self._index() if index is None else index
        with private_directory(self.account) as scratch:
            git = self.git.also(environment={"GIT_INDEX_FILE": str(scratch / "index")}, settings=("index.version=2",))
            # With its time: git reads again what changed in the second in which the index was written.
            names = (str(self.git_dir / "index"), str(scratch / "index"))
            copy = command_as(self.account, ["cp", "--preserve=timestamps", "--", *names])
            if self.git.runner.run(copy, check=False).status != 0:
                git.run("read-tree", "HEAD" if self.head() else "--empty")
            self._reveal(git, found)
            hidden = list(unseen)
            if hidden:
                tracked = set(git.fields("ls-files", "-z", "--cached"))
                git.run("update-index", "-z", "--assume-unchanged", "--stdin", names=tracked.intersection(hidden))
            # Status 1 says that files differ.
            git.run("update-index", "-q", "--refresh", check=False)
            yield git

    def _reveal(self, git: Git, index: _Index) -> None:
        present = [path for path in index.skip_worktree if os.path.lexists(self.directory / path)]
        if present:
            git.run("update-index", "-z", "--no-skip-worktree", "--stdin", names=present)
        if index.assume_unchanged:
            git.run("update-index", "-z", "--no-assume-unchanged", "--stdin", names=index.assume_unchanged)

    def _index(self) -> _Index:
        found = _Index()
        for record in self.git.fields("ls-files", "-z", "-v", "--stage"):
            facts, path = record.split("\t", 1)
            flag, mode, _oid, stage = facts.split()
            if flag in "Ss":
                found.skip_worktree.append(path)
            if flag.islower():
                found.assume_unchanged.append(path)
            if mode == _SUBMODULE:
                found.submodules.append(path)
            if stage != "0" and path not in found.unmerged[-1:]:
                found.unmerged.append(path)
        return found

    def _staged(self, head: Optional[str]) -> list[str]:
        if head is None:
            return self.git.fields("ls-files", "-z", "--cached")
        fields = self.git.fields("diff-index", "-z", "--cached", "--no-renames", "--name-only", head)
        return list(dict.fromkeys(fields))

    def _branch(self) -> Optional[str]:
        completed = self.git.run("symbolic-ref", "--quiet", "HEAD", check=False)
        name = completed.stdout.strip()
        return name[len("refs/heads/") :] if name.startswith("refs/heads/") else name or None

    def _configured(self, key: str) -> bool:
        completed = self.git.run("config", "--type=bool", "--get", key, check=False)
        return completed.stdout.strip() == "true"

    def _local_commits(self, head: Optional[str], mirror: Optional[Mirror], target: Optional[str]) -> list[str]:
        starts = [head] if head else []
        commits = self.git.read("rev-list", *starts, "--branches", "--not", "--remotes").decode().split()
        if not commits or mirror is None:
            return commits
        return [commit for commit in mirror.upstream_lacks(commits) if commit != target]

    def receive(self, mirror: Mirror, commit: str) -> None:
        """Bring a commit's objects into the object store; refs, index, files and FETCH_HEAD stay as they are."""
        if self._complete(commit):
            return
        git = self.git.also(
            settings=("fetch.prune=false", "fetch.writeCommitGraph=false", "core.alternateRefsCommand=true")
        )
        argv = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--refmap=")
        git.run(*argv, "--no-auto-maintenance", "--no-prune", "--", str(mirror.directory), commit)
        if not self._complete(commit):
            raise CommandError("the commit did not arrive in the checkout", path=self.git_dir)

    def _complete(self, commit: str) -> bool:
        # Every blob too: an earlier receive may have been cut off, a partial clone has none.
        listed = self.git.run("rev-list", "--objects", "--no-walk", "--missing=print", commit, check=False)
        return listed.status == 0 and not any(line.startswith("?") for line in listed.stdout.splitlines())

    def refresh(self) -> None:
        """Let git note the sizes and times of what is there, so that the next look is quick. Never fails."""
        with contextlib.suppress(CommandError):
            self.git.run("update-index", "-q", "--refresh", check=False)

    def exclude(self, pattern: str) -> None:
        """Have git not list names of ours among what is untracked, in this repository alone. Never fails."""
        with contextlib.suppress(TradekeepError, OSError):
            text = self._excluded()
            if len(text) > _LARGEST_EXCLUDE or pattern.encode() in text.splitlines():
                return
            line = f"{pattern}\n".encode()
            _append(self.common_dir, "info", "exclude", line if not text or text.endswith(b"\n") else b"\n" + line)

    def _excluded(self) -> bytes:
        try:
            with open(open_file_beneath(self.common_dir, "info/exclude"), "rb") as file:
                return file.read(_LARGEST_EXCLUDE + 1)
        except FileNotFoundError:
            return b""


def _append(top: Path, directory: str, name: str, line: bytes) -> None:
    """In one write, which a kill leaves done or not begun; a file beside it would stay behind."""
    place = open_directory_beneath(top, directory)
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o644, dir_fd=place)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.write(descriptor, line)
        finally:
            os.close(descriptor)
    finally:
        os.close(place)


def _changed(git: Git, head: Optional[str]) -> list[str]:
    """Tracked files that are not what HEAD has, those that are gone and those that were added to the index."""
    if head is None:
        return []
    return list(dict.fromkeys(git.fields("diff-index", "-z", "--no-renames", "--name-only", head)))


def _git_dir(directory: Path) -> Optional[Path]:
    dot_git = directory / ".git"
    try:
        mode = os.lstat(dot_git).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(mode):
        return dot_git
    if stat.S_ISLNK(mode):
        raise UnsafePathError("is a symlink", path=dot_git, hint="put the real directory there")
    with os_errors(dot_git), open(open_file_beneath(directory, ".git"), "rb") as file:
        text = os.fsdecode(file.read(4096)).rstrip("\n")
    if not text.startswith("gitdir: "):
        raise TradekeepError("is not a git directory", path=dot_git)
    return Path(os.path.normpath(directory / text[len("gitdir: ") :]))


def _common(git_dir: Path) -> Path:
    try:
        with open(open_file_beneath(git_dir, "commondir"), "rb") as file:
            text = os.fsdecode(file.read(4096)).rstrip("\n")
    except OSError:
        return git_dir
    return Path(os.path.normpath(git_dir / text))


def _check_owner(path: Path, account: Account) -> None:
    try:
        uid = os.lstat(path).st_uid
    except OSError:
        return
    if uid != account.uid:
        raise TradekeepError(
            f"belongs to {name_of_uid(uid)}, and git runs as {account.name}",
            path=path,
            hint=f"chown -R {account.as_argument} {pasted(path if path.is_dir() else path.parent)}",
        )


def _has_content(path: Path) -> bool:
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False
