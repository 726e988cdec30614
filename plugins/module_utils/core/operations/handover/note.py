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
from ...errors import NeedsPersonError, SpaceError
from ...host.files import atomic_write, fsync_directory, make_private_directory, os_errors
from ...host.filesystem.identity import with_privileges

BEGUN, ASKED, GRANTED, COMPLETE = "begun", "asked", "granted", "complete"
RETURNING, UNDONE = "returning", "undone"
NOTE_PATH = "handover.json"
_INSTALLATION = "installation"


@with_privileges
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


@with_privileges
def write_note(state_dir: Path, note: dict[str, Any]) -> None:
    """Remember it durably."""
    make_private_directory(state_dir)
    atomic_write(Path(state_dir) / NOTE_PATH, (json.dumps(note, indent=2, sort_keys=True) + "\n").encode("ascii"))


@with_privileges
def mark(state_dir: Path, identifier: str, state: str) -> None:
    """A handover has come so far. Its way back is remembered on a full disk as well."""
    note = read_note(state_dir)
    if note is None or note.get("id") != identifier or note.get("state") == state:
        return
    try:
        write_note(state_dir, {**note, "state": state})
    except SpaceError as error:
        if state == COMPLETE:
            raise NeedsPersonError(
                f"the application runs here, but that could not be recorded: {error.message}",
                path=error.path,
                hint="make room, then run: tradekeep recover",
            ) from error
        # No note says the same to a recovery: that nothing may be started here.
        with os_errors(state_dir):
            (Path(state_dir) / NOTE_PATH).unlink()
            fsync_directory(state_dir)


@with_privileges
def installation_of(application: Application) -> str:
    """A name for this installation that no other has, made when it is first asked for."""
    path = Path(application.application_state_dir) / _INSTALLATION
    with contextlib.suppress(FileNotFoundError):
        return path.read_text("ascii").strip()
    make_private_directory(path.parent)
    atomic_write(path, f"{secrets.token_hex(16)}\n".encode("ascii"))
    return path.read_text("ascii").strip()
