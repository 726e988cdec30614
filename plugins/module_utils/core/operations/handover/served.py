# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a connection of another server finds here, and what somebody who only looks may know."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from ...application import Application
from ...host.filesystem.identity import acting_as
from ...ports import Ports
from ...transaction.exchange import refuse_pending
from ...transaction.fence_file import fence_in_words, read_fence
from ..deploy.survey import account_for
from ..fence import FenceWork
from ..outcome import Outcome
from ..scan import check_root, scan
from ..text import counted, human_bytes
from .channel import Channel
from .fences import granted_to
from .note import read_note
from .serving import serve

_INPUT, _OUTPUT = 0, 1


def serve_on_standard_streams(application: Application, ports: Ports) -> Outcome:
    """For the command that a key of another server is restricted to."""
    program = Path(application.bin_dir) / "tradekeep"
    watcher = [str(program), "--config", str(application.config_file), "--no-progress", "recover", "--wait"]
    return serve(application, ports, Channel(_INPUT, _OUTPUT), watcher=watcher if program.exists() else None)


def survey(application: Application, ports: Ports) -> Outcome:
    """What there is, and what runs. Writes nothing."""
    with acting_as(account_for(application)):
        return _surveyed(application, ports)


def _surveyed(application: Application, ports: Ports) -> Outcome:
    check_root(application)
    state_dir = Path(application.application_state_dir)
    refuse_pending(state_dir)
    fence, note = read_fence(state_dir), read_note(state_dir) or {}
    files = [item for item in scan(application) if item.type == "file"]
    running = [name for entry in FenceWork(application, ports).services.snapshot() for name in entry["running"]]
    record: dict[str, Any] = {
        "application": application.name,
        "profile": application.profile.name,
        "host": socket.gethostname(),
        "root": str(application.root),
        "files": len(files),
        "bytes": sum(item.size for item in files),
        "running": running,
        "fence": None if fence is None else fence_in_words(fence),
        "granted": granted_to(application),
        "handover": {"id": note.get("id"), "state": note.get("state")},
    }
    lines = (
        f"{counted(len(files), 'file')}, {human_bytes(record['bytes'])} in {application.root}",
        f"running: {', '.join(running) or 'nothing'}",
        *([] if fence is None else [record["fence"]]),
    )
    return Outcome(changed=False, record=record, lines=lines)
