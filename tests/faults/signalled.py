# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The command in a fork of this process, which sends itself a signal at a chosen line, of ours or of a library's.

A line counts the first time that it is carried out, in the order in which that happens; ``every`` counts each time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli

_PR_SET_CHILD_SUBREAPER = 36
_SECONDS = 60
_DYING_SECONDS = 1.0


@dataclass(frozen=True)
class Ran:
    """How a command ended. lines: how many it carried out. place: where the signal was sent. left: its children."""

    status: int
    said: str
    lines: int
    place: str
    left: tuple[str, ...]


class _Tracer:
    """Counts the lines of the main thread, and sends the signal at one of them."""

    def __init__(self, at: int, number: int, every: bool) -> None:
        self._at = at
        self._number = number
        self._every = every
        self._seen: set[tuple[Any, int]] = set()
        self.count = 0
        self.struck = False
        self.place = ""

    def trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        """For sys.settrace."""
        if event == "line":
            place = (frame.f_code, frame.f_lineno)
            if self._every or place not in self._seen:
                self._seen.add(place)
                self.count += 1
                if self.count == self._at:
                    self.struck = True
                    self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                    sys.settrace(None)
                    os.kill(os.getpid(), self._number)
                    return None
        return None if self.struck else self.trace


def command(base: Path, words: Sequence[str], *, at: int = -1, number: int = 0, every: bool = False) -> Ran:
    """Carry out one command line in a fork; without ``number`` nothing is counted."""
    out, tally = base / "said", base / "tally"
    (config,) = [place for place in (base / "etc", base / "config") if place.is_dir()]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        _live(base, config, words, _Tracer(at, number, every) if number else None)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines, place = tally.read_text().split(" ", 1) if tally.exists() else (0, "")
    return Ran(status, out.read_text(errors="replace"), int(lines), place, _reaped())


def _live(base: Path, config: Path, words: Sequence[str], tracer: _Tracer | None) -> None:
    """The whole life of the fork."""
    status = 70
    try:
        signal.alarm(_SECONDS)
        os.environ["TMPDIR"] = str(base / "tmp")
        for stopping in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(stopping, signal.SIG_DFL)  # below nohup one would be ignored
        (base / "tally").unlink(missing_ok=True)
        with (base / "said").open("w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os.register_at_fork(after_in_child=lambda: sys.settrace(None))
            try:
                if tracer is not None:
                    sys.settrace(tracer.trace)
                status = cli.main(list(words), config_dir=str(config), stdout=said, stderr=said)
            finally:
                sys.settrace(None)
        if tracer is not None:
            (base / "tally").write_text(f"{tracer.count} {tracer.place}")
    except BaseException:
        with (base / "said").open("a") as said:
            traceback.print_exc(file=said)
    finally:
        os._exit(status)


def _reaped() -> tuple[str, ...]:
    """What runs of the command after its end, by now as children of this process; it is ended."""
    ends = time.monotonic() + _DYING_SECONDS
    while (living := [child for child in _children() if _state(child) != "Z"]) and time.monotonic() < ends:
        time.sleep(0.005)  # a group that was killed is not gone at once
    found = tuple(Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ") for child in living)
    for child in living:
        os.kill(child, signal.SIGKILL)
    for child in _children():
        os.waitpid(child, 0)
    return found


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def _children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(word) for word in text.split()]


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers from 1, evenly."""
    step = max(1.0, count / most)
    return [1 + int(position * step + step / 2) for position in range(int(count / step))]
