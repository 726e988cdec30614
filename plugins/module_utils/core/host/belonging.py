# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which processes belong to services: by their control group, or by descent from a process that is known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .filesystem.identity import with_privileges

_PROC = Path("/proc")
_MOST_PARENTS = 64


@dataclass(frozen=True)
class Belonging:
    """What tells the processes of services from all others.

    groups: paths of control groups. processes: numbers of processes, whose descendants belong to them.
    """

    groups: frozenset[str] = frozenset()
    processes: frozenset[int] = frozenset()

    @with_privileges
    def has(self, pid: int) -> bool:
        """Whether a process belongs to the services; one that is gone does not."""
        try:
            return self._is_in_groups(pid) or self._descends(pid)
        except (OSError, ValueError, IndexError):
            return False

    def _is_in_groups(self, pid: int) -> bool:
        if not self.groups:
            return False
        lines = (_PROC / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
        places = [line.split(":", 2)[2] for line in lines if line.count(":") > 1]
        return any(place == group or place.startswith(group + "/") for place in places for group in self.groups)

    def _descends(self, pid: int) -> bool:
        for _step in range(_MOST_PARENTS if self.processes else 0):
            # A supervisor may signal the whole group of a program's processes.
            if pid in self.processes or os.getpgid(pid) in self.processes:
                return True
            pid = parent_of(pid)
            if pid <= 1:
                break
        return False


def parent_of(pid: int) -> int:
    """The number of the process that a process descends from."""
    text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    # The name is in brackets, and can hold any character.
    return int(text.rpartition(")")[2].split()[1])
