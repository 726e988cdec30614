# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""SIGTERM, SIGINT and SIGHUP are noted when they arrive, and answered at chosen points: between steps, in every wait.

An error that a signal's handler raises can come between any two instructions, within a library as well, and leave
anything half done. So the handler only notes the signal and wakes whoever waits; ``answer`` raises the error, where the
operation can be undone.
"""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from types import FrameType
from typing import Optional, TypeVar

from .errors import InterruptedBySignal

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_SECONDS = 0.1
"""How often is looked for a signal where nothing wakes the waiting."""

Item = TypeVar("Item")


def take_no_signals() -> None:
    """For threads: one that takes signals would undo every shield of the main one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


class _Stop:
    """What has arrived for the thread that carries out an operation."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.number = 0
        self.answered = False
        self.shields = 0
        self.wake, self._waking = os.pipe()
        os.set_blocking(self._waking, False)

    def note(self, number: int, _frame: Optional[FrameType]) -> None:
        """The handler. A second signal does not interrupt the undoing that the first one started; SIGKILL remains."""
        if not self.number:
            self.number = number
            with suppress(OSError):
                os.write(self._waking, b"\0")

    @property
    def counts(self) -> bool:
        """Whether a signal is to be answered here and now."""
        return not (self.answered or self.shields) and self._thread == threading.get_ident()

    def close(self) -> None:
        """Nobody waits any more."""
        os.close(self.wake)
        os.close(self._waking)


_stop: Optional[_Stop] = None


def _mine() -> Optional[_Stop]:
    """Where a signal is noted that this thread has to answer; None where it has to answer none."""
    stop = _stop
    return stop if stop is not None and stop.counts else None


@contextmanager
def interruptible() -> Iterator[None]:
    """Note signals that ask to stop, for ``answer``; does nothing in a thread beside the main one."""
    global _stop
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # An ignored signal stays ignored: nohup and background jobs of a shell rely on it.
    former = {number: signal.getsignal(number) for number in STOPPING}
    outer, _stop = _stop, _Stop()
    noted = _stop
    try:
        for number, handler in former.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, noted.note)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        _stop = outer
        noted.close()


def forget() -> None:
    """In a process that was forked: what its parent waits for is not its own."""
    global _stop
    _stop = None


@contextmanager
def shielded() -> Iterator[None]:
    """A section that no signal cuts in two: those that come meanwhile are answered at its end."""
    stop = _stop
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    if stop is not None:
        stop.shields += 1
    try:
        yield
    finally:
        if stop is not None:
            stop.shields -= 1
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    answer()


def answer() -> None:
    """A point where an operation can be stopped: raises InterruptedBySignal, once, when that was asked for."""
    stop = _stop
    if stop is not None and stop.number and stop.counts:
        stop.answered = True
        name = signal.Signals(stop.number).name
        raise InterruptedBySignal(f"stopped by {name}; what had been begun was undone")


def wait_for(
    reading: Collection[int] = (), writing: Collection[int] = (), seconds: Optional[float] = None
) -> frozenset[int]:
    """Wait until descriptors can be read or written, and return those; none when the time is up. Answers a signal."""
    stop = _mine()
    polled = select.poll()
    for descriptor in reading:
        polled.register(descriptor, select.POLLIN)
    for descriptor in writing:
        polled.register(descriptor, select.POLLOUT)
    if stop is not None:
        answer()
        polled.register(stop.wake, select.POLLIN)
    ready = {descriptor for descriptor, _event in polled.poll(None if seconds is None else math.ceil(seconds * 1000))}
    answer()
    return frozenset(ready)


def pause(seconds: float) -> None:
    """Wait; answers a signal."""
    if _mine() is None:
        time.sleep(seconds)
    else:
        wait_for(seconds=seconds)


def wait_for_thread(thread: threading.Thread) -> None:
    """Wait for the end of a thread; answers a signal."""
    if _mine() is None:
        thread.join()
    while thread.is_alive():
        answer()
        thread.join(_LOOK_SECONDS)
    answer()


def take(queue: Queue[Item]) -> Item:
    """The next item of a queue; answers a signal."""
    while _mine() is not None:
        answer()
        with suppress(Empty):
            return queue.get(timeout=_LOOK_SECONDS)
    return queue.get()


def give(queue: Queue[Item], item: Item) -> None:
    """Put an item into a queue, once there is room; answers a signal."""
    while _mine() is not None:
        answer()
        with suppress(Full):
            return queue.put(item, timeout=_LOOK_SECONDS)
    return queue.put(item)
