# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The checkout as a collection, which Ansible and Python find by its path ``.../ansible_collections/tradekeep/ops``.

python3 tests/certify/checkout.py       # makes the link .cache/collections/... that ansible.cfg and the tests use
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
# The parent of `ansible_collections` for this checkout; git ignores it.
COLLECTIONS = TOP / ".cache" / "collections"

# What is installed, and what ansible-test reads beside it; it would hold test programs to the rules of modules.
INSTALLED = ("plugins/", "roles/", "playbooks/", "meta/", "changelogs/", "LICENSES/", "docs/")
INSTALLED_FILES = ("galaxy.yml", "README.md", "CHANGELOG.rst", "COPYING", "tests/config.yml")
SANITY = ("tests/sanity/", "tests/integration/")


def link() -> Path:
    """Link the checkout to where it is imported from; several processes may do so at once."""
    place = COLLECTIONS / "ansible_collections" / "tradekeep" / "ops"
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() and not place.exists():
        place.unlink()
    with contextlib.suppress(FileExistsError):
        place.symlink_to(os.path.relpath(TOP, place.parent), target_is_directory=True)
    return COLLECTIONS


def files() -> list[str]:
    """Everything that git has or would take."""
    command = ["git", "-C", str(TOP), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [name for name in listed.split("\0") if name and (TOP / name).is_file()]


def installed() -> list[str]:
    """The part of `files` that a user gets, with the sanity configuration."""
    return [name for name in files() if name.startswith(INSTALLED + SANITY) or name in INSTALLED_FILES]


def copy(names: list[str], collections: Path) -> Path:
    """Copy afresh below `collections`, outside any git checkout (ansible-test lists by git where there is one)."""
    target = collections / "ansible_collections" / "tradekeep" / "ops"
    shutil.rmtree(collections, ignore_errors=True)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / name, target / name)
    return target


if __name__ == "__main__":
    link()
