# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Talking to one SQLite database: errors as ours, a deadline, facts and checks. Knows nothing of live writers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Optional
from urllib.parse import quote

from ..application import CheckLevel
from ..errors import CaptureError, CheckError, EmptyError, OtherContentError, SpaceError, TradekeepError
from ..formatting import counted
from ..ports import Clock
from ..signals import answer
from .bounded import time_up
from .reading import open_regular
from .sqlite_needs import Needs, need_of

MAGIC = b"SQLite format 3\0"
NOT_A_DATABASE = "not a SQLite database (encrypted?)"
_MOST_PROBLEMS = 20
_LONGEST_TEXT = 1000
MOST_TABLES = 50_000
MOST_NAME_BYTES = 4 << 20
"""Of the names of all tables as JSON writes them: facts of a database are one line of a manifest."""
_MOST_UNCOUNTED = 100
_MOST_LEAKS = 1_000_000
_HEADING = re.compile(r"\*\*\* in database \w+ \*\*\*")
_LEAK = re.compile(r"Page \d+:? (?:is )?never used|(?:Main freelist|Freelist): size is \d+ but should be \d+")
# What is mapped counts as memory of the process; reading the rest costs a fifth to a half more CPU time.
_MMAP_BYTES = 32 << 20
_PROGRESS_OPCODES = 100_000

_CONFIGURED = (("DEFENSIVE", True), ("TRUSTED_SCHEMA", False))
_CONFIGURED_TO_READ = (("ENABLE_TRIGGER", False), ("ENABLE_VIEW", False))
_NONE_OF_THESE = ("ATTACHED", "WORKER_THREADS")

# Some corrupt databases surface as these instead of sqlite3.Error.
DATABASE_FAULTS = (sqlite3.Error, UnicodeError, MemoryError, OverflowError, ValueError)

UNFINISHED = (sqlite3.OperationalError, sqlite3.DataError, MemoryError)
"""What a check ends with that did not find damage: too large a value, no memory, a function that is not there."""


EXCLUSIVE_HINT = (
    "a bot with locking_mode=EXCLUSIVE never lets go: give its service stop_for_backup: true in the profile, stop the "
    "service for the backup yourself, or have the bot use locking_mode=NORMAL"
)


class Deadline:
    """How long one database may take, waiting for locks included. Without a clock it never comes."""

    def __init__(self, clock: Optional[Clock], seconds: float) -> None:
        self._clock = clock
        self.seconds = seconds
        self._end = 0.0 if clock is None else clock.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end, never negative."""
        return self.seconds if self._clock is None else max(0.0, self._end - self._clock.monotonic())

    @property
    def comes(self) -> bool:
        """Whether there is an end."""
        return self._clock is not None

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.left <= 0

    def pause(self, seconds: float) -> None:
        """Wait a little, but not beyond the end."""
        if self._clock is not None:
            self._clock.sleep(min(seconds, self.left))


class Table(NamedTuple):
    """A table whose rows can be counted; ``shown`` is its name as facts print it."""

    name: str
    shown: str


@contextmanager
def connected(path: Path, parameters: str, deadline: Deadline, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection by URI (``parameters`` such as ``mode=ro``), in autocommit, closed in any case.

    The schema is not trusted: whoever brought the database has written it. writes: for statements that need more than
    reading does.
    """
    uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?{parameters}"
    with translated(path, deadline):
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=max(0.1, deadline.left))
    try:
        # Names and messages of damaged databases are not always UTF-8.
        connection.text_factory = lambda raw: bytes(raw).decode("utf-8", "surrogateescape")
        _restrain(connection, writes)
        with _watched(connection, deadline), _interrupted_at(deadline, connection):
            yield connection
    finally:
        connection.close()


@contextmanager
def _watched(connection: sqlite3.Connection, deadline: Deadline) -> Iterator[None]:
    """End a statement whose time is up. SQLite swallows what a signal's handler raises meanwhile; here it is raised."""
    raised: list[BaseException] = []

    def look() -> int:
        try:
            answer()
            return int(deadline.over)
        except BaseException as error:  # pylint: disable=broad-exception-caught # raised when the statement has ended
            raised.append(error)
            return 1

    connection.set_progress_handler(look, _PROGRESS_OPCODES)
    try:
        yield
    except Exception:
        if raised:
            raise raised[0] from None
        raise
    if raised:
        raise raised[0]


def _restrain(connection: sqlite3.Connection, writes: bool) -> None:
    """Give the schema no function with side effects, no view, no trigger, and damaged pages no benefit of the doubt.

    Extensions are not loaded unless asked for. See sqlite.org/security.html.
    """
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {setting}")
    if hasattr(connection, "setconfig"):  # Python 3.12
        for name, value in _CONFIGURED if writes else (*_CONFIGURED, *_CONFIGURED_TO_READ):
            connection.setconfig(getattr(sqlite3, f"SQLITE_DBCONFIG_{name}"), value)
    if hasattr(connection, "setlimit") and not writes:  # Python 3.11; VACUUM attaches a database
        for name in _NONE_OF_THESE:
            connection.setlimit(getattr(sqlite3, f"SQLITE_LIMIT_{name}"), 0)


@contextmanager
def _interrupted_at(deadline: Deadline, connection: sqlite3.Connection) -> Iterator[None]:
    """The progress handler comes after many instructions, this after one. It is the only end where the work is done in
    a process that nobody kills, and whether it is cannot be told from here."""
    if not deadline.comes:
        yield
        return

    def interrupt() -> None:
        with suppress(sqlite3.Error):
            connection.interrupt()

    timer = threading.Timer(deadline.left, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@contextmanager
def translated(path: Path, deadline: Deadline) -> Iterator[None]:
    """Raise what SQLite and Python say of a database as the engine's own errors."""
    try:
        yield
    except TradekeepError:
        raise
    except DATABASE_FAULTS as error:
        raise _as_ours(error, path, deadline) from error


def _as_ours(error: Exception, path: Path, deadline: Deadline) -> TradekeepError:
    text = str(error)
    if "locked" in text or "busy" in text:
        return locked_error(path, deadline)
    if "interrupted" in text:
        return time_up(path, deadline.seconds)
    if "disk is full" in text:
        return SpaceError("no space left for the copy of the database", path=path)
    if "unable to open" in text or "readonly" in text or "disk I/O" in text or "authorization" in text:
        return CaptureError(f"cannot be read: {text}", path=path, hint="run as root or as the owner of the file")
    if "not a database" in text:
        # Its first bytes are a database's; what has others is not opened.
        return CheckError(NOT_A_DATABASE, path=path)
    need = need_of(error)
    if need is not None:
        return CaptureError(f"cannot be read without its application: its schema needs the {need}", path=path)
    return CheckError(f"damaged: {fault_text(error)}", path=path)


def locked_error(path: Path, deadline: Deadline) -> CaptureError:
    """The error for a database that somebody does not let go of."""
    return CaptureError(
        f"locked by another process for {deadline.seconds:g} s",
        path=path,
        hint=f"{EXCLUSIVE_HINT}; of a long transaction wait for the end",
    )


def fault_text(error: Exception) -> str:
    """What an exception says, or its name where it says nothing."""
    if isinstance(error, UnicodeError):
        return "text that is not UTF-8"
    return printable(str(error))[:_LONGEST_TEXT] or type(error).__name__


def printable(text: str) -> str:
    """Text fit for JSON: lone surrogates (bytes that were not UTF-8) as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """The value of a pragma."""
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return None if row is None else row[0]


def countable_tables(connection: sqlite3.Connection) -> tuple[list[Table], list[str]]:
    """Tables with rows of their own, and the names of those that cannot be asked, or are too many.

    A virtual table needs its extension and holds nothing itself: its shadow tables are ordinary ones.
    """
    tables: list[Table] = []
    uncounted: list[str] = []
    room = MOST_NAME_BYTES
    query = "SELECT name, substr(sql, 1, 100) FROM sqlite_master WHERE type = 'table'"
    query += " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    for name, sql in connection.execute(query).fetchall():
        table = Table(str(name), printable(str(name)))
        room -= len(json.dumps(table.shown))
        virtual = re.match(r"\s*CREATE\s+VIRTUAL\b", str(sql), re.IGNORECASE) is not None
        if virtual or "\0" in table.name or table.name != table.shown or room < 0 or len(tables) >= MOST_TABLES:
            uncounted.append(table.shown)
        else:
            tables.append(table)
    return tables, uncounted


def _rows_of(connection: sqlite3.Connection, table: str) -> int:
    query = f"SELECT count(*) FROM {quoted(table)}"  # noqa: S608 (an identifier cannot be a parameter)
    return int(connection.execute(query).fetchone()[0])


def count_rows(connection: sqlite3.Connection, needs: Optional[Needs] = None) -> dict[str, int]:
    """Rows per table, of those tables that SQLite can read here."""
    known = needs or Needs(connection)
    tables, _uncounted = known.run(lambda: countable_tables(connection))
    counts = {}
    for table in tables:
        try:
            counts[table.shown] = known.run(partial(_rows_of, connection, table.name))
        except sqlite3.OperationalError as error:
            if not (known.lenient and str(error).startswith("no such table")):
                raise
    return counts


def schema_digest(connection: sqlite3.Connection) -> str:
    """SHA-256 of the schema, blind to white space and to the order in which things were created."""
    rows = connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master").fetchall()
    lines = sorted("\x1f".join(" ".join(printable(str(cell)).split()) for cell in row) for row in rows)
    return hashlib.sha256("\x1e".join(lines).encode("utf-8")).hexdigest()


def read_header(path: Path) -> bytes:
    """The first hundred bytes. Never while this process has a connection open: closing would drop its locks."""
    descriptor = open_regular(path)
    try:
        return os.pread(descriptor, 100, 0)
    finally:
        os.close(descriptor)


def require_database(path: Path, header: bytes) -> None:
    """Refuse what cannot be a database."""
    if not header:
        raise EmptyError("is empty (0 bytes)", path=path)
    if not header.startswith(MAGIC):
        raise OtherContentError(NOT_A_DATABASE, path=path)


def journal_mode_of(header: bytes) -> str:
    """``wal`` or ``delete`` (any rollback journal), as the file itself records it."""
    return "wal" if header[18:20] == b"\2\2" else "delete"


def gather_facts(connection: sqlite3.Connection, needs: Optional[Needs] = None) -> dict[str, Any]:
    """The facts that a manifest keeps."""
    known = needs or Needs(connection)
    facts: dict[str, Any] = known.run(lambda: _plain_facts(connection))
    facts["tables"] = count_rows(connection, known)
    _tables, uncounted = countable_tables(connection)
    if uncounted:
        facts["uncounted"] = [name[:_LONGEST_TEXT] for name in uncounted[:_MOST_UNCOUNTED]]
        if len(uncounted) > _MOST_UNCOUNTED:
            facts["uncounted"].append(f"and {len(uncounted) - _MOST_UNCOUNTED} more")
    return facts


def _plain_facts(connection: sqlite3.Connection) -> dict[str, Any]:
    facts: dict[str, Any] = {
        name: pragma(connection, name)
        for name in ("page_count", "page_size", "user_version", "application_id", "encoding")
    }
    facts["schema_sha256"] = schema_digest(connection)
    return facts


def find_problems(connection: sqlite3.Connection, level: CheckLevel, *, constraints: bool = True) -> tuple[str, ...]:
    """What ``quick_check`` or ``integrity_check`` finds; empty when all is well. constraints: compute them too."""
    if not constraints:
        connection.execute("PRAGMA ignore_check_constraints = ON")
    name = "integrity_check" if level is CheckLevel.FULL else "quick_check"
    found = _checked(connection, f"PRAGMA {name}({_MOST_PROBLEMS})")
    if found and all(map(is_leak, found)):
        # Pages that nothing uses come first, and as many as there may be; damage must not be hidden by them.
        found = _checked(connection, f"PRAGMA {name}({_MOST_PROBLEMS + _MOST_LEAKS})")
        leaks = [line for line in found if is_leak(line)]
        if len(leaks) < len(found):
            return tuple([line for line in found if not is_leak(line)][:_MOST_PROBLEMS])
        return (*leaks[:_MOST_PROBLEMS],) if len(leaks) < _MOST_LEAKS else (f"more than {_MOST_LEAKS} lost pages",)
    return tuple(found)


def find_problems_by_table(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The same for each table by itself, without those that cannot be looked at without the application."""
    connection.execute("PRAGMA ignore_check_constraints = ON")
    found: list[str] = []
    for table in countable_tables(connection)[0]:
        try:
            found += _checked(connection, f"PRAGMA quick_check({quoted(table.name)})")
        except sqlite3.OperationalError as error:
            if need_of(error) is None:
                raise
    return tuple(line for line in found if not is_leak(line))[:_MOST_PROBLEMS]


def _checked(connection: sqlite3.Connection, statement: str) -> list[str]:
    """The findings line by line, without the heading that SQLite gives them."""
    rows = connection.execute(statement).fetchall()
    lines = [line for row in rows for line in printable(str(row[0])).splitlines()]
    found = [line[:_LONGEST_TEXT] for line in lines if not _HEADING.fullmatch(line)]
    return [] if found == ["ok"] else found


def is_leak(finding: str) -> bool:
    """Whether a finding says no more than that the file has pages that nothing uses: all rows are there."""
    return _LEAK.fullmatch(finding) is not None


def find_orphans(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Rows whose foreign key points nowhere, summed up by table."""
    counts: dict[tuple[str, str], int] = {}
    for row in connection.execute("PRAGMA foreign_key_check"):
        key = (printable(str(row[0])), printable(str(row[2])))
        counts[key] = counts.get(key, 0) + 1
    return tuple(
        f"{counted(count, 'row')} of {table}, whose row of {parent} is missing"[:_LONGEST_TEXT]
        for (table, parent), count in islice(counts.items(), _MOST_PROBLEMS)
    )


def use_mmap(connection: sqlite3.Connection) -> None:
    """Read through a memory map: only for private copies, as a mapped file that shrinks kills the process."""
    connection.execute(f"PRAGMA mmap_size = {_MMAP_BYTES}")
