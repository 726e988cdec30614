# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a proof reads of the bot's data, read by a process that has the owner's rights and can be killed.

One process for all of a deploy: it is there before the services are stopped, and costs nothing while they are.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from ...errors import TradekeepError
from ...host.account import Account
from ...host.worker import InputStream, Outlet, Worker, can_have_worker, error_as, error_from, worker_account
from ...kinds.base import CaptureContext
from ...kinds.sqlite_rows import counted_rows, live_rows
from ...ports import Ports
from ...signals import answer

_OPENERS: dict[str, Any] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
_SAMPLE = 64 << 10
_GRACE_SECONDS = 10.0
_FRAME = b"r"


class DataReader:
    """Rows and digests of files that the bot goes on writing.

    context: with a scratch directory of the account's. Where no process can be forked this one reads, and has the
    account's rights to files all the same.
    """

    def __init__(self, context: CaptureContext, account: Account, ports: Ports) -> None:
        self._context = context
        self._account = account
        self._ports = ports
        self._worker: Optional[Worker] = None
        self._answers: Iterator[tuple[bytes, bytes]] = iter(())

    def rows(self, path: str) -> dict[str, Optional[int]]:
        """See ``live_rows``."""
        found = self._ask(path)
        if not isinstance(found, dict) or not all(count is None or isinstance(count, int) for count in found.values()):
            raise TradekeepError("its rows were not counted", path=path)
        return found

    def tail(self, path: str, size: int, compression: str = "") -> Optional[str]:
        """The digest of the last part of a file as long as it was; None where nothing can be read as that.

        compression: "gz", "bz2" or "xz", if it was compressed since.
        """
        if compression not in _OPENERS:
            return _tail(path, size, "")
        found = self._ask(path, size, compression)
        return found if isinstance(found, str) else None

    def close(self) -> None:
        """Nothing more is read; may be called twice."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()

    def _ask(self, *question: Any) -> Any:
        if self._worker is None:
            self._begin()
        if self._worker is None:
            return live_rows(Path(question[0]), self._context) if len(question) == 1 else _old_tail(*question)
        try:
            answer = self._asked(self._worker, question)
        except BaseException:
            # What it still has to say would be taken for the answer to the next question.
            self.close()
            raise
        if "error" in answer:
            raise error_from(answer["error"])
        return answer.get("found")

    def _begin(self) -> None:
        if can_have_worker():
            self._worker = Worker(
                lambda outlet, news: _serve(outlet, news, self._context),
                account=worker_account(self._account),
                progress=self._ports.progress,
                seconds=self._context.deadline_seconds + _GRACE_SECONDS,
            )
            self._answers = self._worker.frames()

    def _asked(self, worker: Worker, question: tuple[Any, ...]) -> dict[str, Any]:
        path = question[0]
        try:
            worker.give(json.dumps(question).encode("ascii") + b"\n")
            _kind, payload = next(self._answers)
            answer = json.loads(payload)
        except (BrokenPipeError, StopIteration, ValueError, RecursionError):
            raise TradekeepError("the process that reads the data ended early", path=path) from None
        if not isinstance(answer, dict):
            raise TradekeepError("the process that reads the data gave no answer", path=path)
        return answer


def _serve(outlet: Outlet, news: int, context: CaptureContext) -> None:
    """The life of the worker: a question in each line, an answer in each frame."""
    for line in _lines(InputStream(news)):
        try:
            answer = {"found": _answer(json.loads(line), context)}
        except BaseException as error:  # pylint: disable=broad-exception-caught # it is raised again in the other process
            answer = {"error": error_as(error)}
        outlet.send(_FRAME, json.dumps(answer).encode("ascii"))


def _lines(stream: InputStream) -> Iterator[bytes]:
    begun = b""
    while data := stream.read(1 << 16):
        answer()
        *whole, begun = (begun + data).split(b"\n")
        yield from whole


def _answer(question: list[Any], context: CaptureContext) -> Any:
    return counted_rows(Path(question[0]), context) if len(question) == 1 else _old_tail(*question)


def _old_tail(path: str, size: int, compression: str) -> Optional[str]:
    try:
        return _tail(path, size, compression)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return None  # neither the log nor a compressed one


def _tail(path: str, size: int, compression: str) -> str:
    start = max(0, size - _SAMPLE)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        readable = _OPENERS[compression](file) if compression in _OPENERS else file
        readable.seek(start)
        return hashlib.sha256(readable.read(size - start)).hexdigest()
