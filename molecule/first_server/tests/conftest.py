# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The desk of the person who follows the guides."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Iterator

import pytest
from testinfra.host import Host

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "hosts"))

from guide import Desk

from relay import relaying


@pytest.fixture(scope="module")
def desk(host: Host) -> Iterator[Desk]:
    """A home that is gone afterwards. Not below pytest's long paths: gpg's agent has a socket in it."""
    home = Path(tempfile.mkdtemp(prefix="desk-"))
    variables = host.ansible.get_variables()
    try:
        with relaying() as repository:
            made = Desk(home, variables, repository)
            yield made
            made.run("gpgconf --kill all")
    finally:
        shutil.rmtree(home)
