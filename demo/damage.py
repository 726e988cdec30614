# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What goes wrong with live data; each function does one thing to it and says what."""

from __future__ import annotations

import os
from pathlib import Path

import bot

CREDENTIAL = "credentials/kalshi/demo/kalshi.pem"


def delete_wal(root: Path) -> str:
    """SQLite calls the database that remains a good one."""
    wal = root / f"{bot.FILLS}-wal"
    size = wal.stat().st_size
    wal.unlink()
    (root / f"{bot.FILLS}-shm").unlink()
    return f"deleted fills.db-wal ({size // 1024} KiB of committed fills)"


def corrupt_page(root: Path) -> str:
    """Half of a database's pages, from the second on, become noise."""
    path = root / bot.TRADES
    half = path.stat().st_size // 2
    with path.open("r+b") as database:
        database.seek(4096)
        database.write(os.urandom(half))
    return f"overwrote {half // 1024} KiB in the middle of trades.db"


def empty_database(root: Path) -> str:
    """As a full disk leaves it."""
    os.truncate(root / bot.OTHERS[0], 0)
    return "truncated positions.db to 0 bytes"


def cut_document(root: Path) -> str:
    """As a crash in the middle of a rewrite leaves it."""
    path = root / bot.PREFERENCES
    os.truncate(path, path.stat().st_size // 2)
    return "cut trade_preferences.json in half"


def cut_log(root: Path) -> str:
    """The first half remains, with a torn last line."""
    path = root / bot.LOG
    os.truncate(path, path.stat().st_size // 2)
    return "cut fills.jsonl in half"


def delete_credential(root: Path) -> str:
    """A key that the exchange shows once."""
    (root / CREDENTIAL).unlink()
    return f"deleted {Path(CREDENTIAL).name}"


def open_directory(root: Path) -> str:
    """A careless chmod."""
    os.chmod(root / "credentials", 0o755)
    return "made credentials/ readable by everyone"


ALL = (delete_wal, corrupt_page, empty_database, cut_document, cut_log, delete_credential, open_directory)
