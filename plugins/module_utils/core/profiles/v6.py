# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""V6 options system: Delta Lake tables, configuration and the environment file."""

from __future__ import annotations

from typing import Any

_TABLES = ("position_updates", "option_snapshots", "option_legs", "strategy_executions")

PROFILE: dict[str, Any] = {
    "name": "v6",
    "description": "V6 options system: Delta Lake tables, configuration and environment",
    "root": "/opt/v6-trading",
    "owner": "trading",
    "group": "trading",
    "archive_prefix": "backup",
    "root_mode": "0755",
    "components": {
        "lake": {
            "description": "Positions, option snapshots and legs, strategy executions",
            "paths": ["data/lake"],
            "directories": ["data/lake", *(f"data/lake/{name}" for name in _TABLES)],
            "directory_mode": "0750",
            "critical": True,
            # A commit of a Delta log is one or more JSON lines and is never written twice: plain bytes.
            "files": [
                {"pattern": "data/lake/**/_delta_log/**", "kind": "file"},
                {"pattern": "*.parquet", "kind": "file"},
                {"pattern": "*.db", "kind": "sqlite"},
            ],
        },
        "configuration": {
            "description": "Production configuration",
            "paths": ["config"],
            "directories": ["config"],
            # Kept in git, as the system's own guide advises: deploys bring it.
            "preserve": False,
            "directory_mode": "0750",
            "files": [{"pattern": "config/production.yaml", "kind": "file", "required": True}],
        },
        "environment": {
            "description": "Environment variables with the broker's account",
            "paths": [".env"],
            "file_mode": "0600",
            "critical": True,
            "secret": True,
            "files": [{"pattern": ".env", "kind": "file", "required": True}],
        },
        "logs": {
            "description": "Application logs, for debugging",
            "paths": ["logs"],
            "directories": ["logs"],
            "directory_mode": "0750",
            "files": [{"pattern": "*.log", "kind": "log"}],
        },
    },
    # Timers first, or they start what was stopped. The gateway to the broker holds no data and stays up.
    "services": [
        {
            "manager": "systemd",
            "units": [
                "v6-trading.timer",
                "v6-health-check.timer",
                "v6-trading.service",
                "v6-paper-trading.service",
                "v6-position-sync.service",
                "v6-dashboard.service",
            ],
        }
    ],
    "schedules": [{"tier": "daily", "calendar": "Mon..Fri *-*-* 17:00:00 America/New_York"}],
    "retention": {"within_days": 30},
    # The old script keeps its backups in the checkout.
    "deploy": {"preserve": ["backups/**", "*.log"]},
}
