# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Databases are captured whole while others write, and nothing is left beside them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import CheckLevel
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CaptureError, CheckError, SpaceError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import kind_named, sqlite_holder, sqlite_live
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import sqlite as sqlite_kind

KIND = kind_named("sqlite")

FILLS_WITHOUT_STOP = """
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
c.execute("PRAGMA journal_mode=" + sys.argv[2])
c.execute("CREATE TABLE IF NOT EXISTS fills(id INTEGER PRIMARY KEY, payload TEXT)")
c.execute("CREATE TABLE IF NOT EXISTS totals(n INTEGER)")
c.execute("INSERT INTO totals VALUES (25)")
c.execute("BEGIN")
c.executemany("INSERT INTO fills(payload) VALUES (?)", [("x" * 200,)] * 25)
c.execute("COMMIT")
print("ready", flush=True)
while True:
    c.execute("BEGIN IMMEDIATE")
    c.execute("INSERT INTO fills(payload) VALUES (?)", ("x" * 200,))
    c.execute("UPDATE totals SET n = n + 1")
    c.execute("COMMIT")
    time.sleep(0.003)
"""

HOLDS_EXCLUSIVE_LOCK = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN EXCLUSIVE")
c.execute("INSERT INTO fills VALUES (99)")
print("ready", flush=True)
sys.stdin.read()
"""

KEEPS_ITS_LOCK = """
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA locking_mode=EXCLUSIVE")
c.execute("PRAGMA journal_mode=" + sys.argv[2])
c.execute("INSERT INTO fills(payload) VALUES ('x')")
print("ready", flush=True)
while True:
    time.sleep(0.1)
    c.execute("INSERT INTO fills(payload) VALUES ('x')")
"""

CRASHES_IN_TRANSACTION = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA cache_size=1")
c.execute("PRAGMA cache_spill=1")
c.execute("BEGIN IMMEDIATE")
c.execute("UPDATE fills SET payload = 'lost'")
c.executemany("INSERT INTO fills(payload) VALUES (?)", [("y" * 900,)] * 3000)
print("ready", flush=True)
os.kill(os.getpid(), 9)
"""


def make(path: Path, rows: int = 25, mode: str = "delete") -> None:
    connection = sqlite3.connect(str(path))
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("CREATE TABLE fills(payload TEXT)")
    connection.executemany("INSERT INTO fills VALUES (?)", [(f"{n:0200d}",) for n in range(rows)])
    connection.commit()
    connection.close()


def query(content: bytes, directory: Path, statement: str) -> list:
    restored = directory / "restored.db"
    restored.write_bytes(content)
    connection = sqlite3.connect(str(restored))
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def state(directory: Path) -> dict:
    return {p.name: (s.st_uid, s.st_gid, s.st_mode, s.st_ino) for p in directory.iterdir() for s in [p.lstat()]}


def test_hazard_a1_wal_rows_survive(data, context, tmp_path):
    live = sqlite3.connect(str(data / "x.db"))
    live.execute("PRAGMA journal_mode=WAL")
    live.execute("PRAGMA wal_autocheckpoint=0")
    live.execute("CREATE TABLE trades(id)")
    live.executemany("INSERT INTO trades VALUES (?)", [(n,) for n in range(25)])
    live.commit()
    live.execute("INSERT INTO trades VALUES (99)")  # not committed
    before = state(data)
    with KIND.capture(data / "x.db", context) as captured:
        assert captured.facts["tables"] == {"trades": 25}
        assert captured.facts["journal_mode"] == "wal"
        content = captured.open().read()
        assert len(content) == captured.size
        assert [p.suffix for p in context.scratch.iterdir()] == [".db"]
        assert stat.S_IMODE(next(context.scratch.iterdir()).stat().st_mode) == 0o600
    assert query(content, tmp_path, "SELECT count(*) FROM trades") == [(25,)]
    assert state(data) == before
    assert not list(context.scratch.iterdir())
    live.commit()
    live.close()


@pytest.mark.parametrize("mode", ["WAL", "DELETE", "TRUNCATE", "PERSIST"])
def test_hazard_a1_live_writer_is_captured_at_one_moment(mode, data, context, writer, tmp_path):
    writer(FILLS_WITHOUT_STOP, data / "x.db", mode)
    seen = 0
    for _ in range(8):
        with KIND.capture(data / "x.db", context) as captured:
            rows = captured.facts["tables"]["fills"]
            assert rows >= max(25, seen)
            seen = rows
            assert query(captured.open().read(), tmp_path, "SELECT (SELECT n FROM totals), count(*) FROM fills") == [
                (rows, rows)
            ]


def test_hazard_a1_wal_left_by_a_crash_is_read_and_left_alone(data, context, tmp_path):
    live = sqlite3.connect(str(tmp_path / "live.db"))
    live.execute("PRAGMA journal_mode=WAL")
    live.execute("CREATE TABLE trades(id)")
    live.execute("INSERT INTO trades VALUES (1)")
    live.commit()
    for suffix in ("", "-wal"):
        shutil.copy(str(tmp_path / "live.db") + suffix, str(data / "x.db") + suffix)
    live.close()
    before = state(data), (data / "x.db-wal").read_bytes(), (data / "x.db").read_bytes()
    with KIND.capture(data / "x.db", context) as captured:
        assert captured.facts["tables"] == {"trades": 1}
    assert before == (state(data), (data / "x.db-wal").read_bytes(), (data / "x.db").read_bytes())
    assert not list(context.scratch.iterdir())


def test_hazard_a1_hot_journal_is_rolled_back_in_the_copy_alone(data, context, writer):
    connection = sqlite3.connect(str(data / "x.db"))
    connection.execute("CREATE TABLE fills(payload TEXT)")
    connection.executemany("INSERT INTO fills VALUES (?)", [("x" * 900,)] * 500)
    connection.commit()
    connection.close()
    writer(CRASHES_IN_TRANSACTION, data / "x.db").wait()
    journal = (data / "x.db-journal").read_bytes()
    assert journal
    with KIND.capture(data / "x.db", context) as captured:
        assert captured.facts["tables"] == {"fills": 500}
        assert b"lost" not in captured.open().read()
    assert (data / "x.db-journal").read_bytes() == journal
    assert not list(context.scratch.iterdir())


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_hazard_a2_no_sidecar_is_left_at_rest(mode, data, context):
    make(data / "x.db", mode=mode)
    os.chmod(data / "x.db", 0o640)
    before, content = state(data), (data / "x.db").read_bytes()
    KIND.capture(data / "x.db", context).close()
    sqlite_live.inspect_live(data / "x.db", scratch=context.scratch, clock=context.clock)
    assert state(data) == before
    assert (data / "x.db").read_bytes() == content


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another account")
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_hazard_a2_root_leaves_no_sidecar_of_its_own(mode, data, context, writer):
    bot = 54321
    parent = data
    while parent != Path("/tmp") and parent != Path("/"):
        os.chmod(parent, 0o755)
        parent = parent.parent
    make(data / "x.db", mode=mode)
    for path in (data, data / "x.db"):
        os.chown(path, bot, bot)
    KIND.capture(data / "x.db", context).close()
    assert [p.name for p in data.iterdir()] == ["x.db"]
    (data / "x.db").unlink()
    process = writer(FILLS_WITHOUT_STOP, data / "x.db", mode, user=bot)
    for _ in range(5):
        KIND.capture(data / "x.db", context).close()
    assert {p.lstat().st_uid for p in data.iterdir() if p.exists()} == {bot}
    assert process.poll() is None, "the bot's writer died"
    process.kill()
    process.wait()
    KIND.capture(data / "x.db", context).close()
    assert {p.lstat().st_uid for p in data.iterdir()} == {bot}


def test_hazard_a3_empty_database_is_refused(data, context):
    (data / "x.db").touch()
    with pytest.raises(CaptureError, match="0 bytes"):
        KIND.capture(data / "x.db", context)
    assert not list(context.scratch.iterdir())


@pytest.mark.parametrize("content", [b"garbage" * 1000, os.urandom(8192), b"x"])
def test_hazard_a4_encrypted_or_foreign_file_is_named_so(content, data, context):
    (data / "x.db").write_bytes(content)
    with pytest.raises(CheckError, match="not a SQLite database"):
        KIND.capture(data / "x.db", context)
    assert not KIND.check(data / "x.db", level=CheckLevel.QUICK).ok


def test_hazard_a4_any_damage_is_our_error(data, context):
    make(data / "good.db", rows=400)
    good = (data / "good.db").read_bytes()
    refused = 0
    for seed in range(60):
        damaged = bytearray(good)
        start = 100 + seed * 997 % (len(good) - 300)
        damaged[start : start + 64] = os.urandom(64)
        if seed % 5 == 0:
            damaged = damaged[: len(damaged) // 2]
        (data / "x.db").write_bytes(damaged)
        try:
            KIND.capture(data / "x.db", context).close()
        except (CheckError, CaptureError) as error:
            assert error.path == str(data / "x.db")
            refused += 1
        KIND.check(data / "x.db", level=CheckLevel.FULL)
        assert not list(context.scratch.iterdir())
    assert refused > 10


@pytest.mark.parametrize(
    "fault", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), MemoryError(), OverflowError("too large")]
)
def test_hazard_a4_python_quirks_are_damage(fault, data, context, monkeypatch):
    make(data / "x.db")

    def raising(*_arguments, **_options):
        raise fault

    monkeypatch.setattr(sqlite_kind, "find_problems", raising)
    with pytest.raises(CheckError, match="damaged"):
        KIND.capture(data / "x.db", context)
    assert not list(context.scratch.iterdir())


def test_hazard_a4_odd_table_names(data, context):
    connection = sqlite3.connect(str(data / "x.db"))
    connection.execute("PRAGMA encoding='UTF-16le'")
    for name in ('qu"o""te', "new\nline", "semi;--", "schön", "it's"):
        connection.execute('CREATE TABLE "{}" (a)'.format(name.replace('"', '""')))
        connection.execute('INSERT INTO "{}" VALUES (1)'.format(name.replace('"', '""')))
    connection.execute("CREATE TABLE bare(k TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("CREATE VIEW v AS SELECT 1")
    connection.commit()
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_master SET sql = sql WHERE 0")
    connection.commit()
    connection.close()
    with KIND.capture(data / "x.db", context) as captured:
        tables = captured.facts["tables"]
    assert tables == {'qu"o""te': 1, "new\nline": 1, "semi;--": 1, "schön": 1, "it's": 1, "bare": 0}


def test_hazard_a4_full_check_finds_what_quick_check_misses(data, context):
    make(data / "x.db")
    connection = sqlite3.connect(str(data / "x.db"))
    connection.execute("CREATE INDEX i ON fills(payload)")
    connection.commit()
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("DELETE FROM sqlite_master WHERE name='i'")
    connection.commit()
    connection.close()
    connection = sqlite3.connect(str(data / "x.db"))
    connection.execute("INSERT INTO fills VALUES ('unindexed')")
    connection.execute("PRAGMA writable_schema=ON")
    root = next(p for p in range(2, 50) if p != 2)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    used = connection.execute("SELECT rootpage FROM sqlite_master WHERE name='fills'").fetchone()[0]
    content = (data / "x.db").read_bytes()
    root = next(p for p in range(2, pages + 1) if p != used and content[(p - 1) * 4096] in (2, 10))
    roots = [p for p in range(2, pages + 1) if content[(p - 1) * 4096] == 2]
    root = roots[0] if roots else root
    connection.execute(
        "INSERT INTO sqlite_master VALUES ('index', 'i', 'fills', ?, 'CREATE INDEX i ON fills(payload)')", (root,)
    )
    connection.commit()
    connection.close()
    KIND.capture(data / "x.db", context).close()
    with pytest.raises(CheckError, match=r"missing from index|wrong #"):
        KIND.capture(data / "x.db", replace(context, level=CheckLevel.FULL))


def test_constraints_of_values_are_not_checked_and_the_guide_says_so(data, context):
    """SQLite leaves CHECK out of a database that is opened for reading; NOT NULL it tries."""
    with sqlite3.connect(data / "constrained.db") as writer:
        writer.execute("create table t(amount int check(amount > 0))")
        writer.execute("pragma ignore_check_constraints = on")
        writer.execute("insert into t values (-1)")
    writer.close()
    assert kind_named("sqlite").check(data / "constrained.db", level=CheckLevel.FULL).problems == ()
    guide = (Path(__file__).parents[3] / "docs/command.md").read_text()
    assert "CHECK constraints: SQLite leaves them out" in " ".join(guide.split())


def test_waiting_writer_and_capture_do_not_wait_for_each_other(data, context, writer):
    """Our shared lock, then SQLite's own behind a writer's pending lock, would be a deadlock of 30 seconds."""
    process = writer(FILLS_WITHOUT_STOP.replace("timeout=30", "timeout=3"), data / "x.db", "DELETE")
    for _ in range(15):
        KIND.capture(data / "x.db", context).close()
    assert process.poll() is None, "the writer was told that the database is locked"


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "WAL"])
def test_who_never_lets_go_is_named_soon(data, context, writer, mode, monkeypatch):
    """With locking_mode=EXCLUSIVE: it trades, and keeps its lock between its transactions."""
    monkeypatch.setattr(sqlite_holder, "PATIENCE_SECONDS", 0.3)
    make(data / "x.db")
    process = writer(KEEPS_ITS_LOCK, data / "x.db", mode)
    with pytest.raises(CaptureError, match=rf"locked by another process \(\S+ {process.pid}\)") as caught:
        KIND.capture(data / "x.db", replace(context, deadline_seconds=60.0))
    assert "stop the service for the backup" in caught.value.hint and "locking_mode=NORMAL" in caught.value.hint


def test_a_long_transaction_is_waited_for(data, context, writer, monkeypatch):
    monkeypatch.setattr(sqlite_holder, "PATIENCE_SECONDS", 0.1)
    make(data / "x.db")
    writer(HOLDS_EXCLUSIVE_LOCK, data / "x.db")
    with pytest.raises(CaptureError, match=r"locked by another process for 0\.5 s"):
        KIND.capture(data / "x.db", replace(context, deadline_seconds=0.5))


def test_locked_database_names_the_wait(data, context, writer):
    make(data / "x.db")
    writer(HOLDS_EXCLUSIVE_LOCK, data / "x.db")
    with pytest.raises(CaptureError, match=r"locked by another process for 0\.3 s"):
        KIND.capture(data / "x.db", replace(context, deadline_seconds=0.3))
    with pytest.raises(CaptureError, match="locked"):
        sqlite_live.optimize(data / "x.db", scratch=context.scratch, clock=context.clock, wait_seconds=0.2)
    assert not list(context.scratch.iterdir())


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_hazard_a1_a_lock_that_is_taken_just_after_the_look_is_called_one(data, context, writer, mode, monkeypatch):
    monkeypatch.setattr(sqlite_holder.Holder, "look", lambda _self: False)
    make(data / "x.db")
    writer(KEEPS_ITS_LOCK, data / "x.db", mode)
    with pytest.raises(CaptureError, match=r"locked by another process for 0\.3 s"):
        KIND.capture(data / "x.db", replace(context, deadline_seconds=0.3))


def test_name_with_uri_characters(data, context):
    make(data / "a?mode=rw&x#%41.db")
    with KIND.capture(data / "a?mode=rw&x#%41.db", context) as captured:
        assert captured.facts["tables"] == {"fills": 25}


def test_hazard_a1_rows_lost_by_the_copy_are_noticed(data, context, monkeypatch):
    make(data / "x.db")
    monkeypatch.setattr(sqlite_kind, "count_rows", lambda _source: {"fills": 26})
    with pytest.raises(CaptureError, match="does not hold the rows"):
        KIND.capture(data / "x.db", context)


def test_inspection_tells_wal_and_foreign_keys(data, context):
    live = sqlite3.connect(str(data / "x.db"))
    live.execute("PRAGMA journal_mode=WAL")
    live.execute("CREATE TABLE parent(id INTEGER PRIMARY KEY)")
    live.execute("CREATE TABLE child(parent REFERENCES parent(id))")
    live.execute("INSERT INTO child VALUES (7)")
    live.commit()
    plain = sqlite_live.inspect_live(data / "x.db", scratch=context.scratch, clock=context.clock)
    assert plain.ok
    assert plain.facts["wal"]["frames"] > 0
    strict = sqlite_live.inspect_live(
        data / "x.db", scratch=context.scratch, clock=context.clock, foreign_keys=True, level=CheckLevel.FULL
    )
    assert strict.problems == ("1 row of child, whose row of parent is missing",)
    live.close()


def test_vacuum_shrinks_and_needs_space(data, context, monkeypatch):
    make(data / "x.db", rows=2000)
    connection = sqlite3.connect(str(data / "x.db"))
    connection.execute("DELETE FROM fills")
    connection.commit()
    connection.close()
    before = state(data)
    real = os.statvfs(data)

    class Full:
        f_bavail = 1
        f_frsize = real.f_frsize

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _path: Full())
        with pytest.raises(SpaceError):
            sqlite_live.optimize(data / "x.db", scratch=context.scratch, clock=context.clock, vacuum=True)
    done = sqlite_live.optimize(data / "x.db", scratch=context.scratch, clock=context.clock, vacuum=True)
    assert done.vacuumed
    assert done.size_after < done.size_before
    assert state(data) == before
