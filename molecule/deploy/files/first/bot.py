#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A trading bot whose data lies beside its code: fills go into SQLite with a live WAL, a JSON Lines log and a document.

What it has written it tells a witness outside of the checkout, in this order: what the witness knows is in the log,
and what is in the log is in the database, whenever the bot is killed.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent
OUTPUTS = CHECKOUT / "paper_trading_outputs"
WITNESS = Path("/srv/witness/fills")
SECONDS_BETWEEN_FILLS = 0.02


def main() -> None:
    """Trade until somebody ends it; a bad release looks started and dies a second later."""
    release = json.loads((CHECKOUT / "release.json").read_text(encoding="utf-8"))
    if release["crash"]:
        time.sleep(1)
        sys.exit(f"release {release['name']} cannot trade")
    fills = sqlite3.connect(OUTPUTS / "fills.db", isolation_level=None, timeout=30)
    fills.execute("PRAGMA journal_mode=WAL")
    # No checkpoint while it runs: what was committed is in the -wal file alone.
    fills.execute("PRAGMA wal_autocheckpoint=0")
    fills.execute("CREATE TABLE IF NOT EXISTS fills (id INTEGER PRIMARY KEY AUTOINCREMENT, release TEXT)")
    while True:
        trade(fills, release["name"])
        time.sleep(SECONDS_BETWEEN_FILLS)


def trade(fills: sqlite3.Connection, release: str) -> None:
    """One fill."""
    number = fills.execute("INSERT INTO fills (release) VALUES (?)", (release,)).lastrowid
    with open(OUTPUTS / "fills.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps({"fill": number, "release": release}) + "\n")
    with open(OUTPUTS / "state.json", "w", encoding="utf-8") as state:
        json.dump({"last_fill": number, "release": release}, state)
    with open(WITNESS, "a", encoding="ascii") as witness:
        witness.write(f"{number}\n")


if __name__ == "__main__":
    main()
