# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Live writers for the tests of the kinds: real processes that do not stop for a capture."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.base import CaptureContext


class RealClock:
    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.fixture
def clock() -> RealClock:
    return RealClock()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    directory = tmp_path / "scratch"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def context(scratch: Path, clock: RealClock) -> CaptureContext:
    return CaptureContext(scratch, clock)


@pytest.fixture
def writer() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python program that says ``ready`` once it is at work; it is killed at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object, user: int | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [getattr(sys, "_base_executable", sys.executable), "-c", program, *map(str, arguments)]
            if user is None
            else ["/usr/bin/python3", "-c", program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
            user=user,
            cwd="/",
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
