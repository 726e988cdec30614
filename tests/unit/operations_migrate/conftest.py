# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""An old server's data beside a new installation, in directories of one test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from operations_migrate.servers import PEM, PREFERENCES, Server, pem


@pytest.fixture
def old(tmp_path: Path) -> Server:
    """A server with a key, a preference of its own and a database."""
    server = Server(tmp_path / "old")
    server.write(PEM, pem()).chmod(0o644)
    server.write(PREFERENCES, '{"position_size": 3}')
    server.write("preferences/own.json", '{"kept": true}')
    server.database().close()
    return server


@pytest.fixture
def new(tmp_path: Path) -> Server:
    """A server where the tree was laid out, and nothing else."""
    return Server(tmp_path / "new")


@pytest.fixture
def make_server(tmp_path: Path) -> Callable[..., Server]:
    def make(name: str, profile: Any = "kalshi", **options: Any) -> Server:
        return Server(tmp_path / name, profile, **options)

    return make
