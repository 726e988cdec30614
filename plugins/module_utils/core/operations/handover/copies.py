# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The private copies of databases on the source: each is what the other server has, and is made what the file is.

Just before the stop the copy is made the database's own file as it lies there, read while it may be written: no
database to work with, but what the other server has to have all the same. Where the file is seen to have been left
alone from before that reading on until after the stop, it need not be compared again; only its WAL is brought in.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Optional

from ...kinds.base import CaptureContext, Signature
from ...kinds.reading import may_change_unseen, open_regular, signature, wait_until_stat_counts
from .blocks import changed_pages


def patch(live: Path, copy: Path) -> dict[int, int]:
    """Make the copy what the file is; what was changed, by offset and length."""
    source = open_regular(live)
    try:
        return _patch(source, copy)
    finally:
        os.close(source)


def bring_near(live: Path, copy: Path, context: CaptureContext) -> tuple[dict[int, int], Optional[Signature]]:
    """The same while the file may be written. Also the file that the copy is equal to, None when it held not still."""
    source = open_regular(live)
    try:
        before = _before_reading(source, context)
        changed = _patch(source, copy)
        return changed, before if before == signature(source) else None
    finally:
        os.close(source)


def _before_reading(source: int, context: CaptureContext) -> Optional[Signature]:
    """The signature, taken when each later write is bound to show in it; None where one may not.

    Written through a mapping, a page shows once: until it is on the disk, later writes to it do not.
    """
    with contextlib.suppress(OSError):
        os.fsync(source)
        seen = wait_until_stat_counts(source, context)
        return None if may_change_unseen(seen.changed_ns) else seen
    return None


def _patch(source: int, copy: Path) -> dict[int, int]:
    changed: dict[int, int] = {}
    target = os.open(copy, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(source).st_size
        os.ftruncate(target, size)
        for offset, data in changed_pages(source, target, size):
            os.pwrite(target, data, offset)
            changed[offset] = len(data)
    finally:
        os.close(target)
    return changed
