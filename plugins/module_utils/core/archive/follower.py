# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Reads an archive back from the disk while it is still being written, in a process of its own.

The process is a fork that writes nothing. It hears through a pipe how far the file has come, reads that far, and checks
every entry against the manifest as any verification does. It only ever reports success: whatever else becomes of it,
the archive is read again in the ordinary way, which then says what is wrong. When the writer dies, the pipe ends, and
so does the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, NoReturn, Optional

from ..ports import Runner
from .compression import decompressed, in_process_engine
from .streams import READ_CHUNK, ChunkReader, Chunks
from .tar_reader import read_archive

_NUMBER = 8
_END = b"\xff" * _NUMBER
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Followed(NamedTuple):
    """A whole archive that agrees with its manifest; ``sha256`` is of the very bytes that were read for it."""

    sha256: str
    manifest_sha256: str
    entries: int
    bytes: int


class Follower:
    """The writer's side. Raises OSError where there can be no other process."""

    def __init__(self, path: Path, runner: Runner) -> None:
        self._result, theirs = os.pipe()
        ours, self._news = os.pipe()
        # A signal in the first moments would be answered by the writer's handlers, in the wrong process.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process = os.fork()
            if self._process == 0:
                _follow(path, runner, ours, theirs)
        except OSError:
            os.close(self._result)
            os.close(self._news)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(ours)
            os.close(theirs)

    def written(self, size: int) -> None:
        """The file has so many bytes now."""
        self._tell(size.to_bytes(_NUMBER, "big"))

    def finish(self) -> Optional[Followed]:
        """The file is whole. What was found in it; None when it has to be read in the ordinary way."""
        self._tell(_END)
        parts = []
        with contextlib.suppress(OSError):
            while part := os.read(self._result, 4096):
                parts.append(part)
        self.abort()
        try:
            return Followed(*json.loads(b"".join(parts)))
        except (ValueError, TypeError):
            return None

    def abort(self) -> None:
        """Nobody wants to know any more; may be called twice."""
        process, self._process = self._process, 0
        if process:
            os.close(self._news)
            os.close(self._result)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)

    def _tell(self, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._news, message)


def can_follow() -> bool:
    """Whether a fork is safe: what other threads hold at that moment would stay held in it for ever."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _follow(path: Path, runner: Runner, news: int, result: int) -> NoReturn:
    """The whole life of the other process; nothing of it ever gets back into the code that was forked."""
    status = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        _close_all_but(news, result)
        answer = json.dumps(_read(path, runner, news)).encode("ascii")
        os.write(result, answer)
        status = 0
    finally:
        os._exit(status)


def _close_all_but(*kept: int) -> None:
    """Close what belongs to the writer: a lock would live on, and its pipe would never end."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _read(path: Path, runner: Runner, news: int) -> Followed:
    digest = sha256()

    def chunks() -> Chunks:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            left = 0
            for grown in _growth(news):
                left += grown
                while left:
                    data = os.read(descriptor, min(left, READ_CHUNK))
                    if not data:
                        raise EOFError
                    left -= len(data)
                    digest.update(data)
                    yield data
        finally:
            os.close(descriptor)

    report = read_archive(ChunkReader(decompressed(chunks(), runner, in_process_engine())))
    return Followed(digest.hexdigest(), report.manifest_sha256 or "", report.entries, report.bytes)


def _growth(news: int) -> Iterator[int]:
    """By how much the file has grown, until it is whole. Raises EOFError when the writer is gone before."""
    size = 0
    while True:
        message = os.read(news, _NUMBER)
        if message == _END:
            return
        if len(message) != _NUMBER:
            raise EOFError
        now = int.from_bytes(message, "big")
        yield now - size
        size = now
