# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Content of what has arrived is looked at in processes of the owner's account, which can be killed.

They are there before the source is asked to stop, so that counting rows after the stop waits for no fork.
"""

from __future__ import annotations

import contextlib
import os
import queue
import stat
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...errors import TradekeepError, UnsafePathError
from ...host.account import owner_of
from ...host.files import os_errors
from ...host.worker import Outlet, Worker, needs_worker, serve_requests, worker_account
from ...ports import Ports
from ...signals import take_no_signals
from ..restore_plan import digest
from .at_rest import rows_of

_AT_ONCE = 2
_SILENT_SECONDS = 3600.0
"""Longer than the rows of any database take to count."""

Rows = dict[str, int]


class Counting:
    """For one takeover."""

    def __init__(self, application: Application, ports: Ports) -> None:
        self._application = application
        self._ports = ports
        self._threads = ThreadPoolExecutor(max_workers=_AT_ONCE, initializer=take_no_signals)
        self._free: queue.Queue[Optional[Worker]] = queue.Queue()
        self._workers: list[Worker] = []
        self._ready = False

    def prepare(self) -> None:
        """Have the processes there."""
        if self._ready:
            return
        self._ready = True
        other = worker_account(owner_of(self._application))
        apart = needs_worker(other, self._ports.workers)
        for _number in range(_AT_ONCE):
            worker = None
            if apart:
                worker = Worker(_serve, account=other, progress=self._ports.progress, seconds=_SILENT_SECONDS)
                self._workers.append(worker)
            self._free.put(worker)

    def rows_of(self, place: str) -> Rows:
        """Rows per table of a database that nobody writes."""
        return _rows(self._ask({"do": "rows", "places": [place]}))

    def digest_of(self, place: str) -> str:
        """SHA-256 of a file."""
        return str(self._ask({"do": "digest", "places": [place]}))

    def submit(self, staged: str, live: str) -> Future[Rows]:
        """Count the rows of a database that is renamed to its live path at any moment, beside what is done here."""
        self.prepare()
        return self._threads.submit(lambda: _rows(self._ask({"do": "rows", "places": [staged, live]})))

    def close(self) -> None:
        """Count nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.end()

    def _ask(self, request: dict[str, Any]) -> Any:
        self.prepare()
        worker = self._free.get()
        try:
            if worker is None:
                return _answered(request)
            with contextlib.suppress(BrokenPipeError):  # what it ended of shows when it is heard
                worker.ask(request)
            return worker.finish()
        finally:
            self._free.put(worker)


def _rows(told: Any) -> Rows:
    if not isinstance(told, dict):
        raise TradekeepError("the process that counts rows says what nobody asked for", hint="run it again")
    return {str(name): int(rows) for name, rows in told.items()}


def _serve(outlet: Outlet, news: int) -> None:
    serve_requests(outlet, news, _answered)


def _answered(request: dict[str, Any]) -> Any:
    """In a worker, or in place. places: where it is, or else is by now."""
    *earlier, last = request["places"]
    answer = rows_of_regular if request["do"] == "rows" else _digest_of
    for place in earlier:
        try:
            return answer(place)
        except TradekeepError:
            if os.path.lexists(place):
                raise
    return answer(last)


def rows_of_regular(place: str) -> Rows:
    """The rows of what is a regular file; SQLite would wait for somebody to open the other end of a FIFO."""
    with os_errors(place):
        if not stat.S_ISREG(os.lstat(place).st_mode):
            raise UnsafePathError("is not a regular file", path=place)
    return rows_of(Path(place))


def _digest_of(place: str) -> str:
    with os_errors(place):
        return digest(place)
