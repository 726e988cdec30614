# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whose a backup is, before it is believed: another bot's data must not come in the place of this one's by a slip.

The archive's header tells by whom it was made; ``formerly`` in its sidecar, that a rename made it this application's.
An archive without a header, by another program, tells nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Optional

from ..application import Application
from ..archive.manifest import Header
from ..errors import UsageError
from ..storage.backup import Backup
from ..storage.maker import HOST, maker_of

FORMERLY = "formerly"
"""The key of a sidecar under which a rename keeps by whom the archive was made."""


def refuse_other_maker(
    application: Application, backup: Backup, header: Optional[Header] = None, *, hint: str = ""
) -> None:
    """Raises UsageError for a backup of another profile. header: None before the archive was read."""
    name, profile = _made_by(backup, header)
    if profile is None or profile == application.profile.name:
        return
    raise UsageError(
        f"is of the profile {profile}, made by the application {name or 'of another name'}, "
        f"and {application.name} has the profile {application.profile.name}",
        path=backup.path,
        hint=f"{hint}name the application it belongs to with --app",
    )


def note_other_maker(
    application: Application, backup: Backup, header: Optional[Header], note: Callable[[str], None]
) -> None:
    """Say that a backup is of another application or host, which the operation does not mind."""
    name, profile = _made_by(backup, header)
    if profile not in (None, application.profile.name):
        note(f"{backup.name} is of the profile {profile}, and {application.name} has {application.profile.name}")
    elif name not in (None, application.name):
        note(f"{backup.name} was made by the application {name}, not by {application.name}, which has the same profile")
    elif not maker_of(application).made_here(backup.sidecar):
        note(f"{backup.name} was made on {backup.sidecar.get(HOST)}, by another installation than this one")


def _made_by(backup: Backup, header: Optional[Header]) -> tuple[Optional[str], Optional[str]]:
    """The names of application and profile, as they are called now."""
    if header is None or {"application": header.application, "profile": header.profile} in former_names(backup.sidecar):
        return backup.application, backup.profile
    return header.application, header.profile


def former_names(sidecar: Mapping[str, Any]) -> list[Any]:
    """By which applications and profiles the archive went before."""
    found = sidecar.get(FORMERLY)
    return found if isinstance(found, list) else []
