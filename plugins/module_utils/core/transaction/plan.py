# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a transaction exchanges: the list of replacements, checked, ordered and written once."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from ..errors import NeedsPersonError, TradekeepError, UnsafePathError
from ..formatting import counted
from ..host.files import fsync_directory, os_errors, write_all
from ..host.filesystem.identity import with_privileges


@dataclass(frozen=True)
class Replacement:
    """One path of the live data and what takes its place (absolute paths of one filesystem).

    staged: the new file, symlink or directory; None removes the live one. kept: where the old one goes, a fresh name.
    had: whether there was a live one at the beginning; filled in by ``prepare``. companions: for what services write,
    the suffixes of the files that they may make beside it, such as the WAL of a database; None for what they do not.
    filled: a directory makes way with all that it holds, else only an empty one does.
    """

    live: str
    staged: Optional[str]
    kept: str
    had: bool = True
    companions: Optional[tuple[str, ...]] = None
    filled: bool = False

    @property
    def given_up(self) -> str:
        """Where the new one is after an undo, with what services have written to it."""
        return f"{self.kept}.new" if self.had or self.staged is None else self.staged


def prepare(replacements: Iterable[Replacement]) -> tuple[Replacement, ...]:
    """Check replacements against the disk and put them in the order in which they are carried out.

    Removals come first, children before their directory; then everything else, directories before what they hold.
    What is absent and to be removed, and what a new directory already carries, is left out.
    """
    present = [found for found in (_look(item) for item in replacements) if found.had or found.staged is not None]
    _refuse_duplicates(present)
    removals = sorted((r for r in present if r.staged is None), key=_parts, reverse=True)
    others = sorted((r for r in present if r.staged is not None), key=_parts)
    return (*removals, *_without_carried(others))


def _parts(replacement: Replacement) -> list[str]:
    return replacement.live.split("/")


def _look(replacement: Replacement) -> Replacement:
    live = _lstat(replacement.live)
    if _lstat(replacement.kept) is not None:
        raise TradekeepError("the name for the old file is taken", path=replacement.kept)
    if replacement.staged is not None:
        staged = _lstat(replacement.staged)
        if staged is None:
            raise TradekeepError("is not in the stage", path=replacement.staged)
        if live is not None and stat.S_ISDIR(staged.st_mode) and stat.S_ISDIR(live.st_mode):
            raise TradekeepError("is a directory already and is exchanged file by file", path=replacement.live)
        parent = _lstat(os.path.dirname(replacement.live))
        if parent is not None and parent.st_dev != staged.st_dev:
            raise UnsafePathError(
                "lies on another filesystem than its stage", path=replacement.live, hint="stage it on the same one"
            )
    return replace(replacement, had=live is not None)


def _lstat(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise TradekeepError(str(error.strerror), path=path) from error


def _refuse_duplicates(replacements: Sequence[Replacement]) -> None:
    for names in ([r.live for r in replacements], [r.kept for r in replacements]):
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise TradekeepError("is named twice in one transaction", path=name)
            seen.add(name)


def _without_carried(replacements: Iterable[Replacement]) -> Iterator[Replacement]:
    """Leave out what moves along with a new directory: its staged path lies in it as its live path will."""
    carrier: Optional[Replacement] = None
    for replacement in replacements:
        if carrier is not None and replacement.live.startswith(carrier.live + "/"):
            below = replacement.live[len(carrier.live) :]
            if replacement.staged == f"{carrier.staged}{below}":
                continue
        elif replacement.staged is not None and os.path.isdir(replacement.staged):
            carrier = None if os.path.islink(replacement.staged) else replacement
        else:
            carrier = None
        yield replacement


@with_privileges
def write_plan(path: Path, replacements: Sequence[Replacement]) -> None:
    """Write the plan durably, with one sync however long it is."""
    # The last field is written where it says something alone: earlier versions read all other plans.
    rows = ([r.live, r.staged, r.kept, int(r.had), r.companions, *([1] if r.filled else [])] for r in replacements)
    lines = (json.dumps(row, separators=(",", ":")) for row in rows)
    with os_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, "".join(line + "\n" for line in lines).encode("ascii"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fsync_directory(path.parent)


@with_privileges
def read_plan(path: Path, count: int) -> tuple[Replacement, ...]:
    """The plan of a begun transaction; it was synced before the transaction began, so damage needs a person."""
    try:
        with path.open(encoding="ascii") as lines:
            rows = [json.loads(line) for line in lines]
        replacements = tuple(_replacement(*row) for row in rows)
    except (OSError, ValueError, TypeError) as error:
        raise NeedsPersonError(f"the plan cannot be read: {error}", path=path) from error
    if len(replacements) != count:
        raise NeedsPersonError(f"the plan has {counted(len(replacements), 'line')} instead of {count}", path=path)
    return replacements


def _replacement(
    live: str, staged: Optional[str], kept: str, had: int, companions: Optional[list[str]] = None, filled: int = 0
) -> Replacement:
    """Of one line of a plan; older ones have no companions."""
    return Replacement(live, staged, kept, bool(had), None if companions is None else tuple(companions), bool(filled))
