# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Unified trading service on its way from JSON files to a database."""

from __future__ import annotations

from typing import Any

PROFILE: dict[str, Any] = {
    "name": "trade_agent",
    "description": "Unified trading service: trade history, pending orders, signals and paper trading",
    "root": "/opt/trade_agent",
    "owner": "trade_agent",
    "group": "trade_agent",
    "archive_prefix": "trade_agent",
    "components": {
        # No templates: the service takes an empty document for the truth and writes it back.
        "data": {
            "description": "Orders, fills and signals; the archive of migrated files; the database",
            "paths": ["data"],
            "directories": ["data", "data/archive"],
            "directory_mode": "0750",
            "critical": True,
            "files": [
                {"pattern": "data/trades_history.json", "kind": "json", "required": True},
                {"pattern": "data/pending_orders.json", "kind": "json", "required": True},
                {"pattern": "data/system_recommended_symbols.json", "kind": "json"},
                # The multi-user database holds the broker credentials of its users.
                {"pattern": "*.db", "kind": "sqlite", "mode": "0600", "secret": True},
                {"pattern": "*.sqlite", "kind": "sqlite", "mode": "0600", "secret": True},
                # While the service runs, what it wrote last is in these: as private as the database itself.
                {"pattern": "*.db-*", "mode": "0600", "secret": True},
                {"pattern": "*.sqlite-*", "mode": "0600", "secret": True},
            ],
        },
        "paper_trading": {
            "description": "Orders, holdings and transactions of the paper account",
            "paths": ["paper_trading"],
            "directories": ["paper_trading", "paper_trading/unified_service"],
            "directory_mode": "0750",
            "critical": True,
            "files": [
                {"pattern": "paper_trading/unified_service/orders.json", "kind": "json"},
                {"pattern": "paper_trading/unified_service/holdings.json", "kind": "json"},
                {"pattern": "paper_trading/unified_service/transactions.json", "kind": "json"},
            ],
        },
    },
    # The document names no unit. Name yours here, so that a restore can stop it.
    "services": [],
    "schedules": [
        {"tier": "daily", "calendar": "*-*-* 02:00:00"},
        {"tier": "weekly", "calendar": "Sun *-*-* 03:00:00"},
        {"tier": "monthly", "calendar": "*-*-01 04:00:00"},
    ],
    "retention": {"daily": 7, "weekly": 4, "monthly": 12},
    # The broker's account comes from an environment file; the document leaves its name open.
    "deploy": {"preserve": [".env", "*.env", "*.log"]},
}
