# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot that writes as fast as it can: BOT DATABASE DOCUMENT LINES RECORD.

Commits fills in WAL mode, rewrites a document in place in small pieces and appends lines in two writes each. After each
commit, the number of the last fill is written to RECORD; what stands there has been promised.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time


def main() -> None:
    database, document, lines, record = sys.argv[1:5]
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table if not exists fills(id integer primary key, trade_id text not null)")
    promise = os.open(record, os.O_WRONLY | os.O_CREAT, 0o600)
    log = os.open(lines, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    number = 0
    while True:
        number += 1
        connection.execute("begin")
        connection.execute("insert into fills values (?, ?)", (number, f"trade {number}" * 10))
        connection.execute("commit")
        os.pwrite(promise, f"{number:12d}".encode(), 0)
        line = json.dumps({"fill": number, "text": "y" * 50}) + "\n"
        os.write(log, line[:20].encode())
        os.write(log, line[20:].encode())
        if number % 5 == 0:
            rewrite(document, number)


def rewrite(document: str, number: int) -> None:
    """In place and in pieces, as bots do; then a breath, without which nobody could ever read it."""
    text = json.dumps({"number": number, "again": number, "filler": ["x" * 100] * 50}).encode()
    with open(document, "wb", buffering=0) as stream:
        for start in range(0, len(text), 1000):
            stream.write(text[start : start + 1000])
    time.sleep(0.002)


if __name__ == "__main__":
    main()
