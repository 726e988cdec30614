# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a profile may say about migrations."""

from __future__ import annotations

from .deploy_schema import Words
from .deploy_settings import Hook
from .migrate_settings import MIGRATE_STEPS, Migrate, MigrateCheck
from .schema import Choice, ListOf, Number, Table

_SECONDS = Number(0.1, 86_400, whole=False)
_CHECK = Table({"command": Words(), "timeout_seconds": _SECONDS}, required=("command",), build=MigrateCheck)
_HOOK = Table(
    {"at": Choice(MIGRATE_STEPS), "command": Words(), "timeout_seconds": _SECONDS},
    required=("at", "command"),
    build=Hook,
)

MIGRATE = Table({"checks": ListOf(_CHECK), "hooks": ListOf(_HOOK)}, build=Migrate)
