# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Sections that a polite signal must not cut in two; ``core.signals`` turns signals into errors elsewhere."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

_DELAYED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Delay SIGTERM, SIGINT and SIGHUP until the end of the block; they are delivered then."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _DELAYED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
