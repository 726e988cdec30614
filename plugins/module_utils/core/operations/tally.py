# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Counts what a tree holds, in the terms in which two backups are compared."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Union

from ..kinds.small import SMALL
from .found import Found, Share, Thing


@dataclass
class Tally:
    """What each component holds.

    files: how many. content: bytes of files that are neither databases, whose rows are compared instead as a vacuum
    makes the file smaller, nor logs, which are rotated. Small files are not told apart. seen: of the paths that are
    looked for, those that are there. empty: files that the profile requires and that have no bytes.
    """

    looked_for: Collection[str] = ()
    files: dict[str, int] = field(default_factory=dict)
    content: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)

    def add(self, found: Union[Thing, Share]) -> None:
        """Count one thing, or small files that were gathered."""
        if found.type != "file":
            return
        self.files[found.component] = self.files.get(found.component, 0) + found.files
        self.content.setdefault(found.component, 0)
        if not isinstance(found, Found):
            self.content[found.component] += found.size
            self.seen.update(filter(found.holds, self.looked_for))
            return
        if found.path in self.looked_for:
            self.seen.add(found.path)
        if found.kind != "sqlite" and (found.kind != "log" or found.size <= SMALL):
            self.content[found.component] += found.size
        if found.required and found.size == 0:
            self.empty.add(found.path)
