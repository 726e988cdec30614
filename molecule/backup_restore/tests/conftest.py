# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Fixtures of the stories."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from testinfra.host import Host

sys.path.insert(0, str(Path(__file__).parent))

from trading_server import FILLS, KEYS, Server, eventually


def pytest_itemcollected(item: pytest.Item) -> None:
    """The servers are tested side by side, the stories of one server one after the other."""
    name = re.search(r"ansible://(\w+)", item.nodeid)
    if name:
        item.add_marker(pytest.mark.xdist_group(name[1]))


@pytest.fixture
def server(host: Host) -> Server:
    """The server, with its bot trading as before every story."""
    found = Server(host)
    if not found.bot_pid():
        found.start_bot()
    assert eventually(lambda: host.file(FILLS).exists, seconds=15)
    return found


@pytest.fixture
def recovery(server: Server) -> dict[str, str]:
    """What a person brings along on a bad day: the secret key into root's keyring, or the passphrase file."""
    if server.has_passphrase:
        return {"restore_passphrase_file": f"{KEYS}/passphrase"}
    server.run(f"gpg --batch --quiet --import {KEYS}/secret.asc")
    return {}
