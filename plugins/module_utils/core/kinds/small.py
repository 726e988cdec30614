# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The short way to capture a small file that nobody has touched for a while, as nearly all of many are.

Whatever is not as it should be, errors included, is left to the file's kind, which looks closer and tries again.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from ..host.filesystem.attributes import names_at
from .base import NO_FACTS, FilePath, Signature
from .json_document import ORDINARY_FACTS, is_ordinary
from .reading import CLOCK_REALTIME_COARSE, FLAGS, reads_again

SMALL = 64 << 10

Read = tuple[bytes, os.stat_result]


def settled_before() -> int:
    """A file last changed before this time shows every write from now on (see ``may_change_unseen``)."""
    return time.clock_gettime_ns(CLOCK_REALTIME_COARSE) - 2_000_000_000


def read_small(path: FilePath, seen: Signature, settled: int, directory: Optional[int] = None) -> Optional[Read]:
    """The content of a file that is after the reading what was ``seen`` before it, and its status; else None."""
    return _read(path, seen, settled, directory, None)


def read_small_document(
    path: FilePath, seen: Signature, settled: int, directory: Optional[int] = None
) -> Optional[Read]:
    """The same of an ordinary JSON document, when two reads agree."""
    return _read(path, seen, settled, directory, is_ordinary)


def _read(
    path: FilePath,
    seen: Signature,
    settled: int,
    directory: Optional[int],
    is_sound: Optional[Callable[[bytes], bool]],
) -> Optional[Read]:
    if seen.changed_ns >= settled:
        return None
    try:
        descriptor = os.open(path, FLAGS, dir_fd=directory)
    except OSError:
        return None
    try:
        content = os.pread(descriptor, seen.size + 1, 0)
        status = os.fstat(descriptor)
        now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if now != seen or len(content) != seen.size or not stat.S_ISREG(status.st_mode):
            return None
        if names_at(descriptor):  # more than a plain header has room for
            return None
        if is_sound is not None and not (is_sound(content) and reads_again(descriptor, content)):
            return None
        return content, status
    except OSError:
        return None
    finally:
        os.close(descriptor)


class ShortWay(NamedTuple):
    """How small files of one kind are read, and the facts that are true of all that are.

    read: gets a path, from an open directory if need be, what was seen there, and ``settled_before()``.
    """

    read: Callable[[FilePath, Signature, int, Optional[int]], Optional[Read]]
    facts: Mapping[str, Any]


SHORT_WAYS: dict[Optional[str], ShortWay] = {
    "file": ShortWay(read_small, NO_FACTS),
    "json": ShortWay(read_small_document, ORDINARY_FACTS),
}
