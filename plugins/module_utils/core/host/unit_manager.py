# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The systemd that an application's timers belong to: the system's, or the own one of the account that runs the engine.

An account's systemd (systemd.special(7), user@.service) runs while somebody is logged in as it, and with lingering
(loginctl(1)) from boot on.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Optional

from ..errors import CommandError, ServiceError
from ..ports import Completed, Runner
from .account import current_account

SYSTEM_UNIT_DIR = "/etc/systemd/system"
_USER_UNIT_DIR = ".config/systemd/user"
_SECONDS = 600.0


def session_environment(uid: int) -> dict[str, str]:
    """How the account's own systemd, and podman, are found; empty where none of them runs."""
    runtime = f"/run/user/{uid}"
    try:
        facts = os.lstat(runtime)
    except OSError:
        return {}
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != uid:
        return {}
    return {"XDG_RUNTIME_DIR": runtime, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus"}


class UnitManager:
    """Asks and tells one of the two. user: the account's own."""

    def __init__(self, runner: Runner, *, user: bool = False) -> None:
        self._runner = runner
        self._user = user

    @property
    def command(self) -> str:
        """What a person types."""
        return "systemctl --user" if self._user else "systemctl"

    def systemctl(self, *words: str, check: bool = True) -> Completed:
        """Run systemctl with these words."""
        argv = ["systemctl", *(["--user"] if self._user else []), *words]
        environment = session_environment(os.geteuid()) if self._user else None
        return self._runner.run(argv, check=check, environment=environment, timeout_seconds=_SECONDS)

    def directory(self, given: str = SYSTEM_UNIT_DIR) -> Path:
        """Where units of the application's lie; the account's own have one place, unless another is asked for."""
        if self._user and given == SYSTEM_UNIT_DIR:
            return Path(current_account().home) / _USER_UNIT_DIR
        return Path(given)

    def answers(self) -> bool:
        """Whether it runs and can be asked."""
        if self._runner.find("systemctl") is None:
            return False
        try:
            return self.systemctl("show", "--property=Version", check=False).status == 0
        except CommandError:
            return False

    def require(self, way_out: str) -> None:
        """Raise ServiceError where the account has no systemd of its own. way_out: what to do without it."""
        if not self.answers():
            raise ServiceError(
                "has no systemd of its own on this host, so that no timer can be installed for it",
                path=f"account {current_account().name}",
                hint=f"have root install libpam-systemd and dbus-user-session, and connect again; {way_out}",
            )


def lingers(runner: Runner, account: str) -> Optional[bool]:
    """Whether the account's systemd runs without a login; None where nobody can tell."""
    if runner.find("loginctl") is None:
        return None
    try:
        said = runner.run(["loginctl", "show-user", "--property=Linger", "--", account], check=False)
    except CommandError:
        return None
    # It knows no account that neither lingers nor is logged in.
    return "Linger=yes" in said.stdout.split()
