# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Files that writers only append to: their length is taken at the start and they end with a whole line."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Callable

from ..errors import ChangedWhileReadError
from .base import CaptureContext, Captured, FilePath, LiveCaptured, ScratchCaptured
from .reading import CHUNK, copy_bytes, is_settled, keeps_changing, open_regular, pauses, signature

_SAMPLE = 4096
_LONGEST_LINE = 8 << 20


def capture_appended(
    path: FilePath, context: CaptureContext, *, whole_lines: bool, is_whole: Callable[[bytes], bool]
) -> Captured:
    """The file up to its last whole line.

    is_whole: judges what follows the last newline; True when it is complete without one.
    """
    if not context.copy_first:
        return _capture_once(path, context, whole_lines, is_whole)
    for _attempt in pauses(context):
        live = _capture_once(path, context, whole_lines, is_whole)
        with live, suppress(ChangedWhileReadError):
            return _copied(path, live, context)
    raise keeps_changing(path, context)


def _copied(path: FilePath, live: LiveCaptured, context: CaptureContext) -> Captured:
    copy = ScratchCaptured(copy_bytes(live.descriptor, live.size, context), live.facts, live.status)
    try:
        live.confirm()
        if copy.size != live.size:
            raise ChangedWhileReadError("became shorter while it was read", path=path)
    except BaseException:
        copy.close()
        raise
    return copy


def _capture_once(
    path: FilePath, context: CaptureContext, whole_lines: bool, is_whole: Callable[[bytes], bool]
) -> LiveCaptured:
    descriptor = open_regular(path)
    try:
        size, facts = _extent(descriptor, context, is_whole) if whole_lines else (os.fstat(descriptor).st_size, {})
        samples = _samples(descriptor, size)
        return LiveCaptured(path, descriptor, size, facts, lambda opened: _is_prefix_still_there(opened, size, samples))
    except BaseException:
        os.close(descriptor)
        raise


def _extent(descriptor: int, context: CaptureContext, is_whole: Callable[[bytes], bool]) -> tuple[int, dict[str, Any]]:
    before = signature(descriptor)
    end = _after_last_newline(descriptor, before.size)
    rest = before.size - end
    if rest == 0:
        return before.size, {}
    if is_settled(before.changed_ns):
        # A writer that died in the middle of a line will not finish it: the bytes are kept as they are.
        return before.size, {}
    if rest <= _LONGEST_LINE and is_whole(os.pread(descriptor, rest, end)):
        context.clock.sleep(0.05)
        if signature(descriptor) == before:
            return before.size, {}
    return end, {"unfinished_bytes": rest}


def _after_last_newline(descriptor: int, size: int) -> int:
    position = size
    while position > 0:
        start = max(0, position - CHUNK)
        found = os.pread(descriptor, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def _samples(descriptor: int, size: int) -> tuple[bytes, bytes]:
    tail = max(0, size - _SAMPLE)
    return os.pread(descriptor, min(size, _SAMPLE), 0), os.pread(descriptor, size - tail, tail)


def _is_prefix_still_there(descriptor: int, size: int, samples: tuple[bytes, bytes]) -> bool:
    """A rotation by copy and truncate makes the file shorter, or other at both ends once it has grown again."""
    return os.fstat(descriptor).st_size >= size and _samples(descriptor, size) == samples
