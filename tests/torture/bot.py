# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot that trades while its code is deployed: BOT CHECKOUT PROMISES.

It keeps its log and its database open, appends numbered lines, commits numbered rows in WAL mode and replaces a JSON
document by rename. What stands in PROMISES has been written: lines, rows, documents, failed writes and rounds. Numbers
go on where the log and the database stand, so that a bot that is started again promises no less.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Callable

LOG, DATABASE, DOCUMENT = "logs/bot.jsonl", "data/trades.db", "data/portfolio.json"


class Bot:
    """All that it has written, and where."""

    def __init__(self, checkout: Path, promises: Path) -> None:
        self.counts = {"lines": 0, "rows": 0, "documents": 0, "failures": 0, "rounds": 0}
        self.promises = os.open(promises, os.O_RDWR | os.O_CREAT, 0o600)
        held = os.pread(self.promises, 200, 0).split()
        self.counts.update(zip(self.counts, map(int, held)))
        self.log = os.open(checkout / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.database = sqlite3.connect(checkout / DATABASE, isolation_level=None)
        self.database.execute("pragma journal_mode=wal")
        self.database.execute("pragma synchronous=normal")
        self.database.execute("pragma wal_autocheckpoint=100")
        self.database.execute("create table if not exists trades(id integer primary key, text text not null)")
        # Killed between a commit and its promise, it has written more than it promised.
        (written,) = self.database.execute("select coalesce(max(id), 0) from trades").fetchone()
        self.counts["rows"] = max(self.counts["rows"], written)
        self.document = checkout / DOCUMENT

    def append(self, number: int) -> None:
        os.write(self.log, (json.dumps({"line": number, "text": "y" * 40}) + "\n").encode())

    def commit(self, number: int) -> None:
        self.database.execute("insert into trades values (?, ?)", (number, f"trade {number}"))

    def replace(self, number: int) -> None:
        fresh = self.document.with_name(f"{self.document.name}.tmp")
        fresh.write_text(json.dumps({"document": number, "cash": "100.00"}))
        os.replace(fresh, self.document)

    def attempt(self, what: str, write: Callable[[int], None]) -> None:
        """Promise the next number only once it is written."""
        try:
            write(self.counts[what] + 1)
        except (OSError, sqlite3.Error):
            self.counts["failures"] += 1
        else:
            self.counts[what] += 1

    def run(self) -> None:
        while True:
            self.attempt("lines", self.append)
            self.attempt("rows", self.commit)
            self.attempt("documents", self.replace)
            self.counts["rounds"] += 1
            os.pwrite(self.promises, "".join(f"{count:12d}" for count in self.counts.values()).encode(), 0)
            time.sleep(0.004)


if __name__ == "__main__":
    Bot(Path(sys.argv[1]), Path(sys.argv[2])).run()
