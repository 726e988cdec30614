# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a takeover tells of itself, in its record and to people."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Optional

from ...errors import ExitStatus, TradekeepError
from ..migrate.migration_record import MigrationRecord
from ..migrate.migration_run import Run, done_lines, outcome_of, record_of
from ..outcome import Outcome
from ..text import counted
from .laps import Laps
from .link import Link
from .remote_end import RemoteEnd


class Account:
    """Of one takeover. holds: what both servers have agreed on. source_seconds: how long the source's parts took."""

    def __init__(self, link: Link, source: RemoteEnd, laps: Laps, identifier: str, moment: datetime) -> None:
        self._link = link
        self._source = source
        self._laps = laps
        self._identifier = identifier
        self._moment = moment
        self.holds: dict[str, Any] = {}
        self.source_seconds: dict[str, float] = {}

    def recorded(self, run: Optional[Run], state: str, error: Optional[str]) -> dict[str, Any]:
        """The record. run: None where it did not come to a plan."""
        told: dict[str, Any] = {"state": state, "id": self._identifier, "at": self._moment.isoformat(), "error": error}
        if run is not None:
            told = record_of(run, state, error=error)
            told["holds"] = self.holds or told["holds"]
        told["handover"] = {
            "from": self._link.name,
            "source_host": self._source_host(),
            "host": socket.gethostname(),
            "seconds": dict(self._laps.seconds),
            "source_seconds": dict(self.source_seconds),
            "bytes": dict(self._laps.bytes),
            "downtime": self._laps.seconds.get("downtime"),
        }
        return told

    def completed(self, run: Run, kept: MigrationRecord, mended: Sequence[str]) -> Outcome:
        """The outcome once it runs here; that the record cannot be written undoes nothing."""
        record = self.recorded(run, "migrated", None)
        lines, status = [*done_lines(run), *mended, *self.lines()], ExitStatus.DONE
        try:
            record["record"] = str(kept.write(record))
        except TradekeepError as error:
            record["record"] = None
            lines, status = [*lines, f"the migration is complete, but: {error}"], ExitStatus.FINDINGS
        return outcome_of(run, record, changed=True, lines=lines, status=status)

    def lines(self) -> Iterator[str]:
        """For people, when it is done."""
        rows = sum(sum(tables.values()) for tables in self.holds.get("databases", {}).values())
        yield f"the same on both servers: {counted(int(self.holds.get('files') or 0), 'file')}, {counted(rows, 'row')}"
        yield from self._laps.lines()
        yield f"{self._link.name} is fenced; it is not to be started again without: tradekeep unfence"

    def _source_host(self) -> Optional[str]:
        try:
            return str(self._source.facts.get("host"))
        except TradekeepError:
            return None
