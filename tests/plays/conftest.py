# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of whole plays share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from modules.conftest import definition, ports
from playing import CHECKOUT

__all__ = ["collections", "definition", "ports"]


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection as it is installed, in a place of its own."""
    place = tmp_path_factory.mktemp("collections")
    collection = place / "ansible_collections/tradekeep/ops"
    for name in ("plugins", "roles", "playbooks", "meta"):
        shutil.copytree(CHECKOUT / name, collection / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "galaxy.yml", collection)
    return place
