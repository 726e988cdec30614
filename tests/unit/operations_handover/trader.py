# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot: BOT BASE. Commits fills, says which ones in BASE/../promised, and keeps an exclusive lock while it lives.

The lock is on a file that both servers share: a second bot that finds it taken writes BASE/../two_bots and ends.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

LONGEST_LIFE_SECONDS = 1800.0
"""A test that was killed stops nothing any more; no test lasts as long."""
FILLS = "databases/accounts/kalshi/demo/fills.db"


def main() -> None:
    base = Path(sys.argv[1])
    alone = os.open(base.parent / "alone", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        (base.parent / "two_bots").write_text(str(base))
        return
    say(base, "start")
    # Whoever started it may have shielded itself; systemd starts bots with no signal blocked.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGTERM, lambda *_: end(base))
    connection = sqlite3.connect(base / "data" / FILLS, isolation_level=None, timeout=30)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma wal_autocheckpoint=20")
    connection.execute("create table if not exists fills(id integer primary key, trade_id text not null)")
    promised = os.open(base.parent / "promised", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    log = os.open(base / "data/state/trades.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    ends = time.monotonic() + LONGEST_LIFE_SECONDS
    while time.monotonic() < ends:
        cursor = connection.execute("insert into fills(trade_id) values (?)", (f"of {base.name}",))
        os.write(promised, f"{cursor.lastrowid} of {base.name}\n".encode())
        os.write(log, b'{"fill": %d}\n' % (cursor.lastrowid or 0))
        time.sleep(0.005)


def say(base: Path, what: str) -> None:
    log = os.open(base.parent / "lives", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(log, f"{time.monotonic_ns()} {base.name} {what}\n".encode())
    os.close(log)


def end(base: Path) -> None:
    """As a killed bot ends: what is in the WAL stays there."""
    say(base, "end")
    os._exit(0)


if __name__ == "__main__":
    main()
