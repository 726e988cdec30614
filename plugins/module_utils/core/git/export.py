# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Files of a commit, written as a checkout would write them, into a directory that nothing uses yet.

``checkout-index`` and not ``archive``: export-ignore hides nothing, and the owner's filters (git-lfs) do their work.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import CommandError, TradekeepError, UnsafePathError
from ..host.files import open_file_beneath, os_errors, remove_tree
from .failures import failure_of
from .objects import SUBMODULE, SYMLINK, TreeEntry
from .process import NETWORK_SECONDS, Git, private_directory

_POINTER_LIMIT = 1024
_POINTER_STARTS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
_LOCKED_START = b"\0GITCRYPT\0"


def export(git: Git, index: bytes, entries: Sequence[TreeEntry], paths: Iterable[str], into: Path) -> None:
    """Write some paths of an index file, which holds these entries.

    ``into`` is an empty directory of the owner's; on failure it is empty again.
    Refuses by name: submodules, files that git-lfs or git-crypt should have put in place, filters that failed.
    """
    wanted = set(paths)
    chosen = [entry for entry in entries if entry.path in wanted]
    missing = wanted - {entry.path for entry in chosen}
    if missing:
        raise TradekeepError("the commit has no such file", path=min(missing))
    refuse_submodules(chosen)
    if os.listdir(into):
        raise TradekeepError("is not empty", path=into)
    try:
        with private_directory(git.account, {"index": index}) as scratch:
            exporting = git.also(environment={"GIT_INDEX_FILE": str(scratch / "index")})
            checkout_paths(exporting, [entry.path for entry in chosen], into)
        _check_arrived(chosen, into)
    except BaseException:
        _empty(into)
        raise


def refuse_submodules(entries: Iterable[TreeEntry]) -> None:
    """A submodule's files are in another repository, which is not fetched."""
    for entry in entries:
        if entry.mode == SUBMODULE:
            raise TradekeepError(
                "is a submodule, which cannot be deployed",
                path=entry.path,
                hint="put its files into the repository, or make it a preserved path",
            )


def filtered(git: Git, index: bytes, paths: Iterable[str]) -> dict[str, str]:
    """Those paths of an index that its attributes send through a filter, such as ``lfs``, and its name."""
    with private_directory(git.account, {"index": index}) as scratch:
        asking = git.also(environment={"GIT_INDEX_FILE": str(scratch / "index")})
        told = asking.fields("check-attr", "-z", "--stdin", "--cached", "filter", names=paths)
    answers = zip(told[::3], told[2::3])
    return {path: value for path, value in answers if value not in ("unspecified", "unset")}


def index_of(git: Git, treeish: str) -> bytes:
    """The content of an index file that holds exactly a tree."""
    with private_directory(git.account) as scratch:
        file = scratch / "index"
        reading = git.also(environment={"GIT_INDEX_FILE": str(file)}, settings=("core.sparseCheckout=false",))
        reading.run("read-tree", treeish)
        # The directory is the owner's, who could have put a link to somebody else's file there.
        with os_errors(file), open(open_file_beneath(scratch, file.name), "rb") as content:
            facts = os.fstat(content.fileno())
            if facts.st_uid != git.account.uid or facts.st_nlink != 1:
                raise UnsafePathError("is not what git wrote", path=file)
            return content.read()


def checkout_paths(git: Git, paths: Iterable[str], into: Path) -> None:
    """Write paths of the index that ``git`` uses; attributes are those of the index alone."""
    completed = git.also(work_tree=into).run(
        "checkout-index", "--quiet", "-z", "--stdin", names=paths, timeout_seconds=NETWORK_SECONDS, path=into
    )
    # A filter that is not "required" may fail and git still ends well, with the content unfiltered.
    if "error:" in completed.stderr:
        raise failure_of(completed.stderr, path=into, status=completed.status)


def _check_arrived(entries: Iterable[TreeEntry], into: Path) -> None:
    for entry in entries:
        target = into / os.fspath(entry.path)
        try:
            facts = os.lstat(target)
        except OSError:
            raise CommandError("git did not write this file", path=entry.path) from None
        if stat.S_ISLNK(facts.st_mode) != (entry.mode == SYMLINK):
            raise UnsafePathError("is of another type than in the commit", path=entry.path)
        if stat.S_ISREG(facts.st_mode):
            _refuse_placeholder(entry, into, facts.st_size)


def _refuse_placeholder(entry: TreeEntry, into: Path, size: int) -> None:
    """Content that stands for other content must not be deployed in its place."""
    if size != entry.size:
        return
    with os_errors(entry.path), open(open_file_beneath(into, entry.path), "rb") as file:
        start = file.read(64)
    if size < _POINTER_LIMIT and start.startswith(_POINTER_STARTS):
        raise TradekeepError(
            "is a pointer of git-lfs, and its content was not fetched",
            path=entry.path,
            hint="install git-lfs for the owner (git lfs install), or take the file out of LFS",
        )
    if start.startswith(_LOCKED_START):
        raise TradekeepError(
            "is encrypted by git-crypt, and was not decrypted", path=entry.path, hint="unlock it for the owner"
        )


def _empty(directory: Path) -> None:
    with contextlib.suppress(OSError, TradekeepError):
        for name in os.listdir(directory):
            target = directory / name
            if target.is_dir() and not target.is_symlink():
                remove_tree(target)
            else:
                target.unlink()
