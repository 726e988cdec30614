# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How far a handover has come, on the server that takes over: what a recovery, or the next run, goes by.

begun -> asked -> granted -> complete
   \\______\\________\\-> returning -> undone

Nothing of the application may be started here before ``granted`` is on the disk.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...errors import NeedsPersonError
from ...host.files import atomic_write, make_private_directory

BEGUN, ASKED, GRANTED, COMPLETE = "begun", "asked", "granted", "complete"
RETURNING, UNDONE = "returning", "undone"
NOTE_PATH = "handover.json"
_INSTALLATION = "installation"


def read_note(state_dir: Path) -> Optional[dict[str, Any]]:
    """The last handover to this server, None when there was none."""
    path = Path(state_dir) / NOTE_PATH
    try:
        note = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise NeedsPersonError(
            f"cannot be read: {error}", path=path, hint="see which server runs the bot, then remove it"
        ) from error
    return note if isinstance(note, dict) else None


def write_note(state_dir: Path, note: dict[str, Any]) -> None:
    """Remember it durably."""
    make_private_directory(state_dir)
    atomic_write(Path(state_dir) / NOTE_PATH, (json.dumps(note, indent=2, sort_keys=True) + "\n").encode("ascii"))


def mark(state_dir: Path, identifier: str, state: str) -> None:
    """A handover has come so far."""
    note = read_note(state_dir)
    if note is not None and note.get("id") == identifier and note.get("state") != state:
        write_note(state_dir, {**note, "state": state})


def installation_of(application: Application) -> str:
    """A name for this installation that no other has, made when it is first asked for."""
    path = Path(application.application_state_dir) / _INSTALLATION
    with contextlib.suppress(FileNotFoundError):
        return path.read_text("ascii").strip()
    make_private_directory(path.parent)
    atomic_write(path, f"{secrets.token_hex(16)}\n".encode("ascii"))
    return path.read_text("ascii").strip()
