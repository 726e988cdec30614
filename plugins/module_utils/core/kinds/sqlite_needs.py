# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a schema needs that SQLite has not got here: what the application brings along, or a newer SQLite.

That is no damage. Pages are copied without the schema; rows can be counted and pages checked with stand-ins, so that
what is left unchecked is the order of some indexes and what functions compute.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import suppress
from typing import Callable, Optional, TypeVar

_Result = TypeVar("_Result")
_COLLATION = re.compile(r"no such collation sequence: (.*)", re.DOTALL)
_OTHERS = re.compile(r"(?:no such|unknown) (function|module): (.*)", re.DOTALL)
_MALFORMED = re.compile(r"malformed database schema \((.*)\) - (.*)", re.DOTALL)
_NEWER = re.compile(r"near .*: syntax error|unknown table option: .*|unrecognized token: .*", re.DOTALL)
_STATEMENTS = {
    "table": re.compile(r"CREATE\s+(VIRTUAL\s+)?TABLE\s", re.IGNORECASE),
    "index": re.compile(r"CREATE\s+(UNIQUE\s+)?INDEX\s", re.IGNORECASE),
    "view": re.compile(r"CREATE\s+VIEW\s", re.IGNORECASE),
    "trigger": re.compile(r"CREATE\s+TRIGGER\s", re.IGNORECASE),
}
_NEWER_SQLITE = "a newer SQLite than "
_MOST, _SHOWN = 50, 3
_LONGEST = 200


def need_of(error: Exception) -> Optional[str]:
    """What a statement needed of the application, as ``collation TICKER``; None for any other error."""
    text = str(error)
    found = _COLLATION.match(text)
    if found is not None:
        return _shown(f"collation {found[1]}")
    found = _OTHERS.match(text)
    return None if found is None else _shown(f"{found[1]} {found[2]}")


def _first(texts: list[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _shown(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")[:_LONGEST]


class Needs:
    """What was needed while a connection was read; only for reading, and only with statements that change nothing.

    told: each need once, in words.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lenient = False
        self._without_constraints = False
        self.told: list[str] = []

    @property
    def lenient(self) -> bool:
        """Whether SQLite leaves out what it cannot read of the schema."""
        return self._lenient

    @property
    def notes(self) -> list[str]:
        """What people are told."""
        brought = [need for need in self.told if not need.startswith(_NEWER_SQLITE)]
        newer = [need for need in self.told if need.startswith(_NEWER_SQLITE)]
        notes = [f"its schema needs the application: {_first(brought)}"] if brought else []
        notes += [f"its schema was written by {_first(newer)}"] if newer else []
        return [f"{note}; checked as far as SQLite can here" for note in notes]

    def run(self, work: Callable[[], _Result]) -> _Result:
        """The result of some work, begun again with each stand-in for what it needs. Raises what has none."""
        while True:
            try:
                return work()
            except sqlite3.Error as error:
                if len(self.told) >= _MOST or not self._supplied(error):
                    raise

    def tell(self, need: str) -> None:
        """Something that has no stand-in."""
        if need not in self.told:
            self.told.append(need)

    def _supplied(self, error: sqlite3.Error) -> bool:
        need = need_of(error)
        if need is None:
            return self._supplied_newer(error)
        if need in self.told:
            return False
        self.tell(need)
        collation = _COLLATION.match(str(error))
        if collation is not None:
            return self._supplied_collation(collation[1])
        if self._without_constraints:
            return False
        self._without_constraints = True
        self._connection.execute("PRAGMA ignore_check_constraints = ON")
        return True

    def _supplied_collation(self, name: str) -> bool:
        try:
            self._connection.create_collation(name, _by_bytes)
        except (sqlite3.Error, UnicodeError):
            return False
        return True

    def _supplied_newer(self, error: sqlite3.Error) -> bool:
        """Where a statement of the schema is whole, and only its grammar is not known here: leave it out."""
        found = _MALFORMED.match(str(error))
        if found is None or self._lenient or not _NEWER.fullmatch(found[2]):
            return False
        if hasattr(self._connection, "setconfig"):  # Python 3.12
            self._connection.setconfig(getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE"), False)  # noqa: B009 (not in 3.9)
        self._connection.execute("PRAGMA writable_schema = ON")
        self._lenient = True
        unread = [*self._unread(found[1])]
        if not unread or None in unread:
            return False
        for need in unread:
            self.tell(f"{_NEWER_SQLITE}{sqlite3.sqlite_version} ({need})")
        return True

    def _unread(self, name: str) -> list[Optional[str]]:
        """What the statements of that name are of; None for one that is none, as after damage."""
        query = "SELECT type, sql FROM sqlite_master WHERE name = ?"
        return [self._statement(str(kind), name, sql) for kind, sql in self._connection.execute(query, (name,))]

    @staticmethod
    def _statement(kind: str, name: str, sql: object) -> Optional[str]:
        begins = _STATEMENTS.get(kind)
        if not isinstance(sql, str) or begins is None or begins.match(sql) is None or name not in sql:
            return None
        with suppress(UnicodeError):
            sql.encode("utf-8")
            if all(character.isprintable() or character in "\t\r\n" for character in sql):
                return _shown(f"{kind} {name}")
        return None


def _by_bytes(first: str, second: str) -> int:
    """Any order will do where the order of an index is not looked at."""
    one, other = (text.encode("utf-8", "surrogateescape") for text in (first, second))
    return (one > other) - (one < other)
