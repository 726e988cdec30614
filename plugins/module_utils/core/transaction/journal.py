# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Durable records, one JSON object per line.

Room for the later records is written at the beginning as blank lines. A full disk can therefore refuse to begin a
transaction, but cannot keep a begun one from recording how it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Optional

from ..errors import NeedsPersonError, TradekeepError
from ..host.files import fsync_directory, os_errors
from ..host.filesystem.identity import with_privileges

RESERVED_BYTES = 8192


class Journal:
    """An open journal. ``append`` returns once the record is on the disk."""

    def __init__(self, path: Path, descriptor: int, end: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._end = end

    @classmethod
    @with_privileges
    def create(cls, path: Path) -> Journal:
        """A new journal, with room reserved for its records."""
        with os_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            journal = cls(path, descriptor, 0)
            try:
                journal._write(b"\n" * RESERVED_BYTES, 0)
                os.fsync(descriptor)
                fsync_directory(path.parent)
            except OSError:
                journal.close()
                raise
        return journal

    @classmethod
    @with_privileges
    def open(cls, path: Path) -> Journal:
        """An existing journal; a record that was cut off by a crash is blanked."""
        with os_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            content = path.read_bytes()
        journal = cls(path, descriptor, _end_of_records(content))
        torn = len(content.rstrip(b"\n")) - journal._end
        if torn > 0:
            with os_errors(path):
                journal._write(b"\n" * torn, journal._end)
        return journal

    def append(self, record: dict[str, Any]) -> None:
        """Add a record durably; what could not be made durable is taken back."""
        line = json.dumps(record, separators=(",", ":"), sort_keys=True).encode("ascii") + b"\n"
        try:
            with os_errors(self.path):
                self._write(line, self._end)
                os.fsync(self._descriptor)
        except TradekeepError:
            with contextlib.suppress(OSError):
                self._write(b"\n" * len(line), self._end)
                os.fsync(self._descriptor)
            raise
        self._end += len(line)

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def _write(self, data: bytes, offset: int) -> None:
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written


@with_privileges
def read_journal(path: Path) -> Optional[tuple[dict[str, Any], ...]]:
    """The records of a journal, without one that was cut off at the end; None when there is no journal."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NeedsPersonError(f"the journal cannot be read: {error.strerror}", path=path) from error
    end = _end_of_records(content)
    rest = content[end:].strip(b"\n\0")
    if b"\n" in rest:
        raise NeedsPersonError(
            "the journal is damaged", path=path, hint="compare the stage directories with the data before removing it"
        )
    return tuple(json.loads(line) for line in content[:end].splitlines() if line)


def _end_of_records(content: bytes) -> int:
    """Where the leading run of whole records ends."""
    end = 0
    while True:
        newline = content.find(b"\n", end)
        line = content[end:newline] if newline >= 0 else b""
        if not line or not _is_record(line):
            return end
        end = newline + 1


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
