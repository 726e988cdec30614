# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small application with a backup, a clock that can be set, and archives made by hand."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import create_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry, Header
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.drill_settings import Drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog

FILLS = "databases/accounts/kalshi/demo/fills.db"


A_BOT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("CREATE TABLE fills (id INTEGER PRIMARY KEY, trade_id TEXT)")
connection.executemany("INSERT INTO fills (trade_id) VALUES (?)", [(f"t{n}",) for n in range(int(sys.argv[2]))])
connection.commit()
print("ready", flush=True)
sys.stdin.read()
"""


class SetClock(SystemClock):
    """The system's clock, ahead by so much; each look at the stop watch may take a while too."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        self.each_look = 0.0
        self._looks = 0

    def now(self) -> datetime:
        return super().now() + self.ahead

    def monotonic(self) -> float:
        self._looks += 1
        return super().monotonic() + self._looks * self.each_look


class Bench:
    """The application, its ports, and what tests do with it."""

    def __init__(self, base: Path, **options: Any) -> None:
        self.base = base
        self.notes: list[str] = []
        self.clock = SetClock()
        places = {name: str(base / name) for name in ("root", "backup_dir", "state_dir", "config_dir", "bin_dir")}
        self.application = resolve_application("kalshi", become=False, **{**places, **options})
        notes = self.notes

        class Progress(NoProgress):
            def note(self, text: str) -> None:
                notes.append(text)

        self.ports = Ports(SubprocessRunner(), self.clock, Progress())
        tree(self.application, self.ports, fix=True)

    @property
    def root(self) -> Path:
        return Path(self.application.root)

    @property
    def backups(self) -> Path:
        return Path(self.application.backup_dir)

    @property
    def state(self) -> Path:
        return Path(self.application.application_state_dir)

    def set(self, **settings: Any) -> None:
        """Other settings for drills."""
        profile = dataclasses.replace(self.application.profile, drill=Drill(**settings))
        self.application = dataclasses.replace(self.application, profile=profile)

    def database(self, rows: int = 100, path: str = FILLS) -> sqlite3.Connection:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(target)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS fills (id INTEGER PRIMARY KEY, trade_id TEXT)")
        add_rows(connection, rows)
        return connection

    @contextmanager
    def bot(self, rows: int = 100, path: str = FILLS) -> Iterator[None]:
        """A process that keeps a database with so many rows open: they stay in its WAL."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-B", "-c", A_BOT, str(target), str(rows)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                yield
            finally:
                process.stdin.close()

    def backup(self, **options: Any) -> Path:
        made = backup(self.application, self.ports, **options)
        return Path(made.record["backup"]["path"])

    def drill(self, **options: Any) -> Outcome:
        return drill(self.application, self.ports, **options)

    def records(self) -> list[Any]:
        return [json.loads(path.read_text()) for path in sorted((self.state / "drills").glob("*.json"))]

    def leftovers(self, base: Optional[Path] = None) -> list[str]:
        return [name for name in os.listdir(base or self.state) if name.startswith(".tradekeep")]

    def hand_made(self, contents: dict[str, tuple[bytes, str, dict[str, Any]]], **header: Any) -> Path:
        """An archive of ours with whatever content, kind and facts; checksums and manifest agree with them."""
        now = self.clock.now()
        name = f"{self.application.profile.archive_prefix}_{now:%Y%m%d_%H%M%S}.tar.gz"
        path = self.backups / name
        self.backups.mkdir(mode=0o700, exist_ok=True)
        fields = {"application": "kalshi", "profile": "kalshi", "prefix": "user_data", **header}
        head = Header(created=f"{now:%Y-%m-%dT%H:%M:%SZ}", **fields)
        mtime = int(now.timestamp()) * 10**9
        with create_container(path, runner=self.ports.runner) as container:
            writer = ArchiveWriter(container.stream, head)
            for where, (content, kind, facts) in contents.items():
                entry = Entry(where, "file", len(content), 0o600, "root", "root", mtime, None, None, kind, None, facts)
                writer.add_content(entry, content)
            totals = writer.finish()
        sidecar = {
            "application": "kalshi",
            "size": container.size,
            "sha256": container.sha256,
            "files": len(contents),
            "bytes": totals.bytes,
            "manifest_sha256": totals.manifest_sha256,
            "verified": {"level": "entries"},
        }
        path.with_name(name + ".sha256").write_text(f"{container.sha256}  {name}\n")
        path.with_name(name + ".json").write_text(json.dumps(sidecar))
        return path

    def old_archive(self, files: dict[str, bytes], times: Optional[dict[str, float]] = None) -> Path:
        """What the old scripts made: no manifest, no sidecars, everything beneath ``NAME/user_data``."""
        self.backups.mkdir(mode=0o700, exist_ok=True)
        path = self.backups / f"user_data_{self.clock.now():%Y%m%d_%H%M%S}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(f"user_data_backup/user_data/{name}")
                member.size = len(content)
                member.mtime = int((times or {}).get(name, self.clock.now().timestamp() - 60))
                archive.addfile(member, io.BytesIO(content))
        return path

    def catalog(self) -> LocalCatalog:
        return LocalCatalog(self.application, self.clock)


def add_rows(connection: sqlite3.Connection, rows: int) -> None:
    connection.executemany("INSERT INTO fills (trade_id) VALUES (?)", [(f"t{n}",) for n in range(rows)])
    connection.commit()


def database_bytes(place: Path, rows: int = 400) -> bytes:
    """A database with an index, as one file."""
    path = place / "made.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE fills (id INTEGER PRIMARY KEY, trade_id TEXT)")
    connection.execute("CREATE INDEX by_trade ON fills (trade_id)")
    add_rows(connection, rows)
    connection.close()
    content = path.read_bytes()
    path.unlink()
    return content


def snapshot(top: Path) -> dict[str, tuple[Any, ...]]:
    """Type, mode, owner, time and digest of everything."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in [*names, *files]:
            path = Path(directory) / name
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            digest = hashlib.sha256(content).hexdigest()
            found[str(path.relative_to(top))] = (status.st_mode, status.st_uid, status.st_mtime_ns, digest)
    return found
