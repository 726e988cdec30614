# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Kalshi trading system: credentials, SQLite databases, preferences and state below ``user_data``."""

from __future__ import annotations

from typing import Any

_ACCOUNT_DATABASES = ("fills.db", "positions.db", "settlements.db")

PROFILE: dict[str, Any] = {
    "name": "kalshi",
    "description": "Kalshi trading system: credentials, SQLite databases, preferences and state",
    "root": "/opt/trading_system/user_data",
    "home": "/opt/trading_system",
    "owner": "trading_user",
    "group": "trading_user",
    "archive_prefix": "user_data",
    # Preferences and state are for everyone to read, so the root lets everyone through to them.
    "root_mode": "0755",
    "components": {
        "credentials": {
            "description": "API keys of the exchange and of other services",
            "paths": ["credentials"],
            "directories": [
                "credentials",
                "credentials/kalshi",
                "credentials/kalshi/demo",
                "credentials/kalshi/prod",
                "credentials/other_apis",
            ],
            "directory_mode": "0700",
            "file_mode": "0600",
            "critical": True,
            "secret": True,
            # Keys are copied byte by byte, whatever their names look like.
            "files": [{"pattern": "*", "kind": "file"}],
        },
        "databases": {
            "description": "Fills, positions, settlements, trade and price history",
            "paths": ["databases"],
            "directories": [
                "databases",
                "databases/accounts",
                "databases/accounts/kalshi",
                "databases/accounts/kalshi/demo",
                "databases/accounts/kalshi/prod",
                "databases/trade_history",
                "databases/price_history",
            ],
            "directory_mode": "0700",
            "file_mode": "0600",
            "critical": True,
            # The production databases appear when the account is switched; from then on the last backup holds them.
            "files": [
                *(
                    {"pattern": f"databases/accounts/kalshi/demo/{name}", "kind": "sqlite", "required": True}
                    for name in _ACCOUNT_DATABASES
                ),
                {"pattern": "databases/trade_history/trades.db", "kind": "sqlite", "required": True},
                {"pattern": "databases/price_history/btc_price_history.db", "kind": "sqlite", "required": True},
                {"pattern": "*.db", "kind": "sqlite"},
            ],
        },
        "preferences": {
            "description": "How the person wants to trade",
            "paths": ["preferences"],
            "directories": ["preferences", "preferences/trading", "preferences/system", "preferences/ui"],
            "directory_mode": "0755",
            "file_mode": "0644",
            # A new system enters nothing by itself and stops out of what it holds, until a person says otherwise.
            "files": [
                {
                    "pattern": "preferences/trading/trade_preferences.json",
                    "kind": "json",
                    "template": {
                        "auto_stop": True,
                        "auto_entry": False,
                        "diff_mode": False,
                        "position_size": 1,
                        "multiplier": 1,
                    },
                },
                {
                    "pattern": "preferences/trading/auto_entry_settings.json",
                    "kind": "json",
                    "template": {
                        "min_probability": 95,
                        "min_differential": 0,
                        "min_ttc_seconds": 60,
                        "min_time": 120,
                        "max_time": 900,
                        "allow_re_entry": False,
                    },
                },
                {
                    "pattern": "preferences/trading/auto_stop_settings.json",
                    "kind": "json",
                    "template": {"current_probability": 40, "min_ttc_seconds": 60},
                },
                {"pattern": "preferences/system/system_preferences.json", "kind": "json", "template": {}},
                {"pattern": "preferences/ui/ui_preferences.json", "kind": "json", "template": {}},
            ],
        },
        "state": {
            "description": "Account mode and the running system's state",
            "paths": ["state"],
            "directories": ["state"],
            "directory_mode": "0755",
            "file_mode": "0644",
            # system_state.json is the running system's own: a template would be a state that never was.
            "files": [{"pattern": "state/account_mode.json", "kind": "json", "template": {"mode": "demo"}}],
        },
    },
    # supervisord runs the programs and is itself run by the unit: programs first, so that each ends as it likes.
    "services": [
        {
            "manager": "supervisor",
            "units": ["all"],
            "supervisor_config": "/opt/trading_system/backend/supervisord.conf",
        },
        {"manager": "systemd", "units": ["trading_system.service"]},
    ],
    "schedules": [
        {"tier": "daily", "calendar": "*-*-* 02:00:00"},
        {"tier": "weekly", "calendar": "Sun *-*-* 03:00:00", "encrypt": True},
        {"tier": "monthly", "calendar": "*-*-01 04:00:00"},
    ],
    "retention": {"daily": 7, "weekly": 4, "monthly": 12},
    "deploy": {
        "preserve": ["*.log", "*.db", "*.db-wal", "*.db-shm", ".env"],
        "requires": ["credentials/kalshi/demo/kalshi.pem", "credentials/kalshi/prod/kalshi-auth.txt"],
    },
}
