# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""A signal is noted when it arrives, and answered at chosen points: within no library, and in every wait at once."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import signals
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import InterruptedBySignal
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock

AT_ONCE = 5.0


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """None of them is ignored, as SIGHUP is below nohup."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stop(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", signals.STOPPING)
def test_it_raises_nothing_where_it_arrives(number: int) -> None:
    with signals.interruptible():
        stop(number)
        list(range(1000))
        threading.Thread(target=int).start()
        with pytest.raises(InterruptedBySignal, match=signal.Signals(number).name):
            signals.answer()


def test_it_is_answered_once_and_a_second_one_does_not_stop_the_undoing() -> None:
    with signals.interruptible():
        stop()
        with pytest.raises(InterruptedBySignal):
            signals.answer()
        stop(signal.SIGINT)
        signals.answer()
        signals.pause(0.01)
        assert signals.wait_for(seconds=0.01) == frozenset()


def test_a_shield_delays_it_and_a_thread_beside_has_none() -> None:
    reached = []
    with pytest.raises(InterruptedBySignal), signals.interruptible(), signals.shielded():
        stop()
        beside = threading.Thread(target=lambda: signals.shielded().__enter__())
        beside.start()
        beside.join()
        signals.answer()
        signals.pause(0.01)
        reached.append(True)
    assert reached


RELEASED = threading.Event()


def never() -> None:
    """What a thread waits for that does not come to its end by itself, until the test is over."""
    RELEASED.wait(AT_ONCE * 2)


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Beside one, no other test could fork a worker."""
    before = set(threading.enumerate())
    RELEASED.clear()
    yield
    RELEASED.set()
    for left in set(threading.enumerate()) - before:
        left.join()


def future() -> None:
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        signals.result_of(pool.submit(never))
    finally:
        pool.shutdown(wait=False)


def full() -> None:
    pipe = os.pipe()
    os.set_blocking(pipe[1], False)
    try:
        while True:
            signals.write_some(pipe[1], memoryview(bytes(1 << 16)))
    finally:
        os.close(pipe[0])
        os.close(pipe[1])


def thread() -> None:
    waiting = threading.Thread(target=never, daemon=True)
    waiting.start()
    signals.wait_for_thread(waiting)


def given() -> None:
    room: queue.Queue[int] = queue.Queue(1)
    while True:
        signals.give(room, 1)


WAITS: dict[str, Callable[[], object]] = {
    "poll": lambda: signals.wait_for(seconds=AT_ONCE * 2),
    "sleep": lambda: SystemClock().sleep(AT_ONCE * 2),
    "program": lambda: SubprocessRunner().run(["sleep", "60"]),
    "listen": lambda: SubprocessRunner().listen(["sleep", "60"]),
    "take": lambda: signals.take(queue.Queue()),
    "give": given,
    "thread": thread,
    "future": future,
    "pipe": full,
}


@pytest.mark.usefixtures("no_thread_is_left")
@pytest.mark.parametrize("wait", WAITS)
def test_every_wait_answers_at_once(wait: str) -> None:
    """Also where another thread receives the signal, of which no system call of this one ends."""
    begun = time.monotonic()
    sender = threading.Timer(0.05, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
    with pytest.raises(InterruptedBySignal), signals.interruptible():
        sender.start()
        WAITS[wait]()
    assert time.monotonic() - begun < AT_ONCE
    sender.join()


def test_another_signal_with_a_handler_ends_no_wait() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with signals.interruptible():
            sender = threading.Timer(0.02, lambda: stop(signal.SIGUSR1))
            sender.start()
            begun = time.monotonic()
            assert signals.wait_for(seconds=0.1) == frozenset()
            assert time.monotonic() - begun >= 0.1
            sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_fork_answers_none_of_its_parent() -> None:
    with signals.interruptible():
        stop()
        child = os.fork()
        if child == 0:
            signals.forget()
            signals.answer()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        with pytest.raises(InterruptedBySignal):
            signals.answer()


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.interruptible():
            stop(signal.SIGHUP)
            signals.answer()
    finally:
        signal.signal(signal.SIGHUP, before)
