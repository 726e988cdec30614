# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Work on what the bot wrote, done apart: in a process that has the owner's rights, or nobody's, and can be killed.

The first process opens an archive, which is root's, and decrypts it; what comes of that is decompressed, parsed and
judged in the other. An engine that is no root has no rights to give up: where no process can be forked then, because
something of it runs in a thread, the work is done in place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from threading import Thread
from typing import Any, Callable, Optional, Protocol

from ..archive.container import ContainerReader, PlainStream
from ..archive.streams import READ_CHUNK, Chunks
from ..archive.tar_foreign import named
from ..archive.tar_reader import Readable
from ..errors import ArchiveError, InterruptedBySignal, TradekeepError
from ..host.account import Account
from ..host.confinement import drop_capabilities
from ..host.filesystem.identity import privileged
from ..host.worker import InputStream, Outlet, Worker, can_have_worker
from ..ports import Ports, Progress
from ..signals import pause, take_no_signals, wait_for_thread

PATIENCE = 900.0
"""Seconds that a worker may say nothing for."""
_BYTES_A_SECOND = 1 << 19
"""What a check has to get through at least: it says nothing before it is done with a file."""
_THREADS_SECONDS = 5.0


class Telling(Progress, Protocol):
    """How work that is done apart says what it finds."""

    def send(self, kind: bytes, payload: bytes) -> None:
        """One frame; kind is a lower-case letter."""


Heard = Callable[[bytes, bytes], None]
"""Takes the frames that are sent."""
Work = Callable[[Telling], Any]
ArchiveWork = Callable[[Telling, Readable], Any]
"""Gets the plain stream of the archive. Both return what JSON can say."""


def patience(size: object) -> float:
    """How long a worker may be silent that looks at so many bytes."""
    return PATIENCE + (size / _BYTES_A_SECOND if isinstance(size, int) and size > 0 else 0)


def refuse_frames(_kind: bytes, _payload: bytes) -> None:
    """For work that sends nothing."""
    raise unusable("sends what nobody asked for")


def unusable(what: str) -> TradekeepError:
    """For what no worker of ours says: something in the data has taken it over."""
    return TradekeepError(f"the process that reads the data {what}", hint="the data may be made to do harm: look at it")


def work_apart(
    work: Work,
    ports: Ports,
    account: Optional[Account],
    *,
    seconds: Optional[float] = None,
    heard: Heard = refuse_frames,
    keep: Sequence[int] = (),
) -> Any:
    """Carry work out in the account's name, and return its result."""
    if not _can_work_apart(account, ports):
        return work(_InPlace(ports.progress, heard))
    with Worker(
        lambda outlet, _news: work(outlet),
        account=account,
        progress=ports.progress,
        seconds=PATIENCE if seconds is None else seconds,
        keep=keep,
    ) as worker:
        for kind, payload in worker.frames():
            heard(kind, payload)
        return worker.result


def read_apart(
    work: ArchiveWork,
    opened: AbstractContextManager[ContainerReader],
    path: object,
    ports: Ports,
    account: Optional[Account],
    *,
    seconds: Optional[float] = None,
    heard: Heard = refuse_frames,
    keep: Sequence[int] = (),
    alone: bool = False,
) -> tuple[Any, Optional[str]]:
    """The same with an archive that is opened packed; returns the digest of its file, too.

    alone: for work that forks processes of its own, so that it has no thread beside it.
    """
    seconds = PATIENCE if seconds is None else seconds
    if not _can_work_apart(account, ports):
        with ExitStack() as stack:
            container = _entered(opened, stack)
            telling = _InPlace(ports.progress, heard)
            result = _unpacked(container.packed, path, ports, lambda plain: work(telling, plain))
            return result, container.sha256

    def carry_out(outlet: Outlet, news: int) -> Any:
        chunks = _chunks(InputStream(news))
        if account is None and os.geteuid() == 0:
            drop_capabilities()
        return _unpacked(chunks, path, ports, lambda plain: work(outlet, plain), threads=not alone)

    with ExitStack() as stack:
        # The worker is there before there is any thread.
        worker = stack.enter_context(
            Worker(carry_out, account=account, progress=ports.progress, seconds=seconds, keep=keep)
        )
        container = _entered(opened, stack)
        feeder = _Feeder(worker, container.packed)
        stack.callback(feeder.stop)
        feeder.start()
        try:
            for kind, payload in worker.frames():
                heard(kind, payload)
        except InterruptedBySignal:
            raise
        except TradekeepError:
            feeder.stop()
            # The input's own fault explains what the worker said of it.
            if isinstance(feeder.error, TradekeepError):
                raise feeder.error from None
            raise
        feeder.finish()
        return worker.result, container.sha256


def _entered(opened: AbstractContextManager[ContainerReader], stack: ExitStack) -> ContainerReader:
    """Archives and keys are ours."""
    with privileged():
        return stack.enter_context(opened)


def _unpacked(
    chunks: Chunks, path: object, ports: Ports, work: Callable[[Readable], Any], *, threads: bool = True
) -> Any:
    plain = PlainStream(chunks, path, ports.runner, threads=threads)
    try:
        return work(plain)
    except ArchiveError as error:
        error.hint = named(error.hint, path)
        raise
    finally:
        plain.close()


def _chunks(stream: Readable) -> Chunks:
    while data := stream.read(READ_CHUNK):
        yield data


def _can_work_apart(account: Optional[Account], ports: Ports) -> bool:
    """Whether a process can be forked. For root there is no other way; a thread that is ending is waited for."""
    if account is None and not ports.workers:
        return False
    ends = time.monotonic() + _THREADS_SECONDS
    while not can_have_worker():
        if account is None or os.geteuid() != 0:
            return False
        if time.monotonic() >= ends:
            raise TradekeepError(
                "no process can be forked to read the data in the name of its owner: other threads are at work",
                hint="report it; the data was left alone",
            )
        pause(0.01)
    return True


class _InPlace:
    """The same for work that is done in this process."""

    def __init__(self, progress: Progress, heard: Heard) -> None:
        self.start = progress.start
        self.advance = progress.advance
        self.finish = progress.finish
        self.note = progress.note
        self.mention = progress.mention
        self.send = heard


class _Feeder(Thread):
    """Gives a worker the archive, while the main thread waits for what it says."""

    def __init__(self, worker: Worker, chunks: Chunks) -> None:
        super().__init__(daemon=True)
        self._worker = worker
        self._chunks = chunks
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        """Until there is no more, or nobody who wants it."""
        take_no_signals()
        try:
            for data in self._chunks:
                self._worker.give(data)
        except BrokenPipeError:
            pass  # the worker says why
        except BaseException as error:  # pylint: disable=broad-exception-caught # raised by finish
            self.error = error
        finally:
            self._chunks.close()
            self._worker.close_input()

    def stop(self) -> None:
        """Nobody wants the rest; may be called twice."""
        self._worker.end()
        if self.ident is not None:
            self.join()

    def finish(self) -> None:
        """The worker has read all."""
        wait_for_thread(self)
        if self.error is not None:
            raise self.error
