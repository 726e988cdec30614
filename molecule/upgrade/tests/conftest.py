# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Fixtures of the story: the servers go from version to version together, and are looked at one by one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "backup_restore" / "tests"))

from installation import PHASES, Installation, Journey, Phase


@pytest.fixture(scope="session")
def journey() -> Journey:
    """Both servers as the earlier version has left them."""
    return Journey(["upgrade12", "upgrade13"])


# Of the whole session, so that every test is over on both servers before they go on.
@pytest.fixture(scope="session", params=PHASES, ids=str)
def phase(request: pytest.FixtureRequest, journey: Journey) -> Phase:
    """The servers have come to this version."""
    journey.reach(request.param)
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def server(host: Host, journey: Journey, phase: Phase) -> Iterator[Installation]:
    """One of them; whatever is done there, its bot trades before and afterwards."""
    found = journey.servers[host.backend.host]
    assert found.trading()
    yield found
    assert found.trading()
