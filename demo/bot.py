#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A small trading bot: fills go into SQLite with a live WAL, into a JSON Lines log and into a JSON document.

    bot.py USER_DATA RECORD

It behaves like the real ones where that hurts: the database stays open and nothing leaves its WAL, the document is
rewritten in place. After each fill it notes in RECORD, outside its data, what it has committed; the demo compares
with that. It ends by itself when whoever started it is gone.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

ACCOUNT = "databases/accounts/kalshi/demo"
FILLS = f"{ACCOUNT}/fills.db"
TRADES = "databases/trade_history/trades.db"
OTHERS = (
    f"{ACCOUNT}/positions.db",
    f"{ACCOUNT}/settlements.db",
    TRADES,
    "databases/price_history/btc_price_history.db",
)
STATE = "state/system_state.json"
LOG = "state/fills.jsonl"
PREFERENCES = "preferences/trading/trade_preferences.json"
SECONDS_BETWEEN_FILLS = 0.01
# Enough for a database of many pages, so that damage in its middle is damage to rows.
PAST_ENTRIES = 2000


def open_database(path: Path) -> sqlite3.Connection:
    """Open for writing, readable by the owner only (SQLite gives its sidecars the same mode)."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return sqlite3.connect(path, isolation_level=None, timeout=30)


def create_others(root: Path) -> None:
    """The databases that the system has besides its fills; they rest while it trades."""
    for name in OTHERS:
        connection = open_database(root / name)
        connection.execute("CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, data TEXT)")
        rows = ((number, f"entry {number} of the past") for number in range(1, PAST_ENTRIES + 1))
        connection.execute("BEGIN")
        connection.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?)", rows)
        connection.execute("COMMIT")
        connection.close()


def open_fills(root: Path) -> sqlite3.Connection:
    """The database of fills in WAL mode; without checkpoints, what was committed is in the ``-wal`` file alone."""
    fills = open_database(root / FILLS)
    fills.execute("PRAGMA journal_mode=WAL")
    fills.execute("PRAGMA wal_autocheckpoint=0")
    fills.execute(
        "CREATE TABLE IF NOT EXISTS fills (id INTEGER PRIMARY KEY, ticker TEXT, side TEXT, count INTEGER, "
        "price REAL, created_time TEXT)"
    )
    return fills


def trade(root: Path, fills: sqlite3.Connection) -> dict[str, object]:
    """One fill, committed to the database, then told to the log and to the state document."""
    fill: dict[str, object] = {
        "ticker": random.choice(("KXBTCD-25JUL2817", "KXBTCD-25JUL2818")),
        "side": random.choice(("yes", "no")),
        "count": random.randint(1, 10),
        "price": random.randint(1, 99) / 100,
        "created_time": datetime.now(timezone.utc).isoformat(),
    }
    statement = "INSERT INTO fills (ticker, side, count, price, created_time) VALUES (?, ?, ?, ?, ?)"
    fill = {"id": fills.execute(statement, tuple(fill.values())).lastrowid, **fill}
    with (root / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(fill) + "\n")
    (root / STATE).write_text(json.dumps({"mode": "demo", "last_fill": fill["id"]}), encoding="utf-8")
    return fill


def main() -> None:
    """Trade until nobody wants it any more."""
    root, record = (Path(argument) for argument in sys.argv[1:])
    parent = os.getppid()
    os.umask(0o022)
    # A bot that cannot read how it is to trade does not trade.
    json.loads((root / PREFERENCES).read_text(encoding="utf-8"))
    create_others(root)
    fills = open_fills(root)
    with record.open("a", encoding="utf-8") as committed:
        while os.getppid() == parent:
            fill = trade(root, fills)
            committed.write(json.dumps(fill) + "\n")
            committed.flush()
            time.sleep(SECONDS_BETWEEN_FILLS)


if __name__ == "__main__":
    main()
