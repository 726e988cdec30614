# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A second process of the engine's own, which works beside the first and writes nothing.

It is a fork: what it hears comes through a pipe, and the end of that pipe is its own end, so that it never outlives the
first. What it says comes through another.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Callable, NoReturn, Optional

from ..signals import STOPPING, forget, wait_for, write_some
from .account import Account
from .confinement import confine, detach

_ANSWER_BYTES = 4096
_NEWS_BYTES = 1 << 20
"""How far either process can be ahead before it waits; where the system allows so much."""
_SET_PIPE_SIZE = 1031
_BRIEF_WAITS, _BRIEF_SECONDS = 100, 0.02
_living: set[int] = set()

Work = Callable[[int, int], None]
"""What the second process does: reads its news from one descriptor, and writes its answers to another."""


class Companion:
    """The first process's side. Raises OSError where there can be no second.

    account: whose rights the second process has, for good; None leaves it those of the first. memory_bytes: what it may
    allocate. keep: descriptors of the first process that it goes on using; it has no others, and no terminal.
    """

    def __init__(
        self,
        work: Work,
        *,
        account: Optional[Account] = None,
        memory_bytes: Optional[int] = None,
        keep: Sequence[int] = (),
    ) -> None:
        self._telling = threading.Lock()
        self._account = account
        self._result, theirs = os.pipe()
        ours, self._news = os.pipe()
        for pipe in (self._news, self._result):
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe, _SET_PIPE_SIZE, _NEWS_BYTES)
        os.set_blocking(self._news, False)  # see write_some
        # A signal in the first moments would be answered by the first process's handlers, in the wrong one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            self._process = os.fork()
            if self._process == 0:
                _live(work, ours, theirs, lambda: confine(account, memory_bytes), keep)
            _living.add(self._process)
        except OSError:
            os.close(self._result)
            os.close(self._news)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(ours)
            os.close(theirs)

    def tell(self, message: bytes) -> None:
        """Give it news, from any thread; whether it still lives shows in its answer."""
        with contextlib.suppress(BrokenPipeError):
            self.give(message)

    def give(self, message: bytes) -> None:
        """The same; raises BrokenPipeError when it is gone."""
        left = memoryview(message)
        with self._telling:
            while left:
                if self._news < 0:
                    raise BrokenPipeError
                left = left[write_some(self._news, left) :]

    def no_more_news(self) -> None:
        """Its input has come to its end; may be called twice."""
        with self._telling:
            news, self._news = self._news, -1
        if news >= 0:
            os.close(news)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Both ends that the first process holds."""
        return tuple(descriptor for descriptor in (self._news, self._result) if descriptor >= 0)

    @property
    def answers(self) -> int:
        """The descriptor that its answers come from, to wait on."""
        return self._result

    def hear(self, size: int) -> bytes:
        """Wait for so many bytes of what it says. Raises EOFError when it is gone."""
        return exactly(self._result, size)

    def answer(self) -> bytes:
        """All that it says until its end; empty when it said nothing."""
        parts = []
        with contextlib.suppress(OSError):
            while part := _read(self._result, _ANSWER_BYTES):
                parts.append(part)
        self.end()
        return b"".join(parts)

    def ended_by(self, number: int) -> bool:
        """Whether it was ended by this signal; it has said its last word."""
        process, self._process = self._process, 0
        if not process:
            return False
        _living.discard(process)
        self.no_more_news()
        os.close(self._result)
        _killed(process, self._account)
        try:
            status = os.waitpid(process, 0)[1]
        except ChildProcessError:
            return False
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == number

    def end(self) -> None:
        """Nobody wants to know any more; may be called twice."""
        process, self._process = self._process, 0
        if not process:
            return
        _living.discard(process)
        # First, so that no thread waits for it to take its news.
        killed = _killed(process, self._account)
        self.no_more_news()
        os.close(self._result)
        with contextlib.suppress(ChildProcessError):  # of the process that has gone on in the first one's place
            if killed:
                os.waitpid(process, 0)
            else:
                _wait_briefly(process)


def _killed(process: int, account: Optional[Account]) -> bool:
    """Kill it; False where it has another account and this process gave up every right to.

    Then it ends because nobody listens any more, by its own alarm, or with this process.
    """
    try:
        os.kill(process, signal.SIGKILL)
    except PermissionError:
        return account is not None and _killed_as(account, process)
    return True


def _killed_as(account: Account, process: int) -> bool:
    """Kill it in its own name, which the right to change the account is enough for."""
    helper = os.fork()
    if helper == 0:
        status = 1
        try:
            os.setresuid(account.uid, account.uid, account.uid)
            os.kill(process, signal.SIGKILL)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(helper, 0)[1] == 0


def _wait_briefly(process: int) -> None:
    for _attempt in range(_BRIEF_WAITS):
        if os.waitpid(process, os.WNOHANG)[0]:
            return
        time.sleep(_BRIEF_SECONDS)


def companions() -> frozenset[int]:
    """The numbers of all that work for this process now: what they have open is nobody else's doing."""
    return frozenset(_living)


def exactly(descriptor: int, size: int) -> bytes:
    """So many bytes from a pipe. Raises EOFError when it ends before."""
    data = _read(descriptor, size)
    if len(data) == size:
        return data
    parts, left = [data], size - len(data)
    while data and left:
        data = _read(descriptor, left)
        parts.append(data)
        left -= len(data)
    if left:
        raise EOFError
    return b"".join(parts)


def _read(descriptor: int, size: int) -> bytes:
    if size:  # for nothing, nothing comes
        wait_for((descriptor,))
    return os.read(descriptor, size)


def can_have_companion() -> bool:
    """Whether a fork is safe: what other threads hold at that moment would stay held in it for ever."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _live(work: Work, news: int, result: int, confined: Callable[[], None], keep: Sequence[int]) -> NoReturn:
    """The whole life of the second process; nothing of it ever gets back into the code that was forked."""
    status = 1
    try:
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        forget()
        _close_all_but(news, result, *keep)
        detach()
        confined()
        work(news, result)
        status = 0
    finally:
        os._exit(status)


def _close_all_but(*kept: int) -> None:
    """Close what belongs to the first process: a lock would live on, and its pipe would never end."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
