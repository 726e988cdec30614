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
    makes the file smaller, nor logs, which are rotated. Small files are not told apart. Files that may go, as a rule of
    the profile says, are in neither: free has how many they are, and their bytes. seen: of the paths that are
    looked for, those that are there. empty: files that the profile requires and that have no bytes.
    """

    looked_for: Collection[str] = ()
    files: dict[str, int] = field(default_factory=dict)
    free: dict[str, list[int]] = field(default_factory=dict)
    content: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)

    def add(self, found: Union[Thing, Share]) -> None:
        """Count one thing, or small files that were gathered."""
        if found.type != "file":
            return
        files = self.files.setdefault(found.component, 0)
        self.content.setdefault(found.component, 0)
        if isinstance(found, Found) and found.may_shrink:
            free_files, free_bytes = self.free.get(found.component, (0, 0))
            self.free[found.component] = [free_files + 1, free_bytes + found.size]
        else:
            self.files[found.component] = files + found.files
            self._add_content(found)
        if not isinstance(found, Found):
            self.seen.update(filter(found.holds, self.looked_for))
            return
        if found.path in self.looked_for:
            self.seen.add(found.path)
        if found.required and found.size == 0:
            self.empty.add(found.path)

    def _add_content(self, found: Union[Thing, Share]) -> None:
        if not isinstance(found, Found) or (found.kind != "sqlite" and (found.kind != "log" or found.size <= SMALL)):
            self.content[found.component] += found.size
