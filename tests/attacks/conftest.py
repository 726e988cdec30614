# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""An application whose owner is a real account without rights, beside an engine that is root."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

BOT = 61234
"""A number that no account of the machine has."""
FILLS = "databases/accounts/kalshi/demo/fills.db"
MODE = "state/account_mode.json"
SECRET = b"root:$6$only-root-may-read-this\n"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an account is attacked from another one")


class Notes(NoProgress):
    """Keeps what was noted."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


class Victim:
    """One installation as ``site`` leaves it: data of the bot's, everything else of root's; and a file of root's."""

    def __init__(self, base: Path, profile: Any = "kalshi", **options: Any) -> None:
        self.base = base
        paths = {
            "root": str(base / "bot" / "data"),
            "backup_dir": str(base / "backups"),
            "state_dir": str(base / "state"),
            "config_dir": str(base / "etc"),
            "bin_dir": str(base / "bin"),
        }
        resolved = resolve_application(profile, become=True, **{**paths, **options})
        self.application = dataclasses.replace(
            resolved,
            owner=f"#{BOT}",
            group=f"#{BOT}",
            profile=dataclasses.replace(resolved.profile, services=(), schedules=()),
        )
        self.notes = Notes()
        self.ports = Ports(SubprocessRunner(), SystemClock(), self.notes, workers=True)
        home = base / "bot"
        home.mkdir(mode=0o755)
        os.chown(home, BOT, BOT)
        self.secret = base / "secret"
        self.secret.mkdir(mode=0o700)
        (self.secret / "shadow").write_bytes(SECRET)
        (self.secret / "shadow").chmod(0o600)

    @property
    def root(self) -> Path:
        return Path(self.application.root)

    @property
    def backups(self) -> Path:
        return Path(self.application.backup_dir)

    @property
    def state(self) -> Path:
        return Path(self.application.application_state_dir)

    def with_steps(self, step: Callable[[str], None]) -> Ports:
        return dataclasses.replace(self.ports, step=step)

    def make_tree(self) -> None:
        tree(self.application, self.ports, fix=True)

    def database(self, path: str = FILLS, rows: int = 100) -> None:
        """A database with so many fills in its WAL, made by the bot."""
        as_bot(lambda: _fill(self.root / path, rows))

    def rows(self, path: str = FILLS) -> int:
        connection = sqlite3.connect(f"file:{self.root / path}?mode=ro", uri=True)
        try:
            return int(connection.execute("SELECT count(*) FROM fills").fetchone()[0])
        finally:
            connection.close()

    def is_untouched(self) -> bool:
        """Whether what belongs to root is as it was, and nothing was added to it."""
        shadow = self.secret / "shadow"
        status = shadow.stat()
        return (
            shadow.read_bytes() == SECRET
            and (status.st_uid, status.st_mode & 0o7777) == (0, 0o600)
            and sorted(path.name for path in self.secret.iterdir()) == ["shadow"]
            and self.secret.stat().st_uid == 0
            and self.secret.stat().st_mode & 0o7777 == 0o700
        )

    def leaked(self) -> list[str]:
        """What the bot can read of root's, below its own directories."""
        found = []
        for directory, _names, files in os.walk(self.base / "bot"):
            for name in files:
                path = Path(directory) / name
                if path.is_symlink() or not path.is_file():
                    continue
                if path.lstat().st_uid == BOT and SECRET in path.read_bytes():
                    found.append(str(path))
        return found


def _fill(path: Path, rows: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS fills (id INTEGER PRIMARY KEY, trade_id TEXT)")
    connection.executemany("INSERT INTO fills (trade_id) VALUES (?)", [(f"t{n}",) for n in range(rows)])
    connection.commit()
    os._exit(0)  # as a bot that is killed: the WAL stays


def as_bot(work: Callable[[], object]) -> None:
    """Do something as the bot's account and nobody else's."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(BOT, BOT, BOT)
            os.setresuid(BOT, BOT, BOT)
            work()
            status = 0
        finally:
            os._exit(status)
    _child, status = os.waitpid(child, 0)
    assert status == 0, "the attack itself failed"


def swap(path: Path, target: Path) -> Callable[[], None]:
    """What the bot does at the worst moment: its directory goes, and a symlink to a place of root's comes."""

    def attack() -> None:
        def work() -> None:
            path.rename(path.with_name(path.name + ".gone"))
            path.symlink_to(target)

        as_bot(work)

    return attack


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that every account can pass through, as there is on a server."""
    path = Path(tempfile.mkdtemp(prefix="tradekeep-attack-"))
    path.chmod(0o755)
    yield path
    with contextlib.suppress(OSError):
        shutil.rmtree(path)


@pytest.fixture
def victim(base: Path) -> Victim:
    """An installation with its tree made and a database in it."""
    made = Victim(base)
    made.make_tree()
    made.database()
    return made
