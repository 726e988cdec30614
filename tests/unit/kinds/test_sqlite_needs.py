# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Healthy databases that SQLite alone cannot check to the end, and lost pages: no damage, and damage stays damage."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import CheckLevel
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CheckError, TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.sqlite import SqliteKind, check_copy
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.sqlite_live import (
    examine,
    inspect_live,
    optimize,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.sqlite_rows import counted_rows

KIND = SqliteKind()


def collation(connection: sqlite3.Connection) -> None:
    connection.create_collation("TICKER", lambda a, b: (a > b) - (a < b))
    connection.execute("create table fills(id integer primary key, t text collate ticker)")
    connection.execute("create index by_ticker on fills(t)")


def checked_by_function(connection: sqlite3.Connection) -> None:
    connection.create_function("REGEXP", 2, lambda p, v: bool(re.search(p, v)), deterministic=True)
    connection.execute("create table fills(id integer primary key, t text check (t regexp '^[A-Z-]+$'))")


def index_on_function(connection: sqlite3.Connection) -> None:
    connection.create_function("norm", 1, lambda value: value, deterministic=True)
    connection.execute("create table fills(id integer primary key, t text)")
    connection.execute("create index n on fills(norm(t))")


def computed_by_function(connection: sqlite3.Connection) -> None:
    connection.create_function("norm", 1, lambda value: value, deterministic=True)
    connection.execute("create table fills(id integer primary key, t text, g text as (norm(t)) virtual not null)")
    connection.execute("create table other(id integer primary key)")


def module(connection: sqlite3.Connection) -> None:
    connection.execute("create table fills(id integer primary key, t text)")
    into_schema(connection, "table", "emb", "CREATE VIRTUAL TABLE emb USING vec0(v float[3])")


def newer_view(connection: sqlite3.Connection) -> None:
    connection.execute("create table fills(id integer primary key, t text)")
    into_schema(connection, "view", "v", "CREATE VIEW v AS SELECT group_concat(t ORDER BY ORDER BY id) FROM fills")


def into_schema(connection: sqlite3.Connection, kind: str, name: str, sql: str) -> None:
    connection.commit()
    connection.execute("pragma writable_schema=1")
    connection.execute("insert into sqlite_master values(?, ?, ?, 0, ?)", (kind, name, name, sql))
    connection.commit()


SCHEMAS = {
    "collation ticker": collation,
    "function": checked_by_function,
    "function norm": index_on_function,
    "generated": computed_by_function,
    "module": module,
    "a newer SQLite": newer_view,
}


def make(place: Path, schema) -> Path:
    connection = sqlite3.connect(place)
    schema(connection)
    connection.close()
    connection = sqlite3.connect(place)
    if schema is newer_view:
        connection.execute("pragma writable_schema=1")
    if schema is collation:
        connection.create_collation("TICKER", lambda a, b: (a > b) - (a < b))
    for name in ("norm", "REGEXP"):
        connection.create_function(name, -1, lambda *values: 1 if len(values) == 2 else values[0], deterministic=True)
    connection.executemany("insert into fills(t) values(?)", [("BTC",), ("ETH",)] * 20)
    connection.commit()
    connection.close()
    return place


@pytest.mark.parametrize("need", SCHEMAS)
@pytest.mark.parametrize("level", list(CheckLevel))
def test_what_sqlite_cannot_do_here_is_no_damage(need, level, data, context):
    place = make(data / "x.db", SCHEMAS[need])
    level_context = type(context)(context.scratch, context.clock, level)
    with KIND.capture(place, level_context) as captured:
        assert captured.facts["tables"]["fills"] == 40
        told = " ".join(captured.facts.get("notes", ()))
        with captured.open() as stream:
            (data / "back.db").write_bytes(stream.read())
    assert "damaged" not in told
    if need in ("collation ticker", "a newer SQLite"):
        assert need in told.lower() or need in told
        assert captured.facts["needs"]
    report = check_copy(data / "back.db", CheckLevel.FULL)
    assert report.problems == () and report.facts["tables"] == captured.facts["tables"]
    assert report.facts["schema_sha256"] == captured.facts["schema_sha256"]
    assert inspect_live(place, scratch=context.scratch, clock=context.clock, foreign_keys=True).problems == ()
    assert counted_rows(place, context)["fills"] == 40
    assert list(context.scratch.iterdir()) == []


@pytest.mark.parametrize("need", ["collation ticker", "a newer SQLite"])
def test_optimize_leaves_alone_what_it_cannot_rewrite_and_calls_it_no_damage(need, data, context):
    place = make(data / "x.db", SCHEMAS[need])
    before = place.read_bytes()
    for work in (examine, optimize):
        with pytest.raises(TradekeepError, match="left as it is: its schema") as caught:
            work(place, scratch=context.scratch, clock=context.clock)
        assert not isinstance(caught.value, CheckError)
    assert place.read_bytes() == before


@pytest.mark.parametrize("need", ["collation ticker", "a newer SQLite", "generated"])
def test_hazard_a4_damage_in_such_a_database_is_damage(need, data, context):
    place = make(data / "x.db", SCHEMAS[need])
    content = bytearray(place.read_bytes())
    content[4096:4700] = b"\xa5" * 604
    place.write_bytes(content)
    with pytest.raises(CheckError, match="damaged"):
        KIND.capture(place, context)


@pytest.mark.parametrize(
    "sql", ["CREATE VIEW v AS \x01\x02\x03(", "CRXATE VIEW v AS SELECT", "CREATE VIEW w AS SELECT (", None]
)
def test_hazard_a4_a_torn_statement_in_the_schema_is_damage(sql, data, context):
    connection = sqlite3.connect(data / "x.db")
    connection.execute("create table fills(id integer primary key)")
    into_schema(connection, "view", "v", sql)
    connection.close()
    with pytest.raises(CheckError, match="damaged"):
        KIND.capture(data / "x.db", context)


def leaking(place: Path) -> None:
    """All rows can be read; the pages of a table that was there are used by nothing."""
    connection = sqlite3.connect(place)
    connection.executescript("create table fills(id integer primary key, t); create table gone(b)")
    connection.executemany("insert into fills(t) values(?)", [("x" * 50,)] * 2000)
    connection.executemany("insert into gone values(?)", [(b"x" * 3000,)] * 60)
    connection.commit()
    connection.execute("pragma writable_schema=1")
    connection.execute("delete from sqlite_master where name = 'gone'")
    connection.commit()
    connection.close()


def test_lost_pages_are_a_note_as_all_rows_are_there(data, context):
    leaking(data / "x.db")
    for level in CheckLevel:
        with KIND.capture(data / "x.db", type(context)(context.scratch, context.clock, level)) as captured:
            assert captured.facts["tables"] == {"fills": 2000}
            assert "pages that nothing uses" in captured.facts["notes"][0]


def test_hazard_a4_lost_pages_do_not_hide_damage(data, context):
    leaking(data / "x.db")
    connection = sqlite3.connect(data / "x.db")
    connection.execute("create table strict_one(a not null)")
    connection.execute("insert into strict_one values (1)")
    connection.execute("pragma writable_schema=1")
    connection.execute(
        "update sqlite_master set sql = 'CREATE TABLE strict_one(a not null, b not null)' where name like 's%'"
    )
    connection.commit()
    connection.close()
    with pytest.raises(CheckError, match=r"NULL value in strict_one\.b"):
        KIND.capture(data / "x.db", context)
