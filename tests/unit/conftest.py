# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all unit tests share."""

from __future__ import annotations

import os

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import bounded


def _holds_a_database() -> bool:
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}").endswith((".db", "-wal", "-shm")):
                return True
        except FileNotFoundError:
            continue
    return False


@pytest.fixture(autouse=True)
def databases_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test is often the bot as well, and keeps a connection open: a fork would take SQLite's locks for its own.

    The engine itself never has a connection open when it forks.
    """
    real = bounded.can_fork
    monkeypatch.setattr(bounded, "can_fork", lambda: not _holds_a_database() and real())
