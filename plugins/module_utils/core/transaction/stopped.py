# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A note that services are stopped, written before they are: whatever happens then, ``recover`` starts them again."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Optional

from ..errors import NeedsPersonError
from ..host.files import atomic_write, make_private_directory, os_errors
from ..host.filesystem.identity import with_privileges
from ..host.services import Snapshot

STOPPED_PATH = "stopped.json"
"""Beneath the state directory; there while services are stopped that are to run again."""


@with_privileges
def note_stop(state_dir: Path, *, operation: str, snapshot: Snapshot) -> None:
    """Record durably what is about to be stopped. An earlier note stands: it knows what ran at the beginning."""
    make_private_directory(state_dir)
    if read_stop(state_dir) is None and any(entry["running"] for entry in snapshot):
        text = json.dumps({"operation": operation, "services": snapshot})
        atomic_write(Path(state_dir) / STOPPED_PATH, text.encode("ascii"))


@with_privileges
def read_stop(state_dir: Path) -> Optional[Snapshot]:
    """What was stopped and never noted as started again."""
    path = Path(state_dir) / STOPPED_PATH
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        services: Snapshot = record["services"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NeedsPersonError(
            f"cannot be read: {error}", path=path, hint="start the services, then remove it"
        ) from error
    return services


@with_privileges
def forget_stop(state_dir: Path) -> None:
    """The services run again."""
    path = Path(state_dir) / STOPPED_PATH
    with os_errors(path), contextlib.suppress(FileNotFoundError):
        path.unlink()
