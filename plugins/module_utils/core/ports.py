# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the engine asks of the world: programs, time and a place to show progress.

Operations receive these as one ``Ports`` argument; tests pass their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Optional, Protocol


@dataclass(frozen=True)
class Completed:
    """A program that has ended. Texts are decoded as UTF-8 with replacement."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Said:
    """What a program said on both of its outputs, in order; of much output the end. ``status`` is None: out of time."""

    status: Optional[int]
    output: str

    @property
    def last_line(self) -> str:
        """The last line that says anything, shortened."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1][:500] if lines else ""


class Pipe(Protocol):
    """A running program with binary pipes; ``finish`` closes stdin, waits and raises CommandError on failure."""

    stdin: Any
    stdout: Any

    def finish(self) -> Completed:
        """Close standard input, wait, and raise CommandError with the last line of stderr unless status is 0."""

    def kill(self) -> None:
        """End the program now and wait for it; never raises."""


class Runner(Protocol):
    """Runs programs without a shell."""

    def find(self, program: str) -> Optional[str]:
        """Absolute path of a program in PATH and the system directories, or None."""

    def run(
        self,
        argv: Sequence[str],
        *,
        input_text: Optional[str] = None,
        pass_fds: Sequence[int] = (),
        environment: Optional[Mapping[str, str]] = None,
        timeout_seconds: float = 600.0,
        check: bool = True,
    ) -> Completed:
        """Run to the end. Raises CommandError when it is missing, times out, or (check) fails."""

    def listen(
        self,
        argv: Sequence[str],
        *,
        environment: Optional[Mapping[str, str]] = None,
        timeout_seconds: float = 600.0,
        keep_bytes: int = 65536,
    ) -> Said:
        """Run to the end, or kill it and all it started when out of time. Raises CommandError when it is missing."""

    def start_detached(
        self,
        argv: Sequence[str],
        *,
        output: int,
        pass_fds: Sequence[int] = (),
        environment: Optional[Mapping[str, str]] = None,
    ) -> int:
        """Start a program that outlives the engine, in a session of its own; returns its process number."""

    def pipe(
        self,
        argv: Sequence[str],
        *,
        stdin: Optional[int] = None,
        stdout: Optional[int] = None,
        pass_fds: Sequence[int] = (),
        environment: Optional[Mapping[str, str]] = None,
    ) -> Pipe:
        """Start a filter. ``stdin``/``stdout`` are file descriptors, or None for a pipe of its own."""


class Clock(Protocol):
    """Time, so that tests can choose it."""

    def now(self) -> datetime:
        """The present, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Progress(Protocol):
    """Where the advance of long work is shown."""

    def start(self, label: str, total: Optional[int] = None, unit: str = "bytes") -> None:
        """A phase begins; total is in ``unit``, None when unknown."""

    def advance(self, amount: int) -> None:
        """So much more of the phase is done."""

    def finish(self) -> None:
        """The phase is over."""

    def note(self, text: str) -> None:
        """One line worth reading, for instance a warning."""

    def mention(self, text: str) -> None:
        """One line for who waits, such as what is waited for; nothing that a play has to warn of."""


class NoProgress:
    """Shows nothing."""

    def start(self, label: str, total: Optional[int] = None, unit: str = "bytes") -> None:
        """Nothing."""

    def advance(self, amount: int) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def mention(self, text: str) -> None:
        """As a note."""
        self.note(text)


class NoAdvance(NoProgress):
    """Passes on what is worth reading, and shows nothing else."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def note(self, text: str) -> None:
        """Passed on."""
        self._shown.note(text)


def no_fault_point(name: str) -> None:
    """The fault hook outside of tests: nothing happens."""


@dataclass(frozen=True)
class Ports:
    """The world, as an operation sees it.

    ``step`` is called with the name of each journalled step before it is taken; fault tests raise or kill there.
    """

    runner: Runner
    clock: Clock
    progress: Progress
    step: Callable[[str], None] = no_fault_point
    workers: bool = False
    """Whether data is read in processes of their own also where the engine is the owner already. Not where the
    calling process has databases open itself: SQLite does not carry a connection across a fork."""
