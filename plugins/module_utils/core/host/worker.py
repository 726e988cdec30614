# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A forked process that interprets what the bot wrote, with the owner's rights and within limits.

Databases, documents and archives are read in here: a fault in a parser, or a file made to exploit one, meets a process
that has the owner's account and nothing of root's, and that can be killed. What it has to say comes through a pipe in
frames: a letter, a length, the payload. Nothing that comes out of it is code: results are JSON, and bounded.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Optional

from .. import errors
from ..errors import NeedsPersonError, TimeUpError, TradekeepError
from ..ports import Progress
from ..signals import take_no_signals, wait_for
from .account import Account
from .companion import Companion, can_have_companion, exactly
from .files import write_all

MEMORY_BYTES = 2 << 30
"""Far beyond what any operation needs; a file that makes a parser ask for more is refused."""
LARGEST_RESULT = 256 << 20
LARGEST_FRAME = 16 << 20
_GRACE_SECONDS = 5.0
MOST_NOTES = 200
LONGEST_NOTE = 2000
_LENGTH = struct.Struct("!Q")
_FRAME = struct.Struct("!cQ")
_RESULT, _ERROR, _NOTE, _START, _ADVANCE, _FINISH = b"R", b"E", b"N", b"S", b"A", b"F"
_PROGRESS_BYTES = 1 << 20


class Outlet:
    """The worker's side: what it sends to the process that waits for it. Progress goes the same way."""

    def __init__(self, descriptor: int, seconds: Optional[float] = None) -> None:
        self._descriptor = descriptor
        self._seconds = seconds
        self._advanced = 0
        self._notes = 0
        self._wind_up()

    def send(self, kind: bytes, payload: bytes) -> None:
        """One frame; kind is a lower-case letter of the caller's choice."""
        self._advance_now()
        self._write(kind, payload)

    def start(self, label: str, total: Optional[int] = None, unit: str = "bytes") -> None:
        """See Progress."""
        self.send(_START, json.dumps([label, total, unit]).encode("ascii"))

    def advance(self, amount: int) -> None:
        """See Progress."""
        self._advanced += amount
        if self._advanced >= _PROGRESS_BYTES:
            self._advance_now()

    def finish(self) -> None:
        """See Progress."""
        self.send(_FINISH, b"")

    def note(self, text: str) -> None:
        """See Progress."""
        self._notes += 1
        if self._notes <= MOST_NOTES:
            self.send(_NOTE, json.dumps(text[:LONGEST_NOTE]).encode("ascii"))

    def mention(self, text: str) -> None:
        """Nothing: who waits for this process sees its phases."""

    def _advance_now(self) -> None:
        amount, self._advanced = self._advanced, 0
        if amount:
            self._write(_ADVANCE, b"%d" % amount)

    def _write(self, kind: bytes, payload: bytes) -> None:
        write_all(self._descriptor, _FRAME.pack(kind, len(payload)))
        write_all(self._descriptor, payload)
        self._wind_up()

    def rest(self) -> None:
        """Nothing is to be said now, for as long as it may take."""
        if self._seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def go_on(self) -> None:
        """Something is to be said from now on."""
        self._wind_up()

    def _wind_up(self) -> None:
        """The kernel ends a process that has been silent for too long, whatever library it hangs in."""
        if self._seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, self._seconds)


Feed = Callable[[Callable[[bytes], None]], None]
"""Gives a worker its input, through the function that it gets."""
Work = Callable[[Outlet, int], Any]
"""What the worker does: gets its outlet and the descriptor of its input; returns what JSON can say."""


class Worker:
    """The waiting process's side; a context manager. Raises OSError where there can be no other process.

    account: whose rights the worker has; None leaves it those of the caller. seconds: how long it may be silent.
    keep: descriptors that it goes on using. memory: whether its memory has a limit.
    """

    def __init__(
        self,
        work: Work,
        *,
        account: Optional[Account],
        progress: Progress,
        seconds: Optional[float] = None,
        keep: Sequence[int] = (),
        memory: bool = True,
    ) -> None:
        self._progress = progress
        self._seconds = seconds
        self._notes = 0
        self._companion = Companion(
            lambda news, answer: _carry_out(work, news, Outlet(answer, seconds)),
            account=account,
            memory_bytes=MEMORY_BYTES if memory else None,
            keep=keep,
        )
        self.result: Any = None

    def __enter__(self) -> Worker:
        """The worker itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """End it, whatever it is doing."""
        self.end()

    def end(self) -> None:
        """Nobody waits for it any more; may be called twice."""
        self._companion.end()

    def give(self, data: bytes) -> None:
        """More of its input, from any thread. Raises BrokenPipeError when it is gone."""
        self._companion.give(data)

    def close_input(self) -> None:
        """There is no more of its input."""
        self._companion.no_more_news()

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        """What it sends, until it has come to its end; then ``result`` is there.

        Raises the error that the work raised, TradekeepError where it dies, and TimeUpError where it takes too long.
        """
        while True:
            kind, payload = self._receive()
            if kind == _RESULT:
                self.result = _decoded(payload)
                return
            if kind == _ERROR:
                raise error_from(_decoded(payload))
            if not self._is_progress(kind, payload):
                yield kind, payload

    def ask(self, request: Any) -> None:
        """Give a worker that serves requests (see ``serve_requests``) the next one; ``frames`` has the answer."""
        text = json.dumps(request).encode("ascii")
        self.give(_LENGTH.pack(len(text)) + text)

    def finish(self) -> Any:
        """Wait for the result of a worker that sends nothing else."""
        for _kind, _payload in self.frames():
            raise _unusable("sends what nobody asked for")
        return self.result

    def finish_fed(self, feed: Feed) -> Any:
        """The same, while a thread gives it its input; what that raises explains what the worker said of it."""
        feeder = _Feeder(self, feed)
        try:
            return self.finish()
        finally:
            self.end()
            feeder.join_and_raise()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that another process needs to go on with it in this one's place."""
        return self._companion.descriptors

    def _receive(self) -> tuple[bytes, bytes]:
        try:
            kind, length = _FRAME.unpack(self._exactly(_FRAME.size))
            if length > (LARGEST_RESULT if kind == _RESULT else LARGEST_FRAME):
                raise _unusable("sends too much at once")
            return kind, self._exactly(length)
        except EOFError:
            if self._companion.ended_by(signal.SIGALRM):
                raise _too_slow(self._seconds or 0.0) from None
            raise TradekeepError(
                "the process that reads the data ended early: killed, out of memory, or unable to read it",
                hint="see the system's log (journalctl -k), then run it again",
            ) from None

    def _exactly(self, size: int) -> bytes:
        if size and self._seconds is not None:
            self._wait(self._seconds)
        return self._companion.hear(size)

    def _wait(self, seconds: float) -> None:
        """Until there is something to read. A frame that has begun comes at once, unless its sender is stopped."""
        # A little longer than its own alarm waits.
        if not wait_for((self._companion.answers,), seconds=seconds + _GRACE_SECONDS):
            self._companion.end()
            raise _too_slow(seconds)

    def _is_progress(self, kind: bytes, payload: bytes) -> bool:
        """Whether a frame only tells how far it is; then that is shown."""
        try:
            return self._shown(kind, payload)
        except (TypeError, ValueError):
            raise _unusable("says what nobody understands") from None

    def _shown(self, kind: bytes, payload: bytes) -> bool:
        if kind == _NOTE:
            self._notes += 1
            if self._notes <= MOST_NOTES:
                self._progress.note(str(_decoded(payload))[:LONGEST_NOTE])
        elif kind == _START:
            label, total, unit = _decoded(payload)
            self._progress.start(str(label), total if isinstance(total, int) else None, str(unit))
        elif kind == _ADVANCE:
            self._progress.advance(int(payload))
        elif kind == _FINISH:
            self._progress.finish()
        else:
            return False
        return True


def run_worker(
    work: Work,
    *,
    account: Optional[Account],
    progress: Progress,
    seconds: Optional[float] = None,
    feed: Optional[Feed] = None,
    keep: Sequence[int] = (),
) -> Any:
    """Carry work out in a worker and return its result.

    feed: called in a thread with a function that gives the worker its input; what it raises is raised here, unless the
    worker's own error came first.
    """
    with Worker(work, account=account, progress=progress, seconds=seconds, keep=keep) as worker:
        return worker.finish() if feed is None else worker.finish_fed(feed)


class _Feeder(threading.Thread):
    """Gives a worker its input, while the main thread waits for what it says."""

    def __init__(self, worker: Worker, feed: Feed) -> None:
        super().__init__(daemon=True)
        self._worker = worker
        self._feed = feed
        self._error: Optional[BaseException] = None
        self.start()

    def run(self) -> None:
        """Until there is no more, or nobody who wants it."""
        take_no_signals()
        try:
            self._feed(self._worker.give)
        except BrokenPipeError:
            pass  # the worker says why
        except BaseException as error:  # pylint: disable=broad-exception-caught # raised by join_and_raise
            self._error = error
        self._worker.close_input()

    def join_and_raise(self) -> None:
        """The input's own fault explains what the worker said of it."""
        self.join(_GRACE_SECONDS)
        if isinstance(self._error, TradekeepError):
            raise self._error


def worker_account(account: Account) -> Optional[Account]:
    """The account to give a worker; None where the engine is that account already."""
    return None if account.is_current else account


def needs_worker(account: Optional[Account], wanted: bool) -> bool:
    """Whether to read in a worker: always with another account; else where it is wanted and a fork is safe."""
    return account is not None or (wanted and can_have_worker())


def can_have_worker() -> bool:
    """Whether a worker can be forked now (see ``can_have_companion``)."""
    return can_have_companion()


def error_as(error: BaseException) -> dict[str, Any]:
    """An error of the engine's as JSON."""
    known = error if isinstance(error, TradekeepError) else _foreseen(error)
    if known is None:
        return {"class": "", "message": f"{type(error).__name__}: {error}"[:LONGEST_NOTE]}
    path = None if known.path is None else str(known.path)
    return {"class": type(known).__name__, "message": known.message, "path": path, "hint": known.hint}


def error_from(said: Any) -> TradekeepError:
    """The error that a worker reported; its class decides about the exit status, so it has to be one of ours."""
    if not isinstance(said, dict):
        return _unusable("reports an error that nobody understands")
    kind = getattr(errors, str(said.get("class")), None)
    message = str(said.get("message"))
    if not (isinstance(kind, type) and issubclass(kind, TradekeepError)):
        return NeedsPersonError(f"internal error: {message}", hint="report it; the data was only read")
    path, hint = said.get("path"), said.get("hint")
    return kind(message, path=None if path is None else str(path), hint=None if hint is None else str(hint))


def serve_requests(outlet: Outlet, news: int, answer: Callable[[Any], Any]) -> None:
    """In a worker: answer each request, with a result or an error, until nobody asks any more."""
    while True:
        outlet.rest()
        try:
            request = json.loads(exactly(news, _LENGTH.unpack(exactly(news, _LENGTH.size))[0]))
        except EOFError:
            return
        outlet.go_on()
        _answer(outlet, partial(answer, request))


def _answer(outlet: Outlet, work: Callable[[], Any]) -> None:
    try:
        result = work()
        outlet.send(_RESULT, json.dumps(result).encode("ascii"))
    except BaseException as error:  # pylint: disable=broad-exception-caught # it is raised again in the other process
        outlet.send(_ERROR, json.dumps(error_as(error)).encode("ascii"))


def _foreseen(error: BaseException) -> Optional[TradekeepError]:
    from ..faults import foreseen

    return foreseen(error)


def _carry_out(work: Work, news: int, outlet: Outlet) -> None:
    _answer(outlet, lambda: work(outlet, news))


def _decoded(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise _unusable("says what is no JSON") from None


def _too_slow(seconds: float) -> TimeUpError:
    return TimeUpError(
        f"reading the data made no progress for {seconds:g} s and was ended",
        hint="find out which file takes so long, and exclude it",
    )


def _unusable(what: str) -> TradekeepError:
    return TradekeepError(f"the process that reads the data {what}", hint="run it again; if it stays, report it")


class InputStream:
    """A worker's input as a stream."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        return os.read(self._descriptor, size)


__all__ = [
    "InputStream",
    "Outlet",
    "Worker",
    "can_have_worker",
    "error_as",
    "error_from",
    "exactly",
    "needs_worker",
    "run_worker",
    "serve_requests",
    "worker_account",
]
