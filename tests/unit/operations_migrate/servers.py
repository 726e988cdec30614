# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Small servers to migrate between, and what the tests of migrations look at."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

FILLS = "databases/accounts/kalshi/demo/fills.db"
PEM = "credentials/kalshi/demo/kalshi.pem"
PREFERENCES = "preferences/trading/trade_preferences.json"


def pem(label: str = "RSA PRIVATE KEY", content: bytes | None = None) -> bytes:
    """Armour around something whose outermost length is right."""
    body = base64.encodebytes(b"\x30\x82\x01\x00" + bytes(256) if content is None else content)
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label.encode(), body, label.encode())


def listing(top: Path) -> dict[str, Any]:
    """Mode and digest of everything below a directory, and the time of files.

    Not of what readers of a WAL share: it is written as memory, and the kernel notes the time when it likes.
    """
    found: dict[str, Any] = {}
    for directory, names, files in os.walk(top):
        for name in [".", *names, *files]:
            path = Path(directory, name)
            status = path.lstat()
            is_file = path.is_file() and not path.is_symlink()
            is_held = is_file and not name.endswith("-shm")
            content = path.read_bytes() if is_held else b""
            found[str(path.relative_to(top))] = (
                oct(status.st_mode),
                status.st_mtime_ns if is_held else 0,
                hashlib.sha256(content).hexdigest(),
            )
    return found


class Server:
    """One host's installation below a directory of its own."""

    def __init__(self, base: Path, profile: Any = "kalshi", **options: Any) -> None:
        self.base = base
        self.notes: list[str] = []
        places = {"root": "data", "backup_dir": "backups", "state_dir": "state", "config_dir": "etc", "bin_dir": "bin"}
        paths = {name: str(base / place) for name, place in places.items()}
        self.application = resolve_application(profile, **{"become": False, **paths, **options})
        notes = self.notes

        class Progress(NoProgress):
            def note(self, text: str) -> None:
                notes.append(text)

        self.ports = Ports(SubprocessRunner(), SystemClock(), Progress())
        tree(self.application, self.ports, fix=True)
        config = Path(self.application.config_file)
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(render_configuration(self.application))

    @property
    def root(self) -> Path:
        return Path(self.application.root)

    @property
    def state(self) -> Path:
        return Path(self.application.application_state_dir)

    @property
    def backups(self) -> list[str]:
        place = Path(self.application.backup_dir)
        return sorted(item.name for item in place.glob("*.tar.gz") if not item.is_symlink()) if place.is_dir() else []

    def write(self, path: str, content: bytes | str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return target

    def database(self, path: str = FILLS, rows: int = 100) -> sqlite3.Connection:
        """A database with so many fills in its WAL, which the open connection keeps alive."""
        connection = sqlite3.connect(self.root / path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS fills (id INTEGER PRIMARY KEY, trade_id TEXT)")
        connection.executemany("INSERT INTO fills (trade_id) VALUES (?)", [(f"t{n}",) for n in range(rows)])
        connection.commit()
        return connection

    def rows(self, path: str = FILLS) -> int:
        connection = sqlite3.connect(self.root / path)
        try:
            return int(connection.execute("SELECT count(*) FROM fills").fetchone()[0])
        finally:
            connection.close()

    def migrate(self, source: Path | str, step: Callable[[str], None] | None = None, **options: Any) -> Outcome:
        ports = self.ports if step is None else dataclasses.replace(self.ports, step=step)
        return migrate(self.application, ports, source=str(source), **options)

    def back_up(self, **options: Any) -> Path:
        made = backup(self.application, self.ports, **options)
        return Path(str(made.record["backup"]["path"]))
