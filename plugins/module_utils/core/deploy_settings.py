# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How the code of an application is deployed: the frozen model behind the profile's key ``deploy``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class Layout(str, Enum):
    """How releases lie on the disk.

    IN_PLACE: one directory, changed file by file. RELEASES: a directory for each, and the symlink ``current``.
    """

    IN_PLACE = "in_place"
    RELEASES = "releases"


class CollisionPolicy(str, Enum):
    """What happens where upstream wants a place that live data has."""

    FAIL = "fail"
    KEEP_LIVE = "keep_live"
    SEED_IF_ABSENT = "seed_if_absent"


class BackupFirst(str, Enum):
    """What is backed up before a deploy."""

    NONE = "none"
    CRITICAL = "critical"
    ALL = "all"


HOOK_STEPS = (
    "before_fetch",
    "after_fetch",
    "before_stop",
    "after_stop",
    "before_start",
    "after_start",
    "after_commit",
    "after_rollback",
)


@dataclass(frozen=True)
class Dependencies:
    """The virtual environment that belongs to the code.

    lock_file: relative to the checkout. environment: name of the symlink in the checkout. arguments: of pip install.
    """

    lock_file: str = "requirements.txt"
    environment: str = "venv"
    python: str = "python3"
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class HealthCheck:
    """One sign that the new code works: exactly one of url, file (relative to the root) and command.

    status: what the URL must answer. max_age_seconds: how old the file may be. timeout_seconds: how long to wait.
    """

    url: Optional[str] = None
    status: int = 200
    file: Optional[str] = None
    max_age_seconds: float = 60.0
    command: Optional[tuple[str, ...]] = None
    timeout_seconds: float = 30.0


@dataclass(frozen=True)
class Hook:
    """A command of the application's own, run as its owner at a step of the deploy."""

    at: str
    command: tuple[str, ...]
    timeout_seconds: float = 300.0


@dataclass(frozen=True)
class Deploy:
    """What a deploy needs to know.

    directory: the checkout, or the directory of the releases. branches: those whose commits may be deployed; none named
    means any. preserve: patterns relative to the directory, in which ``!`` takes back, the last match decides;
    components are always preserved. requires: files relative to the root without which no service is started.
    signers: an allowed_signers file (ssh-keygen(1)) or a file of public gpg keys; every deployed commit must be signed
    by a key that is neither expired nor revoked at the time of the deploy.
    """

    directory: Optional[str] = None
    repository: Optional[str] = None
    layout: Layout = Layout.IN_PLACE
    branches: tuple[str, ...] = ()
    preserve: tuple[str, ...] = ()
    on_collision: CollisionPolicy = CollisionPolicy.FAIL
    backup_first: BackupFirst = BackupFirst.CRITICAL
    keep_releases: int = 5
    requires: tuple[str, ...] = ()
    dependencies: Optional[Dependencies] = None
    health: tuple[HealthCheck, ...] = ()
    hooks: tuple[Hook, ...] = ()
    signers: Optional[str] = None
    ssh_key_file: Optional[str] = None
    known_hosts_file: Optional[str] = None
