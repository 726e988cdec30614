#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot that trades all the time, and says what it does in /srv/witness/lives.

A line for its start, for its end, and for each fill once it is committed, with the time of a clock that both test hosts
share (they have one kernel).
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time

ROOT = "/opt/trading_system/user_data"
WITNESS = "/srv/witness"


def main() -> None:
    name = socket.gethostname()
    lives = os.open(f"{WITNESS}/lives", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def beat(what: str) -> None:
        os.write(lives, f"{time.monotonic_ns()} {os.getpid()} {name} {what}\n".encode())

    def end(*_: object) -> None:
        beat("end")
        os._exit(0)  # as a killed bot: its WAL stays

    signal.signal(signal.SIGTERM, end)
    beat("start")
    database = f"{ROOT}/databases/accounts/kalshi/demo/fills.db"
    connection = sqlite3.connect(database, isolation_level=None, timeout=30)
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table if not exists fills(id integer primary key, host text not null)")
    log = os.open(f"{ROOT}/state/trades.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    while True:
        fill = connection.execute("insert into fills(host) values (?)", (name,)).lastrowid
        os.write(log, f'{{"fill": {fill}}}\n'.encode())
        beat(str(fill))
        time.sleep(0.02)


if __name__ == "__main__":
    main()
