# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Temporary names in a backup directory, and which of them are leftovers.

The number of a process tells only of its own host, and so does a lock on a directory of a network filesystem. What
another installation, or an earlier version, has made there is nobody's when nothing was written to it for a day.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path

from ..host.files import process_lives
from ..host.filesystem.scratch import sweep
from .maker import Maker
from .names import TEMPORARY_PREFIX

A_DAY = 24 * 3600
_PART = re.compile(r"\.(\d+)-(?:([a-p]{8})-)?([0-9a-f]{8})\.part")


def part_name(final_name: str, maker: Maker) -> str:
    """A name that nothing has, for what will be called ``final_name``."""
    return f"{TEMPORARY_PREFIX}{final_name}.{os.getpid()}-{maker.tag}-{secrets.token_hex(4)}.part"


def scratch_purpose(maker: Maker) -> str:
    """What the names of its private directories in a backup directory say."""
    return f"scratch{maker.tag}"


def sweep_scratch(directory: Path, maker: Maker) -> tuple[str, ...]:
    """Remove the private directories in a backup directory that are leftovers; returns their names."""
    return sweep(directory, purpose=scratch_purpose(maker)) + sweep(directory, idle_seconds=A_DAY)


def is_leftover_part(path: Path, maker: Maker) -> bool:
    """Whether a temporary file is nobody's any more."""
    part = _PART.search(path.name)
    if not path.name.startswith(TEMPORARY_PREFIX) or part is None:
        return False
    if part[2] is not None and part[2] == maker.tag:
        return not process_lives(int(part[1]))
    try:
        return path.lstat().st_mtime < time.time() - A_DAY
    except FileNotFoundError:
        return False
