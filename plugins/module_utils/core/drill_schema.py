# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a profile may say about drills."""

from __future__ import annotations

from .drill_settings import Drill
from .schema import Flag, Number, Table
from .vocabulary import ABSOLUTE_PATH, CALENDAR, SECRET_FILE

_SECONDS = Number(1, 366 * 86_400)

DRILL = Table(
    {
        "enabled": Flag(),
        "calendar": CALENDAR,
        "jitter_seconds": Number(0, 86_400),
        "scratch": ABSOLUTE_PATH,
        "rto_seconds": _SECONDS,
        "rpo_seconds": _SECONDS,
        "maximum_bytes": Number(1 << 20, 1 << 60),
        "key_file": SECRET_FILE,
    },
    build=Drill,
)
