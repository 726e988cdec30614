# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How restores are rehearsed: the frozen model behind the profile's key ``drill``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Drill:
    """When and where the newest backup is restored for practice, and what has to be reached.

    enabled: whether there is a timer. calendar: a systemd OnCalendar expression (systemd.time(7)).
    scratch: directory to restore into, on a disk; None for the state directory. maximum_bytes: more than this is never
    unpacked; of a larger backup a part is, databases and what is critical first. key_file: the secret key of backups
    that are encrypted to a public one, where it is not the host's own.
    """

    enabled: bool = True
    calendar: str = "*-*-15 05:00:00"
    jitter_seconds: int = 3600
    scratch: Optional[str] = None
    rto_seconds: int = 7200
    rpo_seconds: int = 86400
    maximum_bytes: Optional[int] = None
    key_file: Optional[str] = None
