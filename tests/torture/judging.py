# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a deploy has done to the data and to the code: plain lists of what is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bot import DATABASE, DOCUMENT, LOG
from world import BOTS_OWN, Entry, Seen, World, look, seen


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was; ``path`` is relative to the checkout, or some words."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path if ' ' in self.path else f'`{self.path}`'} {self.what}"


@dataclass(frozen=True)
class Before:
    """The data as it was: everything that no commit had brought, and what the case says is data all the same."""

    data: dict[str, Seen]
    disk: dict[str, Seen]
    inodes: dict[str, tuple[int, int]]


def remember(world: World, precious: Iterable[str] = ()) -> Before:
    """Look at a world before anything is deployed."""
    code = set(world.tree(world.first)) - set(precious) if world.first else set()
    folders = {str(parent) for path in code for parent in Path(path).parents} - {"."}
    kept = look(world.live, skip=frozenset({".git"}))
    data = {
        path: facts
        for path, facts in kept.items()
        if path not in BOTS_OWN and path not in code and (path not in folders or path in precious)
    }
    inodes = {path: seen(world.live / path).inode for path in (LOG, DATABASE) if (world.live / path).exists()}
    return Before(data, look(world.disk, skip=BOTS_OWN), inodes)


def damages(world: World, before: Before) -> list[Damage]:
    """Everything of the data that is not as it was, but for what the bot wrote; worst first."""
    found = [*_still(world.live, before.data), *_still(world.disk, before.disk, prefix="(disk) ")]
    if world.promised():
        found += [*_lines(world), *_rows(world), *_document(world)]
        found += _inodes(world, before)
        if world.promised()["failures"]:
            found.append(Damage("the bot", "cannot write any more"))
    return list(dict.fromkeys(found))


def _still(root: Path, before: dict[str, Seen], prefix: str = "") -> list[Damage]:
    found = []
    for path, was in before.items():
        try:
            now = seen(root / path)
        except (FileNotFoundError, NotADirectoryError):
            found.append(Damage(prefix + path, "deleted"))
            continue
        if now.kind != was.kind:
            found.append(Damage(prefix + path, f"became a {now.kind}"))
        elif now.content != was.content:
            found.append(Damage(prefix + path, "overwritten"))
        elif now.mode != was.mode:
            found.append(Damage(prefix + path, f"{was.mode:04o} became {now.mode:04o}"))
        elif now.owner != was.owner:
            found.append(Damage(prefix + path, "has another owner"))
        elif now.inode != was.inode:
            found.append(Damage(prefix + path, "replaced"))
    return found


def _inodes(world: World, before: Before) -> list[Damage]:
    found = []
    for path, was in before.inodes.items():
        with contextlib.suppress(OSError):
            if seen(world.live / path).inode != was:
                found.append(Damage(path, "is another file than the bot writes to"))
    return found


def _lines(world: World) -> list[Damage]:
    wanted = world.promised()["lines"]
    try:
        text = (world.live / LOG).read_text(errors="replace")
    except OSError:
        return [Damage(LOG, "lines lost")]
    held = set()
    for line in text.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            held.add(json.loads(line)["line"])
    return [Damage(LOG, "lines lost")] if set(range(1, wanted + 1)) - held else []


def _rows(world: World) -> list[Damage]:
    wanted = world.promised()["rows"]
    lost = [Damage(DATABASE, "rows lost")]
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy.db"
        try:
            # While the bot writes, the copy may be torn: then SQLite itself is asked.
            if world.bot is None:
                for suffix in ("", "-wal"):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copy(f"{world.live / DATABASE}{suffix}", f"{copy}{suffix}")
                held = _numbers(f"file:{copy}?mode=rw")
            else:
                held = _numbers(f"file:{world.live / DATABASE}?mode=rw")
        except (OSError, sqlite3.Error):
            return lost
    return lost if set(range(1, wanted + 1)) - held else []


def _numbers(name: str) -> set[int]:
    connection = sqlite3.connect(name, uri=True)
    try:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        return {row[0] for row in connection.execute("select id from trades")}
    finally:
        connection.close()


def _document(world: World) -> list[Damage]:
    wanted = world.promised()["documents"]
    try:
        number = json.loads((world.live / DOCUMENT).read_text())["document"]
    except (OSError, ValueError, KeyError):
        return [Damage(DOCUMENT, "deleted")]
    return [Damage(DOCUMENT, "is an older one")] if number < wanted else []


# The code


def code_differences(world: World, commit: str, before: Before, *, kept: Iterable[str] = ()) -> list[str]:
    """How the checkout differs from a commit, the data and what a policy ``kept`` apart."""
    wanted, apart = world.tree(commit), set(kept)
    found = [
        f"{path}: {problem}"
        for path, entry in wanted.items()
        if path not in apart
        for problem in _problems(world.live / path, entry)
    ]
    folders = {str(parent) for path in (*wanted, *before.data, *BOTS_OWN) for parent in Path(path).parents}
    for path in look(world.live, skip=frozenset({".git"})):
        known = path in wanted or path in folders or path in before.data or path in BOTS_OWN
        if not known and not apart.intersection((path, *map(str, Path(path).parents))):
            found.append(f"{path}: left over")
    return found


def _problems(path: Path, entry: Entry) -> list[str]:
    try:
        facts = path.lstat()
    except OSError:
        return ["missing"]
    if entry.mode == "120000":
        same = stat.S_ISLNK(facts.st_mode) and _object(os.readlink(path).encode()) == entry.object
        return [] if same else ["not that link"]
    if not stat.S_ISREG(facts.st_mode):
        return ["not a file"]
    problems = [] if _object(path.read_bytes()) == entry.object else ["other content"]
    if bool(facts.st_mode & 0o100) != (entry.mode == "100755"):
        problems.append("other x bit")
    return problems


def _object(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def mixed(world: World) -> bool:
    """Whether the code in the checkout is neither the first nor the second commit."""
    trees = [world.tree(commit) for commit in (world.first, world.second)]
    own = {path for tree in trees for path in tree if trees[0].get(path) != trees[1].get(path)}

    def is_that(tree: dict[str, Entry]) -> bool:
        return all(
            not _problems(world.live / path, tree[path]) if path in tree else not os.path.lexists(world.live / path)
            for path in own
        )

    return not any(map(is_that, trees))


def said_somewhere(directory: Path, content: bytes) -> bool:
    """Whether any file below a directory holds this: what was put away must be findable."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return any(content in path.read_bytes() for path in files)
