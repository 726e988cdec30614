# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Files that nobody calls a log and that are written like one: growing tables of prices, arrays that are never closed.

What is seen is believed: where a file has grown and every byte before is as it was, those bytes are what it held.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from ..errors import CaptureError
from ..signals import answer
from .base import CaptureContext, Captured, FilePath, ScratchCaptured
from .reading import CHUNK, copy_bytes, open_regular

GROWS = "grows while it is read, and is taken up to its last whole line, as of 'kind: log'"
_LONGEST_LINE = 8 << 20
_LOOKS = 0.05


def capture_growing(path: FilePath, context: CaptureContext, *, seconds: float) -> Optional[Captured]:
    """The whole lines of a text that only grows; None for any other file. seconds: how long to wait for it to grow."""
    try:
        descriptor = open_regular(path)
    except CaptureError:
        return None
    try:
        status = os.fstat(descriptor)
        copy = copy_bytes(descriptor, status.st_size, context)
        try:
            if _grows(path, descriptor, status, context, seconds) and _is_beginning(descriptor, copy):
                unfinished = _cut(copy)
                if unfinished is not None:
                    facts = {"warnings": [GROWS], "unfinished_bytes": unfinished}
                    return ScratchCaptured(copy, facts, status)
        except BaseException:
            os.unlink(copy)
            raise
        os.unlink(copy)
        return None
    finally:
        os.close(descriptor)


def _grows(path: FilePath, descriptor: int, before: os.stat_result, context: CaptureContext, seconds: float) -> bool:
    ends = context.clock.monotonic() + seconds
    while os.fstat(descriptor).st_size <= before.st_size:
        if os.fstat(descriptor).st_size < before.st_size or context.clock.monotonic() >= ends:
            return False
        context.clock.sleep(_LOOKS)
    try:
        there = os.lstat(path)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (before.st_dev, before.st_ino)


def _is_beginning(descriptor: int, copy: Path) -> bool:
    """Whether a file still begins with what was copied from it."""
    position = 0
    with open(copy, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            answer()
            if os.pread(descriptor, len(chunk), position) != chunk:
                return False
            position += len(chunk)
    return position > 0


def _cut(copy: Path) -> Optional[int]:
    """Cut a copy after its last whole line; the bytes that went, or None for what is no text."""
    with open(copy, "r+b", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        start = max(0, size - _LONGEST_LINE)
        tail = os.pread(stream.fileno(), size - start, start)
        end = tail.rfind(b"\n")
        if end < 0 or b"\0" in tail:
            return None
        stream.truncate(start + end + 1)
        return size - (start + end + 1)
