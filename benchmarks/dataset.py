# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The data that is measured: a `kalshi` tree of about 800 MB, and 100,000 small files; made once, kept by content."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

TICKERS = [
    f"KX{asset}-26{month}{day:02d}{hour:02d}-T{strike}"
    for asset, strike in (("BTCD", 94249), ("ETHD", 3149), ("HIGHNY", 61), ("INXD", 6724))
    for month in ("JAN", "FEB", "MAR")
    for day in range(1, 29, 3)
    for hour in (9, 12, 17)
]
FIRST_SECOND = 1_767_225_600
MEGABYTE = 1_000_000
DATABASES = {
    "databases/trade_history/trades.db": 450 * MEGABYTE,
    "databases/price_history/btc_price_history.db": 70 * MEGABYTE,
    "databases/accounts/kalshi/demo/fills.db": 40 * MEGABYTE,
    "databases/accounts/kalshi/demo/positions.db": 15 * MEGABYTE,
    "databases/accounts/kalshi/demo/settlements.db": 15 * MEGABYTE,
}
LOGS, LOG_BYTES = 40, 5_300_000
SMALL_FILES = 100_000


class Market:
    """Trades as they come: time moves on, prices walk, ids are random."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._cents = dict.fromkeys(TICKERS, 50)
        self._milliseconds = FIRST_SECOND * 1000

    def trade(self) -> dict[str, Any]:
        """The next trade."""
        chance = self._random
        ticker = TICKERS[int(chance.random() ** 2 * len(TICKERS))]
        price = min(99, max(1, self._cents[ticker] + chance.choice((-2, -1, 0, 0, 1, 2))))
        self._cents[ticker] = price
        self._milliseconds += int(chance.expovariate(1 / 700))
        number = chance.getrandbits(128)
        return {
            "trade_id": str(UUID(int=number)),
            "ticker": ticker,
            "side": "yes" if chance.random() < 0.6 else "no",
            "price": price,
            "count": 1 + int(chance.expovariate(0.08)),
            "probability": round(price / 100 + chance.gauss(0, 0.02), 4),
            "taker": chance.random() < 0.5,
            "created_ms": self._milliseconds,
        }


def kalshi_tree(cache: Path) -> Path:
    """The tree of about 800 MB."""
    return _kept(cache, "kalshi", _build_kalshi)


def small_files(cache: Path, suffix: str) -> Path:
    """100,000 small files named `*.SUFFIX`."""
    return _kept(cache, f"small-{suffix}", lambda root: _build_small(root, suffix))


def lake(cache: Path) -> Path:
    """Tables of a lake: 22,800 files of some kilobytes, a quarter of them commits of their logs."""
    return _kept(cache, "lake", _build_lake)


def _kept(cache: Path, name: str, build: Any) -> Path:
    content = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    place = cache / f"{name}-{content}"
    if not place.exists():
        for old in cache.glob(f"{name}-*"):
            shutil.rmtree(old)
        unfinished = cache / f".{name}.{os.getpid()}"
        build(unfinished)
        unfinished.rename(place)
    return place


def _build_kalshi(root: Path) -> None:
    for path, size in DATABASES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        _build_database(root / path, size)
    directory = root / "databases/trade_history/feed"
    directory.mkdir()
    for number in range(LOGS):
        (directory / f"feed-{number:02d}.jsonl").write_text("".join(_lines(f"feed {number}", LOG_BYTES)))
    for path, content in (
        ("credentials/kalshi/demo/key.json", {"key_id": "an-example", "private_key": "none"}),
        ("preferences/trading/trade_preferences.json", {"auto_stop": True, "position_size": 1}),
        ("state/account_mode.json", {"mode": "demo"}),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(json.dumps(content))


def _build_database(path: Path, size: int) -> None:
    market = Market(path.name)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(
        "CREATE TABLE trades (id INTEGER PRIMARY KEY, trade_id TEXT NOT NULL, ticker TEXT NOT NULL, side TEXT NOT NULL,"
        " price INTEGER, count INTEGER, probability REAL, taker INTEGER, created_ms INTEGER)"
    )
    connection.execute("CREATE INDEX trades_by_market ON trades (ticker, created_ms)")
    while path.stat().st_size < size:
        rows = (tuple(market.trade().values()) for _ in range(50_000))
        connection.executemany(
            "INSERT INTO trades (trade_id, ticker, side, price, count, probability, taker, created_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def _lines(seed: str, size: int) -> Iterator[str]:
    market = Market(seed)
    while size > 0:
        line = json.dumps(market.trade()) + "\n"
        size -= len(line)
        yield line


def _build_small(root: Path, suffix: str) -> None:
    market = Market(suffix)
    for number in range(SMALL_FILES):
        if number % 1000 == 0:
            directory = root / "state" / "orders" / f"{number // 1000:03d}"
            directory.mkdir(parents=True)
        order = {"order": number, "fills": [market.trade() for _ in range(number % 4)]}
        (directory / f"order-{number:06d}.{suffix}").write_text(json.dumps(order))


def _build_lake(root: Path) -> None:
    chance = random.Random("lake")
    for table in range(40):
        directory = root / "state" / "lake" / f"table_{table:02d}"
        (directory / "_delta_log").mkdir(parents=True)
        for number in range(140):
            commit = {"add": {"path": f"part-{number}", "size": number, "stats": "x" * 400}}
            (directory / "_delta_log" / f"{number:020d}.json").write_text(json.dumps(commit) + "\n")
        for number in range(430):
            day = directory / f"date=2026-{number % 12 + 1:02d}-{number % 28 + 1:02d}"
            day.mkdir(exist_ok=True)
            name = f"part-{number:05d}-{chance.getrandbits(64):016x}-c000.snappy.parquet"
            (day / name).write_bytes(chance.randbytes(chance.randint(2000, 9000)))
