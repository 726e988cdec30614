# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A database that SQLite here cannot open (an encrypted one), taken as bytes: its file and its WAL of one moment."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Optional

from ..errors import ChangedWhileReadError
from .base import NO_FACTS, CaptureContext, Captured, FilePath, ScratchCaptured, Signature
from .reading import copy_bytes, keeps_changing, open_regular, pauses, signature, signature_of, wait_until_stat_counts

BESIDE = ("-wal", "-journal")
"""What holds data of the database; a ``-shm`` is made anew from the WAL."""
_WAL_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_WAL_HEADER = 32


class _Opened(NamedTuple):
    descriptor: int
    before: Signature
    header: bytes
    status: os.stat_result


def has_companion(path: FilePath) -> bool:
    """Whether a WAL or a journal lies beside a file."""
    return any(_present(f"{path}{suffix}") is not None for suffix in BESIDE)


def capture_together(path: FilePath, context: CaptureContext) -> dict[str, Captured]:
    """The file (as ``""``) and what lies beside it, by suffix, as private copies. Raises CaptureError.

    Nothing changed while they were copied, but for a WAL that grew: what was in it stays until it begins anew, and
    then the file itself has changed.
    """
    for _attempt in pauses(context):
        with ExitStack() as stack:
            try:
                opened = _open_all(path, context, stack)
                copies = _copied(opened, context)
            except ChangedWhileReadError:
                continue
            if _held_still(path, opened):
                return {
                    suffix: ScratchCaptured(copy, NO_FACTS, opened[suffix].status) for suffix, copy in copies.items()
                }
            for copy in copies.values():
                os.unlink(copy)
    raise keeps_changing(path, context)


def _open_all(path: FilePath, context: CaptureContext, stack: ExitStack) -> dict[str, _Opened]:
    found = {}
    for suffix in ("", *BESIDE):
        if suffix and _present(f"{path}{suffix}") is None:
            continue
        descriptor = open_regular(f"{path}{suffix}")
        stack.callback(os.close, descriptor)
        before = wait_until_stat_counts(descriptor, context)
        found[suffix] = _Opened(descriptor, before, os.pread(descriptor, _WAL_HEADER, 0), os.fstat(descriptor))
    return found


def _copied(opened: Mapping[str, _Opened], context: CaptureContext) -> dict[str, Path]:
    copies: dict[str, Path] = {}
    try:
        for suffix, item in opened.items():
            copies[suffix] = copy_bytes(item.descriptor, item.before.size, context)
            if copies[suffix].stat().st_size != item.before.size:
                raise ChangedWhileReadError("became shorter while it was read")
    except BaseException:
        for copy in copies.values():
            os.unlink(copy)
        raise
    return copies


def _held_still(path: FilePath, opened: Mapping[str, _Opened]) -> bool:
    for suffix in ("", *BESIDE):
        there, item = _present(f"{path}{suffix}"), opened.get(suffix)
        if there is None and item is None:
            continue
        if there is None or item is None or (there.device, there.inode) != (item.before.device, item.before.inode):
            return False
        if signature(item.descriptor) != item.before and not (suffix == "-wal" and _has_grown(item)):
            return False
    return True


def _has_grown(wal: _Opened) -> bool:
    """Whether a WAL is what it was, with more at its end: each beginning writes another header."""
    if wal.header[:4] not in _WAL_MAGIC or os.pread(wal.descriptor, _WAL_HEADER, 0) != wal.header:
        return False
    return os.fstat(wal.descriptor).st_size >= wal.before.size


def _present(path: str) -> Optional[Signature]:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return signature_of(status) if stat.S_ISREG(status.st_mode) else None
