# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The mirror: a bare repository of the owner's, outside of the application, into which everything is fetched first."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from ..errors import CommandError, TradekeepError, UnsafePathError
from ..formatting import pasted
from ..host.account import Account, command_as
from ..host.files import open_file_beneath, os_errors
from ..host.filesystem.given import give_directory
from ..host.filesystem.identity import with_privileges
from ..ports import Runner
from . import export, ignored, objects, refs
from .holders import git_at_work
from .process import NETWORK_SECONDS, Git, Transport, private_directory, sweep_private_directories
from .urls import Source, source_of

if TYPE_CHECKING:
    from . import signatures
    from .checkout import Checkout

KEPT = "refs/tradekeep/kept/"
ASKED = "refs/tradekeep/asked/"
_LAST_SETTING = "allowAnySHA1InWant"
"""Of a new mirror: one that was cut off before is made again."""
# Of objects that are packed by themselves: the 256th part of the loose ones, and packs.
_LOOSE, _PACKS = 27, 50
_MIRRORED = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


class Mirror:
    """``<state_dir>/mirrors/<app>.git``. Every method runs git as the owner and can be repeated."""

    def __init__(
        self, runner: Runner, account: Account, directory: Path, transport: Optional[Transport] = None
    ) -> None:
        self.directory = Path(directory)
        self.account = account
        transport = transport or Transport()
        self.git = Git(runner, account, git_dir=self.directory, environment={"GIT_SSH_COMMAND": transport.ssh_command})
        self._transport = transport
        self._treeishes: dict[str, str] = {}
        self._trees: dict[str, list[objects.TreeEntry]] = {}
        self._indexes: dict[str, bytes] = {}

    @classmethod
    def of(
        cls,
        runner: Runner,
        account: Account,
        *,
        state_dir: Union[str, os.PathLike[str]],
        application: str,
        transport: Optional[Transport] = None,
    ) -> Mirror:
        """The mirror of an application."""
        return cls(runner, account, Path(state_dir) / "mirrors" / f"{application}.git", transport)

    @property
    def exists(self) -> bool:
        """Whether it was made already, to the end."""
        return (self.directory / "HEAD").is_file() and _LAST_SETTING.lower() in self._settings().lower()

    def _settings(self) -> str:
        """The text of the mirror's configuration, empty where there is none."""
        try:
            with open(open_file_beneath(self.directory, "config"), encoding="utf-8", errors="replace") as settings:
                return settings.read()
        except FileNotFoundError:
            return ""

    def ensure(self) -> bool:
        """Make the mirror where there is none, with mode 0700; returns whether it was made.

        Nobody else uses it: the caller holds the application's lock.
        """
        _own_directory(self.directory, self.account)
        self._remove_locks_of_the_dead()
        sweep_private_directories(self.account)
        if self.exists:
            return False
        self.git.run("init", "--bare", "--quiet", "--template=", "--initial-branch=main", path=self.directory)
        # A checkout receives single commits by their number.
        self.git.run("config", f"uploadpack.{_LAST_SETTING}", "true")
        return True

    def _remove_locks_of_the_dead(self) -> None:
        """What a git that was killed has locked would stay locked."""
        if not git_at_work(self.directory):
            # As the owner, who could have put a symlink there.
            find = ["find", str(self.directory), "-name", "*.lock", "-type", "f", "-delete"]
            self.git.runner.run(command_as(self.account, find))

    def fetch(self, url: str, refs_wanted: Sequence[str] = ()) -> None:
        """Bring branches and tags up to date, and what else is asked for by full number or ``refs/...``.

        The mirror then has exactly the repository's branches and tags; kept commits stay whatever happens there.
        """
        source = source_of(url)
        wanted = [refs.check_ref(ref) for ref in refs_wanted]
        self._fetch(source, "--prune", *_MIRRORED)
        if f"\turl = {source.url}\n" not in self._settings():
            # What filters such as git-lfs take for the server; the address without credentials.
            self.git.run("config", "remote.origin.url", source.url)
        for ref in wanted:
            if refs.is_whole(ref) and not self.has(ref):
                self._fetch(source, f"+{ref}:{ASKED}{ref}")
            elif ref.startswith("refs/") and not ref.startswith(("refs/heads/", "refs/tags/", "refs/tradekeep/")):
                self._fetch(source, f"+{ref}:{ref}")

    def _fetch(self, source: Source, *arguments: str) -> None:
        option = [argument for argument in arguments if argument.startswith("-")]
        specs = [argument for argument in arguments if not argument.startswith("-")]
        git = self.git if source.user is None else self.git.with_credentials(source.user, source.password or "")
        argv = ("fetch", "--quiet", "--force", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        git.run(
            *argv, "--no-auto-maintenance", *option, "--", source.url, *specs,
            timeout_seconds=NETWORK_SECONDS, path=source.url,
        )  # fmt: skip

    def resolve(self, ref: str) -> refs.Resolved:
        """The commit of a branch, a tag, or a full or short number. Ask once, and go on with the answer."""
        return refs.resolve(self.git, ref)

    def has(self, commit: str) -> bool:
        """Whether a commit is there, with its tree."""
        if commit not in self._treeishes:
            return self._look_up(commit) == "tree"
        asked = f"{self._treeishes[commit]}^{{tree}}\n".encode()
        return self.git.read("cat-file", "--batch-check=%(objecttype)", text=asked).strip() == b"tree"

    def contains(self, branch: str, commit: str) -> bool:
        """Whether a branch has a commit in its history; False where there is no such branch."""
        full = f"refs/heads/{refs.check_ref(branch)}"
        completed = self.git.run("merge-base", "--is-ancestor", commit, full, check=False)
        return completed.status == 0

    def upstream_lacks(self, commits: Sequence[str]) -> list[str]:
        """Those of some commits that no branch or tag of the repository has in its history."""
        lines = "".join(f"{commit}\n" for commit in commits)
        told = self.git.read("cat-file", "--batch-check=%(objectname) %(objecttype)", text=lines.encode()).decode()
        present = [line.split()[0] for line in told.splitlines() if line.endswith(" commit")]
        if not present:
            return list(commits)
        asked = "".join(f"{commit}\n" for commit in present).encode()
        lacking = self.git.read("rev-list", "--stdin", "--not", "--branches", "--tags", text=asked).decode()
        here = set(lacking.split())
        return [commit for commit in commits if commit in here or commit not in present]

    def verify_signature(self, target: refs.Resolved, signers: Union[str, Path]) -> signatures.Signature:
        """Who signed the tag or the commit; raises unless it is one of ``signers`` (see signatures.py)."""
        from . import signatures

        return signatures.verify(self.git, target, Path(signers))

    def tree(self, commit: str) -> list[objects.TreeEntry]:
        """Every path of a commit."""
        root = self._treeish(commit)
        if root not in self._trees:
            self._trees[root] = objects.tree(self.git, root)
        return self._trees[root]

    def blobs(self, oids: Iterable[str]) -> dict[str, bytes]:
        """The content of some small blobs by their numbers."""
        return objects.blobs(self.git, oids)

    def ignored(self, commit: str, paths: Optional[Iterable[str]] = None) -> set[str]:
        """Those paths of a commit that its own ``.gitignore`` files say should not be in it."""
        found = ignored.tracked_although_ignored(self.git, lambda: self.index_of(commit), self.tree(commit))
        return found if paths is None else found.intersection(paths)

    def export(self, commit: str, paths: Iterable[str], into: Path) -> None:
        """Write files of a commit into an empty directory of the owner's; see export.py."""
        export.export(self.git, self.index_of(commit), self.tree(commit), paths, Path(into))

    def try_filters(self, commit: str, paths: Iterable[str]) -> None:
        """Find out beforehand what export() would refuse of the paths that go through a filter, such as git-lfs."""
        chosen = self._filtered(commit, paths)
        if chosen:
            with private_directory(self.account) as scratch:
                self.export(commit, chosen, scratch)

    def refuse_filters_of(self, checkout: Checkout, commit: str, paths: Iterable[str]) -> None:
        """Refuse, by name, a path whose filter is configured in the checkout alone: it would be deployed unfiltered."""
        for path, name in self._filtered(commit, paths).items():
            if checkout.git.has_filter(name) and not self.git.has_filter(name):
                raise CommandError(
                    f"goes through the filter {name}, which is configured in this checkout alone",
                    path=path,
                    hint=f"configure it for the owner: git config --global filter.{name}.smudge ...",
                )

    def _filtered(self, commit: str, paths: Iterable[str]) -> dict[str, str]:
        attributes = any(entry.path.rpartition("/")[2] == ".gitattributes" for entry in self.tree(commit))
        return export.filtered(self.git, self.index_of(commit), paths) if attributes else {}

    def index_of(self, commit: str) -> bytes:
        """The content of a git index that holds exactly a commit."""
        root = self._treeish(commit)
        if root not in self._indexes:
            self._indexes[root] = export.index_of(self.git, root)
        return self._indexes[root]

    def diff_summary(self, old: str, new: str) -> objects.Changes:
        """Which paths differ between two commits."""
        return objects.diff(self.git, self._treeish(old), self._treeish(new))

    def log(self, old: str, new: str, *, limit: int = 50) -> list[objects.LogLine]:
        """The commits on the way from old to new, newest first; none where the mirror has no history of old."""
        if self._treeish(old) != old or self._treeish(new) != new:
            return []
        return objects.log(self.git, old, new, limit=limit)

    def keep(self, commit: str) -> None:
        """Keep a commit whatever happens to branches and tags; drop() ends that."""
        if commit not in self.kept():
            self.git.run("update-ref", f"{KEPT}{commit}", commit)

    def kept(self) -> list[str]:
        """The commits that are kept."""
        told = self.git.read("for-each-ref", "--format=%(refname)", KEPT).decode()
        return [line[len(KEPT) :] for line in told.splitlines()]

    def drop(self, commit: str) -> None:
        """No longer keep a commit."""
        self._treeishes.pop(commit, None)
        self.git.run("update-ref", "-d", f"{KEPT}{commit}")

    def tidy(self) -> None:
        """Pack what many fetches left, when it is worth it. Kept commits stay."""
        # As git estimates it, but lower: git itself decides.
        loose, packs = _count(self.directory / "objects/17"), _count(self.directory / "objects/pack", ".pack")
        if loose < _LOOSE // 2 and packs < _PACKS // 2:
            return
        settings = (f"gc.auto={256 * _LOOSE}", f"gc.autoPackLimit={_PACKS}", "gc.autoDetach=false")
        self.git.also(settings=settings).run("gc", "--auto", "--quiet")

    def fetch_from_checkout(self, checkout: Checkout, commit: str) -> None:
        """Take over and keep the files of a commit that perhaps only a checkout has, so that it can be exported.

        Only the tree is taken: the commits behind it may be missing there (a shallow clone), and would then be here.
        """
        if self.has(commit):
            self.keep(commit)
            return
        root = checkout.tree_of(commit)
        source = Source(str(checkout.common_dir))
        self._fetch(source, f"+{root}:{KEPT}{commit}")
        self._treeishes[commit] = root

    def _treeish(self, commit: str) -> str:
        """What to read a commit's files from: itself, or the tree that was taken over in its place."""
        if commit not in self._treeishes:
            self._look_up(commit)
        return self._treeishes[commit]

    def _look_up(self, commit: str) -> str:
        """Find out what to read a commit's files from; returns "tree" where it is there."""
        asked = f"{KEPT}{commit}\n{commit}^{{tree}}\n".encode()
        told = self.git.read("cat-file", "--batch-check=%(objectname) %(objecttype)", text=asked)
        kept, own = (line.split() for line in told.decode().splitlines())
        self._treeishes[commit] = kept[0] if kept[-1] == "tree" else commit
        return "tree" if "tree" in (kept[-1], own[-1]) else own[-1]

    @contextlib.contextmanager
    def peek(self) -> Iterator[Mirror]:
        """A mirror for a moment: sees all that this one has, fetches without writing here, and is removed again."""
        with private_directory(self.account) as scratch:
            peeking = _Peek(self.git.runner, self.account, scratch / "peek.git", self._transport)
            peeking.git.run("init", "--bare", "--quiet", "--template=", "--initial-branch=main", path=scratch)
            if self.exists:
                peeking.borrow(self.directory / "objects")
                peeking.copy_refs(self)
            yield peeking


class _Peek(Mirror):
    """Borrows the objects of other repositories through the environment."""

    _borrowed: tuple[Path, ...] = ()

    def borrow(self, store: Path) -> None:
        self._borrowed = (*self._borrowed, store)
        quoted = ":".join(_quoted(path) for path in self._borrowed)
        self.git = self.git.also(environment={"GIT_ALTERNATE_OBJECT_DIRECTORIES": quoted})

    def copy_refs(self, mirror: Mirror) -> None:
        told = mirror.git.read("for-each-ref", "--format=%(objectname) %(refname)")
        pairs = [line.split(b" ", 1) for line in told.splitlines()]
        text = b"".join(b"update %s\0%s\0\0" % (name, number) for number, name in pairs)
        self.git.read("update-ref", "--stdin", "-z", text=text)

    def fetch_from_checkout(self, checkout: Checkout, commit: str) -> None:
        if not self.has(commit):
            root = checkout.tree_of(commit)
            self.borrow(checkout.objects)
            self.git.run("update-ref", f"{KEPT}{commit}", root)
            self._treeishes[commit] = root


def _quoted(path: Path) -> str:
    text = str(path)
    if ":" not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _count(directory: Path, suffix: str = "") -> int:
    try:
        return sum(name.endswith(suffix) for name in os.listdir(directory))
    except OSError:
        return 0


def _own_directory(directory: Path, account: Account) -> None:
    """A directory of mode 0700 that the owner can reach; refuses a symlink or somebody else's directory."""
    _make_parent(directory.parent)
    created = give_directory(directory, account)
    if not created:
        with os_errors(directory):
            facts = _lstat(directory)
        if not stat.S_ISDIR(facts.st_mode):
            raise UnsafePathError("is not a directory", path=directory, hint="move it away")
        if facts.st_uid != account.uid:
            hint = f"chown -R {account.as_argument} {pasted(directory)}, or remove it: everything is fetched again"
            raise TradekeepError("does not belong to the application's owner", path=directory, hint=hint)
    reached = _reaches(directory, account)
    if reached is not None:
        raise CommandError(
            f"cannot be entered by {account.name}",
            path=directory,
            hint=f"chmod o+x {pasted(reached)} (the state directory)",
        )


@with_privileges
def _make_parent(directory: Path) -> None:
    with os_errors(directory):
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)


@with_privileges
def _lstat(path: Path) -> os.stat_result:
    return os.lstat(path)


@with_privileges
def _reaches(directory: Path, account: Account) -> Optional[Path]:
    """The first parent that an account may not enter; None when all is well."""
    if account.uid == 0:
        return None
    for parent in reversed(directory.parents):
        facts = os.stat(parent)
        bit = 0o100 if facts.st_uid == account.uid else 0o010 if facts.st_gid == account.gid else 0o001
        if not facts.st_mode & bit:
            return parent
    return None
