# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which processes can write into a directory now: the sign that a bot is alive there, whoever started it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .filesystem.identity import privileged

PROC = Path("/proc")


@dataclass(frozen=True)
class Writer:
    """A process that has a file beneath the directory open for writing."""

    pid: int
    program: str
    path: str

    def __str__(self) -> str:
        return f"{self.program or 'a process'} (process {self.pid}) writes {self.path}"


def writers_in(directory: Path) -> tuple[Writer, ...]:
    """One entry for each such process but this one; root sees all, others see their own."""
    inside = os.path.realpath(directory) + "/"
    with privileged():
        return tuple(_writers(inside))


def _writers(inside: str) -> Iterator[Writer]:
    for process in sorted(PROC.iterdir()):
        if process.name.isdigit() and int(process.name) != os.getpid():
            path = next(_written(process, inside), None)
            if path is not None:
                yield Writer(int(process.name), _program(process), path)


def _written(process: Path, inside: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(process / "fd"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                path = os.readlink(process / "fd" / descriptor)
                if path.startswith(inside) and _is_for_writing(process / "fdinfo" / descriptor):
                    yield path


def _is_for_writing(information: Path) -> bool:
    text = information.read_text(encoding="ascii", errors="replace")
    flags = next(line.split()[1] for line in text.splitlines() if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def _program(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
