# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Tables whose rows VACUUM numbers anew: those with a rowid that no column keeps (https://sqlite.org/lang_vacuum.html).

Whatever refers to such a number, a full-text index with external content or the application itself, then finds another
row, and nothing says so.
"""

from __future__ import annotations

import re
import sqlite3

from .sqlite_database import countable_tables, quoted

_FULL_TEXT = re.compile(r"\s*CREATE\s+VIRTUAL\s+TABLE\b.*\bUSING\s+fts[34]\b", re.IGNORECASE | re.DOTALL)


def renumbered_tables(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The names of tables that hold rows and whose rowids a VACUUM may change."""
    tables, _uncounted = countable_tables(connection)
    internal = _internal_tables(connection)
    return tuple(
        table.shown
        for table in tables
        if table.name not in internal
        and _has_rows(connection, table.name)
        and not _keeps_numbers(connection, table.name)
    )


def _internal_tables(connection: sqlite3.Connection) -> frozenset[str]:
    """The one shadow table of FTS3 and FTS4 without an INTEGER PRIMARY KEY; nothing refers to its rowids."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    return frozenset(f"{name}_segdir" for name, sql in rows if _FULL_TEXT.match(str(sql)))


def _has_rows(connection: sqlite3.Connection, table: str) -> bool:
    query = f"SELECT EXISTS (SELECT 1 FROM {quoted(table)})"  # noqa: S608 (an identifier cannot be a parameter)
    return bool(connection.execute(query).fetchone()[0])


def _keeps_numbers(connection: sqlite3.Connection, table: str) -> bool:
    """Whether a column is the rowid, or there is none (WITHOUT ROWID).

    Such a column is the whole primary key, of the type INTEGER, and needs no index.
    """
    keys = [row for row in connection.execute(f"PRAGMA table_info({quoted(table)})") if row[5]]
    indexes = [row for row in connection.execute(f"PRAGMA index_list({quoted(table)})") if row[3] == "pk"]
    if len(keys) == 1 and str(keys[0][2]).upper() == "INTEGER" and not indexes:
        return True
    try:
        connection.execute(f"SELECT _rowid_ FROM {quoted(table)} LIMIT 0")  # noqa: S608 (quoted)
    except sqlite3.OperationalError as error:
        return "no such column" in str(error)
    return False
