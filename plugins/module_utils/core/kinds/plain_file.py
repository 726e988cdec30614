# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Files without rules of their own: the bytes of one moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..application import CheckLevel
from ..errors import CaptureError
from .base import CaptureContext, Captured, CheckReport, LiveCaptured, MemoryCaptured, ScratchCaptured
from .reading import (
    SMALL_FILE,
    copy_steady,
    keeps_changing,
    may_change_unseen,
    open_regular,
    pauses,
    read_once,
    reads_again,
    signature,
    wait_until_stat_counts,
)


class PlainFileKind:
    """Any file: small ones are read into memory, large ones streamed and confirmed."""

    name = "file"
    append_only = False

    def capture(self, path: Path, context: CaptureContext) -> Captured:
        """The bytes of one moment; a large file is streamed from its inode unless ``copy_first`` asks for a copy."""
        if _size(path) <= SMALL_FILE:
            return MemoryCaptured(_read_small(path, context), {})
        if context.copy_first:
            return ScratchCaptured(copy_steady(path, context), {})
        return _stream(path, context)

    def check(self, path: Path, *, level: CheckLevel) -> CheckReport:
        """Nothing is known about the content; it must be a regular file that can be read."""
        try:
            os.close(open_regular(path))
        except CaptureError as error:
            return CheckReport(self.name, problems=(error.message,))
        return CheckReport(self.name)

    def describe(self, facts: dict[str, Any]) -> str:
        """Nothing beyond its size."""
        return "file"


def _size(path: Path) -> int:
    descriptor = open_regular(path)
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _read_small(path: Path, context: CaptureContext) -> bytes:
    for _attempt in pauses(context):
        content, before = read_once(path, context)
        if content is not None and (not may_change_unseen(before.changed_ns) or reads_again(path, content)):
            return content
    raise keeps_changing(path, context)


def _stream(path: Path, context: CaptureContext) -> Captured:
    descriptor = open_regular(path)
    try:
        before = wait_until_stat_counts(descriptor, context)
        return LiveCaptured(path, descriptor, before.size, {}, lambda opened: signature(opened) == before)
    except BaseException:
        os.close(descriptor)
        raise
