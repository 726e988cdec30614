# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The data tree, with credentials that a controller hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core.application import Application
from ..core.errors import ExitStatus
from ..core.operations.outcome import Outcome
from ..core.operations.tree import Credential, tree
from ..core.ports import Ports
from ..definition import decoded

CREDENTIALS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "path": {"type": "str", "required": True},
        "content": {"type": "str", "required": True, "no_log": True},
        "replace": {"type": "bool", "default": False},
    },
}


def credentials_of(items: Sequence[Mapping[str, Any]]) -> tuple[Credential, ...]:
    """The option O(credentials), decoded."""
    return tuple(
        Credential(path=item["path"], content=decoded(item["content"], item["path"]), replace=item["replace"])
        for item in items
    )


def planned_tree(
    application: Application, ports: Ports, credentials: Sequence[Credential], *, take_over: bool = False
) -> Outcome:
    """What would be created and mended. An account that is missing is created before it."""
    planned = tree(application, ports, fix=False, credentials=credentials, assume_owner=True, take_over=take_over)
    # Drift is what a real run would mend.
    return replace(planned, status=ExitStatus.DONE)
