# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""An optimization changes no answer of a database, and does not touch one that is damaged."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CheckError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import sqlite_live
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.sqlite_rowids import renumbered_tables

BAD_WAL = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=WAL")
c.execute("PRAGMA wal_autocheckpoint=0")
c.execute("PRAGMA writable_schema=ON")
c.execute("UPDATE sqlite_master SET rootpage = 3 WHERE name = 'fills'")
os._exit(0)
"""


def script(path: Path, statements: str) -> None:
    connection = sqlite3.connect(str(path))
    connection.executescript(statements)
    connection.close()


def optimize(path: Path, context) -> sqlite_live.Optimized:
    return sqlite_live.optimize(path, scratch=context.scratch, clock=context.clock, vacuum=True)


def test_rows_that_something_refers_to_by_number_keep_it(data, context):
    script(
        data / "x.db",
        """
        CREATE TABLE notes(body TEXT);
        CREATE VIRTUAL TABLE search USING fts4(content="notes", body);
        INSERT INTO notes(rowid, body) VALUES (1, 'alpha'), (3, 'charlie'), (4, 'delta');
        INSERT INTO search(docid, body) SELECT rowid, body FROM notes;
        """,
    )
    done = optimize(data / "x.db", context)
    assert (done.vacuumed, done.renumbered) == (False, ("notes",))
    connection = sqlite3.connect(str(data / "x.db"))
    found = connection.execute("SELECT rowid, body FROM search WHERE search MATCH 'charlie'").fetchall()
    connection.close()
    assert found == [(3, "charlie")]


@pytest.mark.parametrize(
    ("columns", "renumbered"),
    [
        ("id INTEGER PRIMARY KEY, v", False),
        ("id integer, v, PRIMARY KEY(id)", False),
        ("id INTEGER PRIMARY KEY AUTOINCREMENT, v", False),
        ("id INT PRIMARY KEY, v", True),
        ("id INTEGER PRIMARY KEY DESC, v", True),
        ("id TEXT PRIMARY KEY, v", True),
        ("id, v, PRIMARY KEY(id, v)", True),
        ("id, v", True),
    ],
)
def test_which_tables_a_vacuum_numbers_anew(columns, renumbered):
    """As SQLite documents it; it does keep the numbers of some that it promises nothing for."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(f'CREATE TABLE "a ""b"({columns})')
    connection.execute('INSERT INTO "a ""b"(rowid, id, v) VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)')
    connection.execute('DELETE FROM "a ""b" WHERE rowid = 2')
    assert renumbered_tables(connection) == (('a "b',) if renumbered else ())
    connection.execute("VACUUM")
    kept = [row[0] for row in connection.execute('SELECT rowid FROM "a ""b" ORDER BY 1')] == [1, 3]
    connection.close()
    assert kept or renumbered


def test_tables_without_rows_or_row_numbers_do_not_matter():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE empty(v)")
    connection.execute("CREATE TABLE pairs(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID")
    connection.execute("INSERT INTO pairs VALUES (1, 2)")
    connection.execute("CREATE VIRTUAL TABLE words USING fts4(body)")
    connection.execute("INSERT INTO words VALUES ('alpha')")
    assert renumbered_tables(connection) == ()
    connection.close()


def test_what_a_bad_wal_holds_is_not_brought_into_a_good_file(data, context):
    path = data / "x.db"
    script(path, "CREATE TABLE fills(id INTEGER PRIMARY KEY, v); INSERT INTO fills VALUES (1, 'a'); CREATE TABLE b(v);")
    good = path.read_bytes()
    subprocess.run([sys.executable, "-c", BAD_WAL, str(path)], check=True)
    before, wal = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    assert before[100:] == good[100:] and wal
    with pytest.raises(CheckError, match="damaged, and left as it is"):
        optimize(path, context)
    assert (path.read_bytes(), Path(f"{path}-wal").read_bytes()) == (before, wal)
    assert not list(context.scratch.iterdir())
