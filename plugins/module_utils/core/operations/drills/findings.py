# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What is found in a drill, while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ...archive.reported import texts_from
from ...ports import Clock
from ..apart import unusable
from ..text import counted

_MOST = 200


@dataclass
class Findings:
    """problems: why the backup, or the data, is not what it must be. notes: worth knowing, and no fault of the backup.

    phases: seconds by phase, in their order.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    databases: list[dict[str, Any]] = field(default_factory=list)
    opened: dict[str, int] = field(default_factory=dict)
    """How many files of each kind were opened."""
    _unsaid: int = 0

    def problem(self, text: str) -> None:
        """One more fault; of very many the first are kept."""
        if len(self.problems) < _MOST:
            self.problems.append(text)
        else:
            self._unsaid += 1

    def note(self, text: str) -> None:
        """One more thing worth knowing."""
        if len(self.notes) < _MOST:
            self.notes.append(text)

    def close(self) -> None:
        """Say how much was left out."""
        if self._unsaid:
            self.problems.append(f"and {counted(self._unsaid, 'more problem')}")

    def said(self) -> dict[str, Any]:
        """All of them but the phases, as JSON."""
        return {
            "problems": self.problems,
            "notes": self.notes,
            "databases": self.databases,
            "opened": self.opened,
            "unsaid": self._unsaid,
        }

    def hear(self, said: Any) -> None:
        """Add what another process has found, which says it as ``said`` does."""
        try:
            for text in texts_from(said["problems"]):
                self.problem(text)
            for text in texts_from(said["notes"]):
                self.note(text)
            self._unsaid += int(said["unsaid"])
            self.databases.extend(_database(item) for item in said["databases"])
            for kind, count in said["opened"].items():
                self.opened[kind] = self.opened.get(kind, 0) + int(count)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise unusable("reports findings that nobody understands") from None

    @contextmanager
    def timed(self, phase: str, clock: Clock) -> Iterator[None]:
        """Measure a phase, also one that fails."""
        started = clock.monotonic()
        try:
            yield
        finally:
            self.phases[phase] = round(self.phases.get(phase, 0.0) + clock.monotonic() - started, 3)


def _database(said: Any) -> dict[str, Any]:
    """What the record has of a database."""
    tables = {str(name): int(rows) for name, rows in said["tables"].items()}
    facts = {"path": str(said["path"]), "size": int(said["size"]), "ok": bool(said["ok"]), "tables": tables}
    return {**facts, "rows": sum(tables.values())}
