# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Fixtures of the stories."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "hosts"))

from two_servers import Move


@pytest.fixture(scope="session")
def session_move() -> Move:
    """Both servers."""
    return Move()


@pytest.fixture
def move(session_move: Move) -> Iterator[Move]:
    """The bot trades on the old server before a story; whatever happens, it never runs on both."""
    session_move.ready()
    yield session_move
    session_move.plug_in()
    session_move.let_go()
    session_move.check_never_two()
