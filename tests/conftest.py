# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Makes ``ansible_collections.tradekeep.ops`` importable from any checkout, with or without Ansible.

A collection is imported by the path it is installed at. ``.cache/collections`` holds that path as a symlink to this
checkout; the two directories above it have no ``__init__.py`` and are namespace packages to plain Python. Where
Ansible is installed too, its own loader is pointed at the same place, so that both agree.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
COLLECTIONS = CHECKOUT / ".cache" / "collections"


def link_checkout() -> None:
    """Create ``.cache/collections/ansible_collections/tradekeep/ops``; several test processes may do so at once."""
    link = COLLECTIONS / "ansible_collections" / "tradekeep" / "ops"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and not link.exists():
        link.unlink()
    with contextlib.suppress(FileExistsError):
        link.symlink_to(os.path.relpath(CHECKOUT, link.parent), target_is_directory=True)


link_checkout()
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(COLLECTIONS))
if str(COLLECTIONS) not in sys.path:
    sys.path.insert(0, str(COLLECTIONS))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked ``root`` says so when it cannot run; tests/certify/run.py repeats it in its closing summary."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))
