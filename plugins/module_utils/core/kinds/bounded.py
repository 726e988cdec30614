# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Work on one database in a process of its own, which is killed when its time is up.

SQLite looks at the clock between two instructions. One instruction can take as long as whoever made the schema likes
(a function in an index, a pattern of LIKE), and so can opening a file. Where the process has several threads it cannot
be forked; the work is done in it then, and ends at its deadline between two instructions only.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any, Callable, Optional

from ..errors import TimeUpError
from ..host.filesystem.identity import acting_account
from ..host.worker import Worker, can_have_worker
from ..ports import NoProgress
from ..signals import pause
from .base import FilePath

GRACE_SECONDS = 2.0
"""So much longer than its own deadline a process may take: what it says of it is more than that it was killed."""

_THREAD_ENDS_SECONDS = 1.0


class Bounded:
    """Work that has begun; its result must be what JSON can say. Call ``end`` in any case."""

    def __init__(self, work: Callable[[], Any], *, seconds: float, path: FilePath) -> None:
        self._work = work
        self._seconds = seconds
        self._path = path
        self._worker: Optional[Worker] = None
        if can_fork():
            with suppress(OSError):
                self._worker = Worker(
                    lambda _outlet, _news: work(),
                    account=acting_account(),
                    progress=NoProgress(),
                    seconds=seconds + GRACE_SECONDS,
                )

    def result(self) -> Any:
        """Wait for it. Raises what the work raised, or TimeUpError."""
        if self._worker is None:
            return self._work()
        try:
            return self._worker.finish()
        except TimeUpError as error:
            raise time_up(self._path, self._seconds) from error

    def end(self) -> None:
        """Nobody wants to know any more; may be called twice."""
        if self._worker is not None:
            self._worker.end()


def bounded(work: Callable[[], Any], *, seconds: float, path: FilePath) -> Any:
    """The result of work on the file at ``path``. Raises what the work raised, or TimeUpError."""
    begun = Bounded(work, seconds=seconds, path=path)
    try:
        return begun.result()
    finally:
        begun.end()


def can_fork() -> bool:
    """Whether there is no other thread. One that has come to its end is waited for until the kernel knows it too."""
    ends = time.monotonic() + _THREAD_ENDS_SECONDS
    while not can_have_worker():
        if threading.active_count() > 1 or time.monotonic() > ends:
            return False
        pause(0.001)
    return True


def time_up(path: FilePath, seconds: float) -> TimeUpError:
    """The error for work that took too long."""
    return TimeUpError(
        f"took longer than {seconds:.4g} s", path=path, hint="find out what in its schema takes so long, or exclude it"
    )
