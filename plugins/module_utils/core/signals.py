# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Turns SIGTERM and SIGINT into an error, so that every ``finally`` and ``except`` of an operation runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Optional

from .errors import InterruptedBySignal

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def take_no_signals() -> None:
    """For threads: one that takes signals would undo every shield of the main one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def _interrupt(number: int, frame: Optional[FrameType]) -> None:
    # A second signal must not interrupt the undoing that the first one started; SIGKILL remains.
    for other in STOPPING:
        signal.signal(other, signal.SIG_IGN)
    name = signal.Signals(number).name
    raise InterruptedBySignal(f"stopped by {name}; what had been begun was undone")


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise InterruptedBySignal in the main thread when asked to stop; does nothing in another thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # An ignored signal stays ignored: nohup and background jobs of a shell rely on it.
    former = {number: signal.getsignal(number) for number in STOPPING}
    try:
        for number, handler in former.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _interrupt)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
