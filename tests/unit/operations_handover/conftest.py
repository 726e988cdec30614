# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Two servers for one bot; afterwards none of their processes is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from operations_handover.servers import Pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    servers = Pair(tmp_path)
    yield servers
    servers.end()
