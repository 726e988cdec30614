# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Who keeps readers out of a database, and whether that will ever end.

With ``locking_mode=EXCLUSIVE`` a program keeps its lock from one transaction to the next. While anybody else has it
there is a journal, or pages are written, as by a checkpoint at the end: who does neither will not let go.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Optional

from ..errors import CaptureError
from .sqlite_database import EXCLUSIVE_HINT, Deadline, locked_error

# The byte ranges of SQLite's lock protocol (os.h: PENDING_BYTE, SHARED_FIRST, SHARED_SIZE).
PENDING_BYTE = 0x40000000
SHARED_FIRST = PENDING_BYTE + 2
SHARED_SIZE = 510
PATIENCE_SECONDS = 10.0
"""So long somebody may keep readers out without having anything to write."""
_LOCK = struct.Struct("@hhqqi4x")
_JOURNAL_HEADER = 28
"""Bytes, of which there is nothing left where a journal that is kept belongs to no transaction."""
_PAUSE_SECONDS = 0.05


class Holder:
    """Looks at who has the lock, until it is free or never will be. descriptor: of the database."""

    def __init__(self, path: Path, descriptor: int, deadline: Deadline) -> None:
        self._path = path
        self._descriptor = descriptor
        self._deadline = deadline
        self._pid: Optional[int] = None
        self._seen = deadline.left
        self._changed = 0
        self._idle = 0.0

    def look(self) -> bool:
        """Whether somebody has it now. Raises CaptureError for one that has kept it with nothing to write."""
        pid, left = self._holder(), self._deadline.left
        if pid != self._pid:
            self._idle, self._seen = 0.0, left
        elif pid is not None and self._seen - left >= _PAUSE_SECONDS:
            self._idle += 0.0 if self._writes() else self._seen - left
            self._seen = left
        self._pid = pid
        if pid is not None and self._idle >= PATIENCE_SECONDS:
            self._refuse(pid)
        return pid is not None

    def wait(self) -> None:
        """Until nobody has it. Raises CaptureError where that does not come."""
        while self.look():
            if self._deadline.over:
                raise locked_error(self._path, self._deadline)
            self._deadline.pause(_PAUSE_SECONDS)

    def _refuse(self, pid: int) -> NoReturn:
        program = _program(pid)
        who = f" ({program or 'process'} {pid})" if pid > 0 else ""
        raise CaptureError(
            f"locked by another process{who}, which keeps the lock for itself while it writes nothing",
            path=self._path,
            hint=EXCLUSIVE_HINT,
        )

    def _holder(self) -> Optional[int]:
        """The number of the process that keeps readers out; 0 or less where it is not known."""
        wanted = _LOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, SHARED_FIRST, SHARED_SIZE, 0)
        try:
            kind, _whence, _start, _length, pid = _LOCK.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, wanted))
        except (OSError, struct.error):
            return None
        return None if kind == fcntl.F_UNLCK else pid

    def _writes(self) -> bool:
        """Whether pages were written since the last look, or are about to be: there is a journal to undo that."""
        before, self._changed = self._changed, os.fstat(self._descriptor).st_mtime_ns
        if before != self._changed:
            return True
        with suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(f"{self._path}-journal", flags)
            try:
                return any(os.pread(descriptor, _JOURNAL_HEADER, 0))
            finally:
                os.close(descriptor)
        return False


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
