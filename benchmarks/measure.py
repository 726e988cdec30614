# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Running programs under a stopwatch, one after another in every round so that a busy machine wrongs none of them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Callable, Sequence, Union

Command = Union[str, Sequence[str]]


@dataclass(frozen=True)
class Run:
    """One run. Memory in kilobytes, where the program reports it."""

    wall: float
    cpu: float
    own: int = 0
    children: int = 0


@dataclass(frozen=True)
class Subject:
    """Something to measure; ``before`` clears the table for it and is not counted."""

    name: str
    command: Command
    before: Callable[[], object] = lambda: None
    ok: tuple[int, ...] = (0,)


def measure(subject: Subject) -> Run:
    """Run it once. A failure ends the benchmark: a fast failure must not pass for speed."""
    subject.before()
    with tempfile.TemporaryFile("w+") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            subject.command, shell=isinstance(subject.command, str), stdout=output, stderr=subprocess.STDOUT
        )
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode not in subject.ok:
        raise SystemExit(f"{subject.name}: exit status {process.returncode}\n{text[-2000:]}")
    memory = {"own": 0, "children": 0}
    for line in text.splitlines():
        if line.startswith("peak memory: "):
            memory = json.loads(line.partition(": ")[2])
    return Run(wall, usage.ru_utime + usage.ru_stime, memory["own"], memory["children"])


def interleaved(subjects: Sequence[Subject], rounds: int) -> dict[str, Run]:
    """The median of each figure over the rounds; the peak of memory."""
    runs: dict[str, list[Run]] = {subject.name: [] for subject in subjects}
    for number in range(rounds):
        for subject in subjects:
            run = measure(subject)
            runs[subject.name].append(run)
            print(f"  {number + 1}/{rounds} {subject.name}: {run.wall:.2f} s", flush=True)
    return {name: _middle(measured) for name, measured in runs.items()}


def _middle(runs: list[Run]) -> Run:
    return Run(
        statistics.median(run.wall for run in runs),
        statistics.median(run.cpu for run in runs),
        max(run.own for run in runs),
        max(run.children for run in runs),
    )
