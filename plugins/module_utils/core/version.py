# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The version of the collection, as the program on a host states it."""

from __future__ import annotations

import re
from typing import Optional

# Equal to galaxy.yml's; tests/unit/cli/test_program.py keeps it so. Controllers with an older release read this line
# out of the program on a host, so that it keeps its form.
VERSION = "0.1.0"

_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:-([0-9A-Za-z.-]{1,64}))?(?:\+.*)?")
_ASSIGNED = re.compile(r'^VERSION = "([^"\n]{1,100})"$', re.MULTILINE)

_Key = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]


def is_newer(one: str, other: str) -> bool:
    """Whether a version comes after another (semver.org); one that is no version comes after none and before none."""
    first, second = _key(one), _key(other)
    return first is not None and second is not None and first > second


def stated_version(source: str) -> Optional[str]:
    """The version in the source of this module, of whatever release."""
    found = _ASSIGNED.search(source)
    return None if found is None or _key(found[1]) is None else found[1]


def _key(version: str) -> Optional[_Key]:
    found = _VERSION.fullmatch(version)
    if found is None:
        return None
    parts = (found[4] or "").split(".")
    # Numbers before words, and a release after everything that came before it.
    order = tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)
    return int(found[1]), int(found[2]), int(found[3]), found[4] is None, order
