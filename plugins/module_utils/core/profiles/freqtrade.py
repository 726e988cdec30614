# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""freqtrade: ``user_data`` and the trades database, wherever of the two usual places it lies."""

from __future__ import annotations

from typing import Any

_USER_DATA = ("freqaimodels", "hyperopt_results", "hyperopts", "logs", "notebooks", "strategies")
# Downloaded again by "freqtrade download-data", and made again from that.
_AGAIN = ("data", "backtest_results", "plot")

PROFILE: dict[str, Any] = {
    "name": "freqtrade",
    "description": "freqtrade: user_data, configurations with exchange keys, and the trades database",
    "root": "/opt/freqtrade",
    "owner": "freqtrade",
    "group": "freqtrade",
    "archive_prefix": "freqtrade",
    "root_mode": "0755",
    "components": {
        "user_data": {
            "description": "Strategies, models and, with Docker, configuration and trades; no candles, no backtests",
            "paths": ["user_data"],
            "directories": ["user_data", *(f"user_data/{name}" for name in _USER_DATA)],
            "exclude": [f"user_data/{name}" for name in _AGAIN],
            "directory_mode": "0755",
            "critical": True,
            "files": [
                {"pattern": "user_data/config*.json", "kind": "file", "mode": "0600", "secret": True},
                {"pattern": "tradesv3*.sqlite", "kind": "sqlite", "mode": "0600"},
                # While the bot runs, the newest trades are in these: as private as the database itself.
                {"pattern": "tradesv3*.sqlite-*", "mode": "0600"},
                {"pattern": "*.sqlite", "kind": "sqlite"},
            ],
        },
        "databases": {
            "description": "Trades of an installation that runs in the root",
            "paths": ["tradesv3.sqlite", "tradesv3.dryrun.sqlite"],
            "file_mode": "0600",
            "critical": True,
            "files": [
                {"pattern": "tradesv3.sqlite", "kind": "sqlite", "required": True},
                {"pattern": "tradesv3.dryrun.sqlite", "kind": "sqlite"},
            ],
        },
        "configuration": {
            "description": "Configurations of an installation that runs in the root; they hold exchange keys",
            "paths": ["config.json", "config-private.json", "config_private.json"],
            "file_mode": "0600",
            "critical": True,
            "secret": True,
            # freqtrade allows comments in its configuration, which is then no JSON.
            "files": [{"pattern": "config*.json", "kind": "file"}],
        },
    },
    "services": [{"manager": "systemd", "units": ["freqtrade.service"]}],
    "schedules": [
        {"tier": "daily", "calendar": "*-*-* 02:00:00"},
        {"tier": "weekly", "calendar": "Sun *-*-* 03:00:00"},
        {"tier": "monthly", "calendar": "*-*-01 04:00:00"},
    ],
    "retention": {"daily": 7, "weekly": 4, "monthly": 12},
    "deploy": {"preserve": ["tradesv3*.sqlite", "tradesv3*.sqlite-*", ".env", "*.log"]},
}
