# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Files without rules of their own: the bytes of one moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

from ..application import CheckLevel
from .base import (
    NO_FACTS,
    CaptureContext,
    Captured,
    CheckReport,
    FilePath,
    LiveCaptured,
    MemoryCaptured,
    ScratchCaptured,
    Signature,
)
from .growing import capture_growing
from .reading import (
    SMALL_FILE,
    check_readable,
    copy_steady,
    keeps_changing,
    open_regular,
    open_seen,
    pauses,
    read_once,
    reads_again,
    signature,
    signature_of,
    status_of,
    wait_until_stat_counts,
)


class PlainFileKind:
    """Any file: small ones are read into memory, large ones streamed and confirmed."""

    name = "file"
    append_only = False

    def capture(self, path: FilePath, context: CaptureContext, seen: Optional[Signature] = None) -> Captured:
        """The bytes of one moment; a large file is streamed from its inode unless ``copy_first`` asks for a copy."""
        for _attempt in pauses(context):
            before, seen = seen or signature_of(status_of(path)), None
            if before.size > SMALL_FILE:
                return _capture_large(path, context)
            descriptor = open_seen(path)
            try:
                content, status, sure = read_once(descriptor, before, context)
                if content is not None and (sure or reads_again(descriptor, content)):
                    return MemoryCaptured(content, NO_FACTS, status)
            finally:
                os.close(descriptor)
        growing = capture_growing(path, context, seconds=1.0)
        if growing is not None:
            return growing
        raise keeps_changing(path, context)

    def check(self, path: Path, *, level: CheckLevel) -> CheckReport:
        """Nothing is known about the content; it must be a regular file that can be read."""
        return check_readable(self.name, path)

    def describe(self, facts: dict[str, Any]) -> str:
        """Nothing beyond its size."""
        return "file"


def _capture_large(path: FilePath, context: CaptureContext) -> Captured:
    if context.copy_first:
        growing = capture_growing(path, context, seconds=0.1)
        if growing is not None:
            return growing
        copy, status = copy_steady(path, context)
        return ScratchCaptured(copy, NO_FACTS, status)
    descriptor = open_regular(path)
    try:
        before = wait_until_stat_counts(descriptor, context)
        return LiveCaptured(path, descriptor, before.size, NO_FACTS, lambda opened: signature(opened) == before)
    except BaseException:
        os.close(descriptor)
        raise
