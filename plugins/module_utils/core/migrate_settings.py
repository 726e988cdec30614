# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a migration asks of an application: the frozen model behind the profile's key ``migrate``."""

from __future__ import annotations

from dataclasses import dataclass

from .deploy_settings import Hook

MIGRATE_STEPS = ("before_stop", "before_start", "after_start")


@dataclass(frozen=True)
class MigrateCheck:
    """A command of the application's own that has to succeed before anything is migrated. It changes nothing."""

    command: tuple[str, ...]
    timeout_seconds: float = 60.0


@dataclass(frozen=True)
class Migrate:
    """What has to hold before a migration, and what only the application can do around it.

    hooks: run as the owner at their step; one that fails has everything put back.
    """

    checks: tuple[MigrateCheck, ...] = ()
    hooks: tuple[Hook, ...] = ()
