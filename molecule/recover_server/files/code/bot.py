#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A trading bot: fills go into SQLite with a live WAL and into a log. At its start it says what it finds.

It does not trade without its portfolio, a document that it begins itself where there is none.
"""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

OUTPUTS = Path(__file__).resolve().parent / "paper_trading_outputs"
SECONDS_BETWEEN_FILLS = 0.05


def portfolio() -> dict[str, float]:
    """What is held."""
    path = OUTPUTS / "portfolio.json"
    if not path.exists():
        path.write_text(json.dumps({"EUR": 150.25, "BTC": 0.02456789}), encoding="utf-8")
    held: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return held


def main() -> None:
    """Trade until somebody ends it."""
    portfolio()
    fills = sqlite3.connect(OUTPUTS / "fills.db", isolation_level=None, timeout=30)
    fills.execute("PRAGMA journal_mode=WAL")
    # No checkpoint while it runs: what was committed is in the -wal file alone.
    fills.execute("PRAGMA wal_autocheckpoint=0")
    fills.execute("CREATE TABLE IF NOT EXISTS fills (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    found = fills.execute("SELECT count(*) FROM fills").fetchone()[0]
    print(f"started with {found} fills", flush=True)
    while True:
        number = fills.execute("INSERT INTO fills DEFAULT VALUES").lastrowid
        with open(OUTPUTS / "fills.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps({"fill": number}) + "\n")
        time.sleep(SECONDS_BETWEEN_FILLS)


if __name__ == "__main__":
    main()
