# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Lock files of git: held by somebody at work, or left over."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..host.files import os_errors
from ..host.filesystem.identity import privileged, with_privileges

PROC = Path("/proc")


@dataclass(frozen=True)
class LockFile:
    """A lock file. holder: the number of the process that holds it; None when it is left over."""

    path: Path
    holder: Optional[int] = None
    program: str = ""

    @property
    def stale(self) -> bool:
        """Whether nobody holds it."""
        return self.holder is None


def look_at_lock(path: Path, directory: Path) -> Optional[LockFile]:
    """The lock at a path, None when there is none.

    It is held by a process that has it open, and by a git at work in the directory: git closes the file while it
    waits for an editor, and holds the lock all the same.
    """
    with os_errors(path):
        try:
            facts = os.lstat(path)
        except FileNotFoundError:
            return None
    inside = os.path.realpath(directory)
    # Of other accounts' processes root alone can see what they have open.
    with privileged():
        for entry in sorted(PROC.iterdir()):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                program = _program(entry)
                if _has_open(entry, facts) or (program.startswith("git") and _works_in(entry, inside)):
                    return LockFile(path, int(entry.name), program)
    return LockFile(path)


@with_privileges
def git_at_work(directory: Path) -> bool:
    """Whether any git was started for a repository by its path."""
    wanted = os.fsencode(directory)
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _program(entry).startswith("git"):
            with contextlib.suppress(OSError):
                if wanted in (entry / "cmdline").read_bytes():
                    return True
    return False


def _program(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _has_open(process: Path, facts: os.stat_result) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(process / "fd"):
            with contextlib.suppress(OSError):
                held = os.stat(process / "fd" / descriptor)
                if (held.st_dev, held.st_ino) == (facts.st_dev, facts.st_ino):
                    return True
    return False


def _works_in(process: Path, directory: str) -> bool:
    try:
        there = os.readlink(process / "cwd")
    except OSError:
        return False
    return there == directory or there.startswith(f"{directory}/")
