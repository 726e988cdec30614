# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Files that a commit tracks although its own rules say that they should be ignored: often live data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from .export import checkout_paths
from .objects import EXECUTABLE, FILE, TreeEntry
from .process import Git, private_directory

RULES = ".gitignore"


def tracked_although_ignored(git: Git, index: Callable[[], bytes], entries: Sequence[TreeEntry]) -> set[str]:
    """The paths of a tree that its ``.gitignore`` files match, nested ones and negations included.

    ``index`` gives an index file of it. Git itself decides: it sees the whole tree there, and a work tree in which
    there are only the rules. What else the owner ignores (core.excludesFile, info/exclude) does not count.
    """
    rules = [e.path for e in entries if e.path.rpartition("/")[2] == RULES and e.mode in (FILE, EXECUTABLE)]
    if not rules:
        return set()
    with private_directory(git.account, {"index": index()}) as scratch, private_directory(git.account) as work_tree:
        looking = git.also(environment={"GIT_INDEX_FILE": str(scratch / "index")})
        checkout_paths(looking, rules, work_tree)
        ask = ("ls-files", "-z", "--cached", "--ignored", f"--exclude-per-directory={RULES}")
        return set(looking.also(work_tree=work_tree).fields(*ask))
