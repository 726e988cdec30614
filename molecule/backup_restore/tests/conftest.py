# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Fixtures of the stories."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from testinfra.host import Host

sys.path.insert(0, str(Path(__file__).parent))

from trading_server import FILLS, KEYS, Server, eventually


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
    """What a person brings along on a bad day: the secret key, or the passphrase file."""
    if server.has_passphrase:
        return {"restore_passphrase_file": f"{KEYS}/passphrase"}
    return {"restore_key_file": f"{KEYS}/secret.asc"}
