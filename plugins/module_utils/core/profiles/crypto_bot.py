# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""AI crypto trading bot: JSON documents with ``.bak`` copies, Parquet history, logs and reports."""

from __future__ import annotations

from typing import Any

PROFILE: dict[str, Any] = {
    "name": "crypto_bot",
    "description": "AI crypto trading bot with file storage",
    "root": "/opt/AI-crypto-bot",
    "owner": "crypto_bot",
    "group": "crypto_bot",
    "archive_prefix": "crypto_bot",
    # The root is the checkout: what is not listed here is code. Files have the modes of the bot's own umask, as it
    # writes its documents anew each time; their directories keep others out.
    "root_mode": "0755",
    "components": {
        # One component for the whole of data/, so that a document which a later version adds is kept too. There are no
        # templates: the bot makes its portfolio from the exchange's balances, and one made up here would be traded on.
        "data": {
            "description": "Portfolio, performance, cache, market history and backtests",
            "paths": ["data"],
            "directories": [
                "data",
                "data/performance",
                "data/cache",
                "data/historical",
                "data/backtest_results",
            ],
            # What the bot is just writing, before it gives it its name.
            "exclude": ["*.tmp"],
            "directory_mode": "0750",
            "critical": True,
            "files": [
                {"pattern": "data/portfolio.json", "kind": "json", "required": True},
                {"pattern": "data/performance/performance_config.json", "kind": "json", "required": True},
                # A copy may be the torn one that recovery is for: its bytes are kept as they are.
                {"pattern": "*.bak", "kind": "file"},
                {"pattern": "*.parquet", "kind": "file"},
                {"pattern": "*.json", "kind": "json"},
            ],
        },
        "dashboard": {
            "description": "What the web dashboard shows",
            "paths": ["dashboard/data/backtest_results"],
            "directories": ["dashboard/data/backtest_results"],
            "directory_mode": "0750",
            "files": [{"pattern": "*.json", "kind": "json"}],
        },
        "reports": {
            "description": "Interval optimisation, daily health and weekly validation",
            "paths": ["reports"],
            "directories": [
                "reports",
                "reports/interval_optimization",
                "reports/daily_health",
                "reports/weekly_validation",
            ],
            "directory_mode": "0750",
        },
        "logs": {
            "description": "Application log and daily reports",
            "paths": ["logs"],
            "directories": ["logs"],
            "directory_mode": "0755",
            "files": [{"pattern": "*.log", "kind": "log"}],
        },
    },
    # The document names no unit or program. Name yours here, so that a restore can stop it.
    "services": [],
    "schedules": [
        {"tier": "daily", "calendar": "*-*-* 01:00:00"},
        {"tier": "monthly", "calendar": "*-*-01 04:00:00"},
    ],
    "retention": {"daily": 30, "monthly": 12},
    # The keys of the exchange are in the environment alone, so never in a backup.
    "ignore_uncovered": [".env"],
    "deploy": {"preserve": [".env", "*.log"]},
}
