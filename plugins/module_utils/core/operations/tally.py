# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Counts what a tree holds, in the terms in which two backups are compared."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Optional, Union

from ..kinds.small import SMALL
from .found import Found, Share, Thing
from .links import Leading


@dataclass
class Tally:
    """What each component holds.

    files: how many. content: bytes of files that are neither databases, whose rows are compared instead as a vacuum
    makes the file smaller, nor logs, which are rotated. Small files are not told apart. Files that may go, as a rule of
    the profile says, are in neither: free has how many they are, and their bytes. seen: of the paths that are looked
    for, those that are there. empty: files that the profile requires and that have no bytes. stand_ins: of what is
    looked for and is a link, the path of what is captured instead.
    """

    looked_for: Collection[str] = ()
    files: dict[str, int] = field(default_factory=dict)
    free: dict[str, list[int]] = field(default_factory=dict)
    content: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)
    stand_ins: dict[str, str] = field(default_factory=dict)

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

    def add_link(self, found: Found, leading: Optional[Leading]) -> None:
        """A link to what is captured under its own path is there, where it is looked for. leading: None for others."""
        if leading is None or found.path not in self.looked_for:
            return
        self.seen.add(found.path)
        self.stand_ins[found.path] = leading.inside or ""
        if found.required and leading.size == 0:
            self.empty.add(found.path)
