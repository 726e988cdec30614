# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Paper-trading bot: its data lives inside the git checkout that deploys update."""

from __future__ import annotations

from typing import Any

_TIMEFRAMES = ("5m", "1h", "12h", "24h")

PROFILE: dict[str, Any] = {
    "name": "paper_bot",
    "description": "Paper-trading bot whose outputs and logs lie inside its git checkout",
    # Whose it is has to be said: such a bot runs as the account that its person logs in with.
    "root": "/opt/paper_bot",
    "archive_prefix": "paper_bot",
    # The root is the checkout: what is not listed here is code and belongs to deploys.
    "root_mode": "0755",
    "components": {
        "paper_trading_outputs": {
            "description": "Trading logs, signals and executions, one directory for each time frame",
            "paths": ["paper_trading_outputs"],
            "directories": ["paper_trading_outputs", *(f"paper_trading_outputs/{name}" for name in _TIMEFRAMES)],
            "directory_mode": "0755",
            "critical": True,
            "files": [
                {"pattern": "*.jsonl", "kind": "jsonl"},
                {"pattern": "*.jsonl.gz", "kind": "jsonl"},
                {"pattern": "*.csv", "kind": "file"},
            ],
        },
        "logs": {
            "description": "Logs of the application, the bots and their start",
            "paths": ["logs"],
            "directories": ["logs"],
            "directory_mode": "0755",
            "files": [{"pattern": "*.log", "kind": "log"}],
        },
    },
    # Started with setsid and nohup, so there is no unit to stop. Name yours here once there is one.
    "services": [],
    "schedules": [
        {"tier": "daily", "calendar": "*-*-* 02:00:00"},
        {"tier": "weekly", "calendar": "Sun *-*-* 03:00:00"},
    ],
    "retention": {"daily": 7, "weekly": 4},
    "deploy": {
        "preserve": [
            *("*.jsonl", "*.jsonl.gz", "*.csv", "*.log", ".env"),
            *(f"*{kind}{part}" for kind in (".db", ".sqlite", ".sqlite3") for part in ("", "-wal", "-shm", "-journal")),
        ],
    },
}
