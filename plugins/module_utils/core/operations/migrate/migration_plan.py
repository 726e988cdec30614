# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a migration would do, path by path. Read-only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional

from ...application import Application
from ...archive.manifest import Entry
from ...errors import TradekeepError
from ...host.files import open_file_beneath
from ...patterns import templates
from ..restore_plan import DatabaseDigest, Item, Selection, lies_in, plan_items
from .origin import Held, Origin, Refused

_LONGEST_TEMPLATE = 4 << 20
_WORDS = {"same": "same", "new": "new", "replace": "differs", "remove": "only_on_target"}


@dataclass(frozen=True)
class MigrationPlan:
    """Every path of the source and of the components it covers.

    items: what is compared, in the order of paths. pristine: files of the target that a person never touched, as the
    profile's own template wrote them; they give way without being asked for.
    """

    items: tuple[Item, ...]
    held: Held
    pristine: frozenset[str] = frozenset()

    @property
    def changes(self) -> list[Item]:
        """What would not stay as it is."""
        return [item for item in self.items if item.action != "same"]

    @property
    def conflicts(self) -> list[Item]:
        """What somebody would miss: live files that differ from the source's, or that it does not have."""
        return [item for item in self.changes if item.action != "new" and item.path not in self.pristine]

    @property
    def refused(self) -> tuple[Refused, ...]:
        """What never arrives."""
        return self.held.refused

    @property
    def entries(self) -> list[Entry]:
        """What the source has, and this host with it once the plan is carried out; without directories."""
        return [item.entry for item in self.items if item.entry is not None]

    def as_dict(self) -> dict[str, Any]:
        """The plan as records show it: the paths by what happens to them."""
        paths: dict[str, list[str]] = {"new": [], "differs": [], "only_on_target": []}
        for item in self.changes:
            paths[_WORDS[item.action]].append(item.path)
        return {
            **paths,
            "same": len(self.items) - len(self.changes),
            "refused": [{"path": item.path, "why": item.why} for item in self.refused],
            "left": list(self.held.left),
            "conflicts": [item.path for item in self.conflicts],
        }


def make_plan(
    application: Application, origin: Origin, digest_of_database: DatabaseDigest, known: Optional[MigrationPlan] = None
) -> MigrationPlan:
    """Compare a source with the live data. known: an earlier plan, whose comparisons are taken over."""
    before = None if known is None else {item.path: item for item in known.items}
    found = plan_items(
        application, origin.held.entries, Selection(), digest_of_database=digest_of_database, known=before
    )
    untouched = frozenset(_pristine(application))
    # What only the template has is as good here as on the source.
    # Where the source has what does not arrive, what lies here stays.
    stays = untouched | {item.path for item in origin.held.refused}
    items = tuple(item for item in found if item.action != "remove" or not lies_in(item.path, stays))
    return MigrationPlan(items, origin.held, untouched)


def word_for(item: Item) -> str:
    """What happens to a path, in one word."""
    return _WORDS[item.action]


def holds_of(entries: Iterable[Entry]) -> dict[str, Any]:
    """What a host holds, for a comparison with another: counts, rows for each table, one digest over all."""
    files = sorted((entry for entry in entries if entry.type != "directory"), key=lambda entry: entry.path)
    whole = hashlib.sha256()
    for entry in files:
        line = f"{entry.path}\0{entry.sha256 or entry.target}\n"
        whole.update(line.encode("utf-8", "surrogateescape"))
    return {
        "files": len(files),
        "bytes": sum(entry.size for entry in files),
        "sha256": whole.hexdigest(),
        "databases": {
            entry.path: {"sha256": entry.sha256, "tables": dict(entry.facts.get("tables", {}))}
            for entry in files
            if entry.kind == "sqlite"
        },
    }


def _pristine(application: Application) -> list[str]:
    found = []
    for _component, rule in templates(application.profile):
        try:
            descriptor = open_file_beneath(str(application.root), rule.pattern)
        except (OSError, TradekeepError):
            continue
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read(_LONGEST_TEMPLATE)
        # The order of keys is that of the profile, or of the configuration that was made from it.
        with contextlib.suppress(ValueError, RecursionError):
            if json.loads(content) == rule.template:
                found.append(rule.pattern)
    return found
