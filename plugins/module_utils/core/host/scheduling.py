# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""When this process gets its turns on the processor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_POSSIBLE = hasattr(os, "sched_setscheduler")
"""musl has no such calls."""


@contextmanager
def batch_work() -> Iterator[None]:
    """Nobody waits for what is done here: take longer turns, and interrupt nobody, the bot least of all.

    That is SCHED_BATCH of sched(7), for what is started from here too. A policy that was chosen for the process stays.
    """
    chosen = _POSSIBLE and _change(os.SCHED_OTHER, os.SCHED_BATCH)
    try:
        yield
    finally:
        if chosen:
            _change(os.SCHED_BATCH, os.SCHED_OTHER)


def _change(before: int, after: int) -> bool:
    try:
        if os.sched_getscheduler(0) != before:
            return False
        os.sched_setscheduler(0, after, os.sched_param(0))
    except OSError:  # a sandbox may forbid it
        return False
    return True
