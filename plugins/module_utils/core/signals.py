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
from typing import TYPE_CHECKING, Optional, TypeVar

from .errors import InterruptedBySignal

if TYPE_CHECKING:
    from concurrent.futures import Future

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_SECONDS = 0.1
"""How often is looked for a signal where nothing wakes the waiting."""

_BYTES_OF_WAKING = 4096

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
        self.wake, self.waking = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self.waking, False)

    def note(self, number: int, _frame: Optional[FrameType]) -> None:
        """The handler. A second signal does not interrupt the undoing that the first one started; SIGKILL remains."""
        self.number = self.number or number

    @property
    def here(self) -> bool:
        """Whether this is the thread that carries out the operation."""
        return self._thread == threading.get_ident()

    @property
    def counts(self) -> bool:
        """Whether a signal is to be answered here and now."""
        return not (self.answered or self.shields) and self.here

    def close(self) -> None:
        """Nobody waits any more."""
        os.close(self.wake)
        os.close(self.waking)


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
    # What comes between the last look of the interpreter and a wait runs no handler before the wait has ended.
    waking = signal.set_wakeup_fd(noted.waking, warn_on_full_buffer=False)
    try:
        for number, handler in former.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, noted.note)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        _stop = outer
        noted.close()


def forget() -> None:
    """In a process that was forked: what its parent waits for is not its own."""
    global _stop
    _stop = None
    signal.set_wakeup_fd(-1)


@contextmanager
def shielded() -> Iterator[None]:
    """A section that no signal cuts in two: those that come meanwhile are answered at its end."""
    stop = _stop if _stop is not None and _stop.here else None
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
        polled.register(stop.wake, select.POLLIN)
    ends = None if seconds is None else time.monotonic() + seconds
    while True:
        answer()
        left = None if ends is None else max(0, math.ceil((ends - time.monotonic()) * 1000))
        ready = {descriptor for descriptor, _event in polled.poll(left)}
        answer()
        if stop is None or ready != {stop.wake}:
            return frozenset(ready)
        with suppress(BlockingIOError):  # another signal that has a handler
            os.read(stop.wake, _BYTES_OF_WAKING)


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


def result_of(future: Future[Item]) -> Item:
    """What a thread of a pool has come to; answers a signal."""
    from concurrent.futures import wait  # whoever has a future has it already

    while _mine() is not None:
        answer()
        if wait((future,), _LOOK_SECONDS).done:
            break
    return future.result()


def write_some(descriptor: int, data: memoryview) -> int:
    """Write as much as a pipe takes now, once it takes any, and return how much; answers a signal.

    The pipe's own end must not block: one that has room for a byte would block for the rest.
    """
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            wait_for((), (descriptor,))


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
