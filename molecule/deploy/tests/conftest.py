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

from developer import Developer
from trader import HOLDS, Trader, eventually


@pytest.fixture(scope="session")
def developer(tmp_path_factory: pytest.TempPathFactory) -> Developer:
    """Who pushes releases."""
    return Developer(tmp_path_factory.mktemp("developer"), Trader("trader13").variables)


@pytest.fixture(scope="session", params=["trader12", "trader13"])
def name(request: pytest.FixtureRequest) -> str:
    """Debian 12 with a systemd service, Debian 13 with a program of supervisor."""
    return str(request.param)


@pytest.fixture
def trader(name: str) -> Iterator[Trader]:
    """A server with its bot trading, held at nothing."""
    yield from trading(Trader(name))


@pytest.fixture
def systemd_trader() -> Iterator[Trader]:
    """The one whose bot is a service of systemd."""
    yield from trading(Trader("trader12"))


def trading(found: Trader) -> Iterator[Trader]:
    """Have a bot trade before a story, and hold nothing after it."""
    found.run(f"rm -f {HOLDS}/*")
    if not found.bot_pid():
        found.start_bot()
    assert eventually(found.trading, seconds=20), found.journal()
    yield found
    found.run(f"rm -f {HOLDS}/*")
