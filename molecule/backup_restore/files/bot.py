#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A small trading bot: writes fills into SQLite with a live WAL, a state document and a JSON Lines log, all the time.

It behaves like the real ones where that hurts: it rewrites its state in place, keeps its database open, reads its
preferences only at the start, and, when it does not like them, dies a moment after it seemed to have started.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from pathlib import Path

ROOT = Path("/opt/trading_system/user_data")
ACCOUNT = ROOT / "databases/accounts/kalshi/demo"
DATABASES = (
    ACCOUNT / "positions.db",
    ACCOUNT / "settlements.db",
    ROOT / "databases/trade_history/trades.db",
    ROOT / "databases/price_history/btc_price_history.db",
)
FILLS = ACCOUNT / "fills.db"
PREFERENCES = ROOT / "preferences/trading/trade_preferences.json"
STATE = ROOT / "state/system_state.json"
LOG = ROOT / "state/fills.jsonl"
SECONDS_BETWEEN_FILLS = 0.05


def open_database(path: Path) -> sqlite3.Connection:
    """A database of the bot, readable by its owner only (SQLite gives its sidecars the same mode)."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
        sys.exit(f"{path}: damaged")
    connection.execute("PRAGMA journal_mode=WAL")
    # No checkpoint while it runs: what was committed is in the -wal file alone.
    connection.execute("PRAGMA wal_autocheckpoint=0")
    return connection


def create_others() -> None:
    """The databases that the system has besides its fills."""
    for path in DATABASES:
        connection = open_database(path)
        connection.execute("CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, data TEXT)")
        connection.execute("INSERT OR IGNORE INTO entries VALUES (1, 'first')")
        connection.close()


def check_preferences() -> None:
    """Refuse to trade with preferences that make no sense, late enough to look started."""
    preferences = json.loads(PREFERENCES.read_text(encoding="utf-8"))
    if preferences["position_size"] < 1:
        time.sleep(2)
        sys.exit(f"{PREFERENCES}: position_size {preferences['position_size']} makes no sense")


def trade(fills: sqlite3.Connection) -> None:
    """One fill: committed to the database first, then told to the log and to the state document."""
    cursor = fills.execute("INSERT INTO fills (trade_id, data) VALUES (lower(hex(randomblob(8))), '{}')")
    number = cursor.lastrowid
    with open(LOG, "a", encoding="utf-8") as log:
        log.write(json.dumps({"fill": number, "time": time.time()}) + "\n")
    with open(STATE, "w", encoding="utf-8") as state:
        json.dump({"last_fill": number, "mode": "demo"}, state)


def main() -> None:
    """Trade until somebody ends it."""
    os.umask(0o022)
    check_preferences()
    create_others()
    fills = open_database(FILLS)
    fills.execute("CREATE TABLE IF NOT EXISTS fills (id INTEGER PRIMARY KEY, trade_id TEXT UNIQUE, data TEXT)")
    while True:
        trade(fills)
        time.sleep(SECONDS_BETWEEN_FILLS)


if __name__ == "__main__":
    main()
