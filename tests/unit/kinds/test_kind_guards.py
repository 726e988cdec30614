# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What happens in the very moment of a capture, made to happen: each of these shows one guard of the kinds."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from dataclasses import replace

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import CheckLevel
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CaptureError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import bounded, kind_named
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import sqlite as sqlite_kind

SQLITE, JSONL, LOG, FILE = (kind_named(name) for name in ("sqlite", "jsonl", "log", "file"))

FILLS_AND_CHECKPOINTS = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
c.executemany("INSERT INTO fills VALUES (?)", [("y" * 200,)] * 500)
c.commit()
c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


def make(path, rows=25, mode="delete"):
    connection = sqlite3.connect(str(path))
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("CREATE TABLE fills(payload TEXT)")
    connection.executemany("INSERT INTO fills VALUES (?)", [(f"{n:0200d}",) for n in range(rows)])
    connection.commit()
    connection.close()


def rows_captured(path, context):
    with SQLITE.capture(path, context) as captured:
        return captured.facts["tables"]["fills"]


def around_the_copy(monkeypatch, *, before=None, after=None):
    """Let something happen once, just before or after the pages are copied; in this process, where all is at hand."""
    monkeypatch.setattr(bounded, "can_fork", lambda: False)
    real, once = sqlite_kind._back_up, [True]

    def watched(*arguments):
        if once and before:
            once.clear()
            before()
        real(*arguments)
        if once and after:
            once.clear()
            after()

    monkeypatch.setattr(sqlite_kind, "_back_up", watched)


def test_hazard_a1_rows_are_counted_at_the_moment_of_the_copy(data, context, monkeypatch):
    make(data / "x.db", mode="wal")
    bot = sqlite3.connect(str(data / "x.db"))
    bot.execute("SELECT count(*) FROM fills").fetchone()

    def one_more():
        bot.execute("INSERT INTO fills VALUES ('late')")
        bot.commit()

    one_more()
    around_the_copy(monkeypatch, after=one_more)
    assert rows_captured(data / "x.db", context) == 26
    assert rows_captured(data / "x.db", context) == 27
    bot.close()


def test_hazard_a1_a_database_at_rest_that_comes_to_life_is_read_again(data, context, writer, monkeypatch):
    make(data / "x.db", mode="wal")
    around_the_copy(monkeypatch, before=lambda: writer(FILLS_AND_CHECKPOINTS, data / "x.db"))
    assert rows_captured(data / "x.db", context) == 525
    assert not list(context.scratch.iterdir())


def test_hazard_a1_a_database_that_is_replaced_is_read_again(data, context, monkeypatch):
    make(data / "x.db")
    make(data / "new.db", rows=30)
    around_the_copy(monkeypatch, before=lambda: os.replace(data / "new.db", data / "x.db"))
    assert rows_captured(data / "x.db", context) == 30
    assert not list(context.scratch.iterdir())


def test_hazard_a1_a_copy_that_takes_too_long_is_given_up(data, context, monkeypatch):
    monkeypatch.setattr(bounded, "can_fork", lambda: False)

    class Clock(type(context.clock)):
        ahead = 0.0

        def monotonic(self):
            return super().monotonic() + self.ahead

    clock = Clock()
    real = sqlite_kind.connected

    @contextmanager
    def slow(path, parameters, deadline, **options):
        with real(path, parameters, deadline, **options) as connection:
            clock.ahead += 1000 if parameters == "mode=rw" else 0
            yield connection

    make(data / "x.db")
    monkeypatch.setattr(sqlite_kind, "connected", slow)
    with pytest.raises(CaptureError, match="took longer than 300 s"):
        SQLITE.capture(data / "x.db", replace(context, clock=clock))
    assert not list(context.scratch.iterdir())


def test_hazard_a2_a_check_leaves_no_sidecar(data):
    make(data / "x.db", mode="wal")
    assert SQLITE.check(data / "x.db", level=CheckLevel.FULL).ok
    assert [path.name for path in data.iterdir()] == ["x.db"]


def test_hazard_a4_a_table_name_that_is_not_utf8_is_no_damage(data, context):
    connection = sqlite3.connect(str(data / "x.db"))
    connection.execute("CREATE TABLE caf_(x)")
    connection.execute("CREATE TABLE fills(x)")
    connection.execute("INSERT INTO fills VALUES (1)")
    connection.commit()
    connection.close()
    content = (data / "x.db").read_bytes()
    (data / "x.db").write_bytes(content.replace(b"caf_", b"caf\xe9"))
    with SQLITE.capture(data / "x.db", context) as captured:
        assert captured.facts["tables"] == {"fills": 1}
        assert captured.facts["uncounted"] == ["caf\\xe9"]


def test_hazard_a4_a_table_name_with_a_nul_is_no_damage(data, context):
    connection = sqlite3.connect(str(data / "x.db"))
    connection.execute("CREATE TABLE a(x)")
    connection.execute("CREATE TABLE fills(x)")
    connection.execute("INSERT INTO fills VALUES (1)")
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_master SET name = 'a' || char(0) || 'b', tbl_name = name WHERE name = 'a'")
    connection.commit()
    connection.close()
    with SQLITE.capture(data / "x.db", context) as captured:
        assert captured.facts["tables"] == {"fills": 1}
        assert captured.facts["uncounted"] == ["a\0b"]


# Small files whose bytes change between the first and the last of one read


def torn_once(monkeypatch, path, old, new):
    """The first time that the file is read, it is rewritten half way."""
    inode, once = os.stat(path).st_ino, [True]
    half = len(old) // 2

    def tearing(real):
        def read(descriptor, *arguments):
            content = real(descriptor, *arguments)
            if once and content == old and os.stat(descriptor).st_ino == inode:
                once.clear()
                with open(path, "r+b", buffering=0) as stream:
                    stream.write(new)
                return old[:half] + new[half:]
            return content

        return read

    for name in ("read", "pread"):
        monkeypatch.setattr(os, name, tearing(getattr(os, name)))
    return once


def whole(captured):
    with captured:
        content = captured.open().read()
        captured.confirm()
        return content


def test_hazard_a6_a_small_file_changed_under_the_reader_is_read_again(data, context, monkeypatch):
    path = data / "p.bin"
    path.write_bytes(b"a" * 1000)
    once = torn_once(monkeypatch, path, b"a" * 1000, b"b" * 1000)
    assert whole(FILE.capture(path, context)) == b"b" * 1000
    assert not once


@pytest.mark.parametrize(
    "ticks",
    [
        pytest.param(False, id="the same tick"),
        pytest.param(True, id="a tick after the read"),
    ],
)
def test_hazard_a6_an_equal_stat_within_the_tick_proves_nothing(ticks, data, context, monkeypatch):
    """The clock that stamps files stands still here, so that nothing of the second write shows in the stat."""
    path = data / "p.bin"
    path.write_bytes(b"a" * 1000)
    frozen = os.stat(path)
    once = torn_once(monkeypatch, path, b"a" * 1000, b"b" * 1000)

    def still(real):
        def ask(*arguments, **keywords):
            found = real(*arguments, **keywords)
            return frozen if found.st_ino == frozen.st_ino else found

        return ask

    for name in ("stat", "lstat", "fstat"):
        monkeypatch.setattr(os, name, still(getattr(os, name)))
    # What counts is whether it stood still when the read began.
    later = frozen.st_ctime_ns + 10_000_000
    monkeypatch.setattr("time.clock_gettime_ns", lambda _clock: later if ticks and not once else frozen.st_ctime_ns)
    assert whole(FILE.capture(path, context)) == b"b" * 1000
    assert not once


@pytest.mark.parametrize("kind", [JSONL, LOG], ids=["jsonl", "log"])
def test_hazard_a6_a_line_at_work_is_left_out(kind, data, context):
    path = data / "f.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": ')
    captured = kind.capture(path, context)
    assert captured.facts == {"unfinished_bytes": 6}
    assert whole(captured) == b'{"a": 1}\n'


@pytest.mark.parametrize("kind", [JSONL, LOG], ids=["jsonl", "log"])
def test_hazard_a6_what_is_appended_later_is_left_out(kind, data, context):
    path = data / "f.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    with kind.capture(path, context) as captured:
        with path.open("ab") as stream:
            stream.write(b'{"b": 2}\n')
        assert captured.open().read(1 << 20) == b'{"a": 1}\n'
        captured.confirm()
