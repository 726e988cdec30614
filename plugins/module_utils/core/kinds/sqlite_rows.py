# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How many rows a live database has, at a cost that does not grow with it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Optional

from .base import CaptureContext
from .bounded import bounded
from .sqlite_database import Deadline, count_rows, countable_tables, quoted
from .sqlite_needs import Needs
from .sqlite_source import open_source

COUNTED_BYTES = 32 << 20
"""Databases up to this size are counted. In larger ones the highest rowid stands for the count of each table."""


def live_rows(path: Path, context: CaptureContext) -> dict[str, Optional[int]]:
    """Rows per table, or the highest rowid in a large database; None where neither can be had cheaply.

    Raises CaptureError when the database cannot be read. Leaves no trace beside it.
    """
    found: dict[str, Optional[int]] = bounded(
        lambda: counted_rows(path, context), seconds=context.deadline_seconds, path=path
    )
    return found


def counted_rows(path: Path, context: CaptureContext) -> dict[str, Optional[int]]:
    """The same in this very process, for who has one that can be killed already."""
    with open_source(path, context, Deadline(context.clock, context.deadline_seconds)) as connection:
        if os.stat(path).st_size <= COUNTED_BYTES:
            return dict(count_rows(connection))
        tables, _unreadable = Needs(connection).run(lambda: countable_tables(connection))
        return {table.name: _highest_rowid(connection, table.name) for table in tables}


def _highest_rowid(connection: sqlite3.Connection, table: str) -> Optional[int]:
    try:
        row = connection.execute(f"SELECT max(rowid) FROM {quoted(table)}").fetchone()  # noqa: S608 (quoted)
    except sqlite3.OperationalError:
        return None  # WITHOUT ROWID, or of a schema that SQLite cannot read here
    return int(row[0] or 0)
