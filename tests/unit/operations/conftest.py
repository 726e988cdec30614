# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application in a directory of its own, without anything of the system."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sqlite3
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

FILLS = "databases/accounts/kalshi/demo/fills.db"
MODE = "state/account_mode.json"


class Bench:
    """The application, its ports, and a few things that every test does with it."""

    def __init__(self, base: Path, profile="kalshi", **options):
        self.base = base
        self.notes: list[str] = []
        paths = {
            "root": str(base / "data"),
            "backup_dir": str(base / "backups"),
            "state_dir": str(base / "state"),
            "config_dir": str(base / "etc"),
            "bin_dir": str(base / "bin"),
        }
        self.application = resolve_application(profile, become=False, **{**paths, **options})
        notes = self.notes

        class Progress(NoProgress):
            def note(self, text: str) -> None:
                notes.append(text)

        self.ports = Ports(SubprocessRunner(), SystemClock(), Progress())

    @property
    def root(self) -> Path:
        return Path(self.application.root)

    @property
    def backups(self) -> Path:
        return Path(self.application.backup_dir)

    def with_steps(self, step) -> Ports:
        return dataclasses.replace(self.ports, step=step)

    def make_tree(self) -> None:
        tree(self.application, self.ports, fix=True)

    def database(self, path: str = FILLS, rows: int = 100, wal: bool = True) -> sqlite3.Connection:
        """A database with so many fills; the open connection keeps them in the WAL."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(target)
        if wal:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS fills (id INTEGER PRIMARY KEY, trade_id TEXT)")
        self.add_rows(connection, rows)
        return connection

    @staticmethod
    def add_rows(connection: sqlite3.Connection, rows: int) -> None:
        connection.executemany("INSERT INTO fills (trade_id) VALUES (?)", [(f"t{n}",) for n in range(rows)])
        connection.commit()

    def rows(self, path: str = FILLS) -> int:
        connection = sqlite3.connect(self.root / path)
        try:
            return connection.execute("SELECT count(*) FROM fills").fetchone()[0]
        finally:
            connection.close()

    def snapshot(self) -> dict[str, tuple]:
        """Type, mode and digest of everything in the data tree."""
        return snapshot(self.root)


def snapshot(top: Path) -> dict[str, tuple]:
    found = {}
    for directory, names, files in os.walk(top):
        for name in [*names, *files]:
            path = Path(directory) / name
            status = path.lstat()
            content = b""
            if path.is_symlink():
                content = os.readlink(path).encode()
            elif path.is_file():
                content = path.read_bytes()
            found[str(path.relative_to(top))] = (oct(status.st_mode), hashlib.sha256(content).hexdigest())
    return found


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    made.make_tree()
    return made


@pytest.fixture
def make_bench(tmp_path):
    def make(profile="kalshi", **options):
        return Bench(tmp_path, profile, **options)

    return make


@pytest.fixture(scope="session")
def any_bench():
    """Makes one in a directory that is given: for tests that need many, or the same place with another profile."""
    return Bench
