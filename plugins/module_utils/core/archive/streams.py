# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Byte streams that pass through threads and programs: written through stages, read through generators.

A fault anywhere ends the whole chain: a stage that cannot go on is drained or killed, never waited for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from queue import Queue
from typing import Callable, Optional, Protocol, Union

from ..errors import ArchiveError, CommandError, SpaceError
from ..ports import Pipe
from ..signals import give, take, wait_for, wait_for_thread, write_some

CHUNK = 1 << 20
READ_CHUNK = 256 << 10
DEPTH = 4
_FULL = (errno.ENOSPC, errno.EDQUOT)

Chunks = Generator[bytes, None, None]


class Stage(Protocol):
    """One step of a chain that is written to."""

    def write(self, data: bytes) -> None:
        """Take all of ``data``."""

    def close(self) -> None:
        """No more comes; pass on what is left, and close what follows."""

    def abort(self) -> None:
        """Give up without an error, and leave nothing running."""


class FileStage:
    """The end of a chain: a new file, private from the first byte, hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.on_written: Callable[[int], None] = lambda _size: None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise file_error(error, path) from error
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Hash and write."""
        self._digest.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise file_error(error, self._path) from error
        self.size += len(data)
        self.on_written(self.size)

    def close(self) -> None:
        """Make the file durable."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise file_error(error, self._path) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Close the descriptor; the file is the owner's to remove."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def sha256(self) -> str:
        """Digest of what was written."""
        return self._digest.hexdigest()


def file_error(error: OSError, path: object) -> Union[SpaceError, ArchiveError]:
    """The engine's error for a failed system call on a file."""
    if error.errno in _FULL:
        return SpaceError("disk is full", path=path, hint="free some space and run it again")
    return ArchiveError(f"cannot be written: {error.strerror}", path=path)


class ThreadStage:
    """Runs the stages after it in a thread of their own, a few chunks behind."""

    def __init__(self, following: Stage) -> None:
        self._following = following
        self._queue: Queue[Optional[bytes]] = Queue(DEPTH)
        self._error: Optional[BaseException] = None
        self._aborted = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Queue; raises what the thread failed with."""
        if self._error is not None:
            raise self._error
        give(self._queue, data)

    def close(self) -> None:
        """Wait for the thread."""
        give(self._queue, None)
        wait_for_thread(self._thread)
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Stop what follows first: the thread may be waiting for it."""
        self._aborted = True
        self._following.abort()
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        # The thread may have opened something between the two.
        self._following.abort()

    def _run(self) -> None:
        while True:
            data = self._queue.get()
            if data is None:
                break
            if self._error is None and not self._aborted:
                self._guard(self._following.write, data)
        if self._error is None and not self._aborted:
            self._guard(self._following.close)

    def _guard(self, call: Callable[..., None], *arguments: bytes) -> None:
        try:
            call(*arguments)
        except BaseException as error:  # raised again in the thread that waits
            self._error = error


class ProgramStage:
    """Passes everything through a program; a thread carries its output to the next stage."""

    def __init__(self, pipe: Pipe, following: Stage) -> None:
        self._pipe = pipe
        self._following = following
        self._error: Optional[BaseException] = None
        os.set_blocking(pipe.stdin.fileno(), False)  # see write_some
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Write to the program."""
        try:
            descriptor, left = self._pipe.stdin.fileno(), memoryview(data)
            while left:
                left = left[write_some(descriptor, left) :]
        except (OSError, ValueError) as error:
            self._end(error)

    def close(self) -> None:
        """Wait until the program has said everything, and ended well."""
        try:
            self._pipe.stdin.close()
        except (OSError, ValueError) as error:
            self._end(error)
        wait_for_thread(self._thread)
        if self._error is not None:
            raise self._error
        self._pipe.finish()
        self._following.close()

    def abort(self) -> None:
        """Kill the program."""
        self._following.abort()
        self._pipe.kill()
        self._thread.join()

    def _end(self, cause: Exception) -> None:
        """The program does not take its input: say why."""
        failed = cause if isinstance(cause, OSError) and not isinstance(cause, BrokenPipeError) else None
        if failed:
            self._pipe.kill()  # it waits for the rest of its input, and would do so for ever
        self._thread.join()
        if self._error is not None:
            raise self._error
        if failed:
            raise file_error(failed, "the pipe to a filter program") from cause
        self._pipe.finish()
        raise CommandError("a filter program ended before it had read everything") from cause

    def _pump(self) -> None:
        try:
            for data in _output_of(self._pipe):
                self._following.write(data)
        except BaseException as error:  # raised again by the writer
            self._error = error
            self._pipe.kill()


def _output_of(pipe: Pipe) -> Iterator[bytes]:
    with contextlib.closing(pipe.stdout):
        descriptor = pipe.stdout.fileno()
        while True:
            wait_for((descriptor,))
            data = os.read(descriptor, CHUNK)
            if not data:
                return
            yield data


def through_program(pipe: Pipe, chunks: Chunks, translate: Callable[[CommandError], Exception]) -> Chunks:
    """What a program makes of ``chunks``; its failure is raised at the end of its output."""
    failures: list[BaseException] = []

    def feed() -> None:
        try:
            with contextlib.closing(chunks):
                for data in chunks:
                    pipe.stdin.write(data)
                pipe.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it ended early: its exit status says why
        except BaseException as error:  # raised again below
            failures.append(error)
        with contextlib.suppress(OSError, ValueError):
            pipe.stdin.close()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    ended = False
    try:
        yield from _output_of(pipe)
        wait_for_thread(feeder)
        if failures:
            raise failures[0]
        ended = True
        try:
            pipe.finish()
        except CommandError as error:
            raise translate(error) from error
    finally:
        if not ended:
            pipe.kill()
            feeder.join()


class ChunkReader:
    """Reads from a generator of chunks."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; nothing only at the end."""
        data = self._rest or self._next()
        if len(data) <= size:
            self._rest = b""
            return data
        self._rest = data[size:]
        return data[:size]

    def close(self) -> None:
        """End the generator, whether it is done or not."""
        self._chunks.close()

    def _next(self) -> bytes:
        return next((data for data in self._chunks if data), b"")


class Prefetch(ChunkReader):
    """Runs the generator in a thread, a few chunks ahead of its reader."""

    def __init__(self, chunks: Chunks) -> None:
        super().__init__(chunks)
        self._queue: Queue[Union[bytes, BaseException]] = Queue(DEPTH)
        self._stopped = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread, whether it is done or not."""
        self._stopped = True
        while self._thread.is_alive():
            while not self._queue.empty():
                self._queue.get()
            self._thread.join(0.01)

    def _next(self) -> bytes:
        item: Union[bytes, BaseException] = b"" if self._ended else take(self._queue)
        self._ended = self._ended or not item
        if isinstance(item, BaseException):
            self._ended = True
            raise item
        return item

    def _run(self) -> None:
        last: Union[bytes, BaseException] = b""
        try:
            with contextlib.closing(self._chunks):
                for data in self._chunks:
                    if self._stopped:
                        break
                    if data:
                        self._queue.put(data)
        except BaseException as error:  # raised again in the reader
            last = error
        self._queue.put(last)


class Observed:
    """Shows everything that passes to an observer in a thread, for instance a verifying reader."""

    def __init__(self, following: Stage, observe: Callable[[Chunks], object]) -> None:
        self._following = following
        self._observe = observe
        self._queue: Queue[Optional[bytes]] = Queue(DEPTH)
        self._error: Optional[BaseException] = None
        self._aborted = False
        self._ended = False
        self.result: object = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """To the observer and on; raises what the observer found."""
        if self._error is not None:
            raise self._error
        give(self._queue, data)
        self._following.write(data)

    def close(self) -> None:
        """Wait for the observer's verdict before the file is closed as good."""
        give(self._queue, None)
        wait_for_thread(self._thread)
        if self._error is not None:
            raise self._error
        self._following.close()

    def abort(self) -> None:
        """End the observer too."""
        self._aborted = True
        self._following.abort()
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _chunks(self) -> Chunks:
        while not self._ended:
            data = self._queue.get()
            if data is None:
                self._ended = True
            else:
                yield data
        if self._aborted:
            raise ArchiveError("writing was given up")

    def _run(self) -> None:
        try:
            with contextlib.closing(self._chunks()) as chunks:
                self.result = self._observe(chunks)
        except BaseException as error:  # raised again by the writer
            self._error = error
        # Keep taking, so that the writer never waits for an observer that has stopped.
        while not self._ended:
            self._ended = self._queue.get() is None
