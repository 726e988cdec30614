# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What only a checkout has, kept: refs under ``refs/rescue/`` and differences that can be applied."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..errors import UsageError
from ..host.files import fsync_directory, os_errors
from ..host.filesystem.identity import privileged
from .checkout import Checkout
from .process import Git

RESCUE = "refs/rescue/"
# Where an unfinished merge, rebase and so on keep their commits.
_OTHER_HEADS = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "ORIG_HEAD")
_STAMP = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
_DIFF = (
    "diff",
    "--binary",
    "--full-index",
    "--no-ext-diff",
    "--no-textconv",
    "--no-renames",
    "--no-color",
    "--src-prefix=a/",
)


@dataclass(frozen=True)
class Rescued:
    """What was kept. refs: name to commit. differences, staged: files with differences, None where nothing differs."""

    refs: dict[str, str]
    differences: Optional[Path] = None
    staged: Optional[Path] = None


def rescue(checkout: Checkout, stamp: str, *, into: Optional[Path] = None, unseen: Iterable[str] = ()) -> Rescued:
    """Keep every commit, stash and edit of a checkout; works in the middle of a merge too.

    Refs: ``refs/rescue/<stamp>/HEAD``, ``.../MERGE_HEAD`` and the like, ``.../stash-0``, ``.../branches/<branch>``.
    ``into``: a directory for ``edits-<stamp>.patch`` (files against HEAD) and ``staged-<stamp>.patch`` (index against
    HEAD, only where it holds something that the files do not), mode 0600. ``unseen``: paths that are never changed and
    need no difference. Apply them with ``git apply`` on HEAD.
    """
    if not _STAMP.match(stamp):
        raise UsageError("is not a stamp", path=stamp)
    refs = _keep_refs(checkout, f"{RESCUE}{stamp}/")
    if into is None or checkout.head() is None:
        return Rescued(refs)
    hidden = list(unseen)
    with checkout.private_index(unseen=hidden) as git:
        edits = _write(git, into / f"edits-{stamp}.patch", "HEAD")
        staged = None
        if git.fields("diff-files", "-z", "--name-only"):
            staged = _write(git, into / f"staged-{stamp}.patch", "--cached", "HEAD")
    return Rescued(refs, edits, staged)


def rescued_refs(checkout: Checkout) -> dict[str, str]:
    """All refs that earlier rescues left."""
    told = checkout.git.read("for-each-ref", "--format=%(objectname) %(refname)", RESCUE)
    pairs = (line.split(b" ", 1) for line in told.splitlines())
    return {os.fsdecode(name): number.decode() for number, name in pairs}


def _keep_refs(checkout: Checkout, prefix: str) -> dict[str, str]:
    wanted: dict[str, str] = {}
    head = checkout.head()
    if head is not None:
        wanted[f"{prefix}HEAD"] = head
    for name in _OTHER_HEADS:
        completed = checkout.git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False)
        if completed.status == 0:
            wanted[f"{prefix}{name}"] = completed.stdout.strip()
    wanted.update({f"{prefix}stash-{at}": commit for at, commit in enumerate(checkout.stashes())})
    wanted.update({f"{prefix}branches/{name}": commit for name, commit in checkout.branches().items()})
    # All or none, and as often as one likes.
    orders = [field for name, commit in wanted.items() for field in (f"update {name}", commit, "")]
    checkout.git.read("update-ref", "--stdin", "-z", names=orders)
    return wanted


def _write(git: Git, path: Path, *what: str) -> Optional[Path]:
    """Write a difference as a private file of ours; None, and no file, where there is nothing to write."""
    with os_errors(path):
        with privileged():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        size = 0
        try:
            git.write_to(descriptor, *_DIFF, *what)
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
            with privileged():
                if not size:
                    path.unlink()
                fsync_directory(path.parent)
    return path if size else None
