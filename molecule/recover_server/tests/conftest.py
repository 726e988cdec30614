# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Who recovers the server, and from where."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "hosts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "first_server" / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

from operator_desk import OperatorDesk

from relay import relaying


@pytest.fixture(scope="module")
def desk() -> Iterator[OperatorDesk]:
    """A home that is gone afterwards. Not below pytest's long paths: gpg's agent has a socket in it."""
    home = Path(tempfile.mkdtemp(prefix="desk-"))
    made = None
    try:
        with relaying() as packages:
            made = OperatorDesk(home, packages)
            yield made
    finally:
        if made is not None:
            made.leave()
        shutil.rmtree(home)
