# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a source holds, as entries of a manifest: with the rights that it will have where it arrives."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ...archive.attributes import FACT, Allowance, as_fact
from ...archive.manifest import Entry
from ...archive.safety import storable_mode
from ...host.filesystem.attributes import attributes_at
from ...host.ownership import name_of_gid, name_of_uid
from ..scan import Found


class EntryMaker:
    """Makes entries; each account's name is looked up once."""

    def __init__(self) -> None:
        self._allowance = Allowance()
        self._owner = lru_cache(maxsize=None)(name_of_uid)
        self._group = lru_cache(maxsize=None)(name_of_gid)

    def entry(self, found: Found, status: os.stat_result, size: int, facts: Mapping[str, Any]) -> Entry:
        """The entry of one thing; what becomes of its mode is decided where it arrives (see rights_plan.py)."""
        attributes = attributes_at(found.absolute)
        if attributes and self._allowance.has_room_for(attributes):
            facts = {**facts, FACT: as_fact(attributes)}
        return Entry(
            found.path,
            found.type,
            size,
            storable_mode(stat.S_IMODE(status.st_mode), found.type),
            self._owner(status.st_uid),
            self._group(status.st_gid),
            status.st_mtime_ns,
            kind=found.kind,
            component=found.component,
            facts=facts,
        )
