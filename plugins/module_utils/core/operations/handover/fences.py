# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The fences of a handover, which come down by themselves when it fails.

While it is under way each of the two servers has a provisional fence: the source's from the stop until it has let go,
the target's from the beginning until it may start. Whoever holds the application's lock and finds a provisional fence
knows that nobody is at work on it any more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...errors import TradekeepError
from ...host.masking import UNIT_DIR
from ...host.services import Snapshot
from ...ports import Ports
from ...transaction.fence_file import read_fence, remove_fence, write_fence
from ...transaction.stopped import forget_stop
from ..fence import FenceWork
from .note import COMPLETE, GRANTED, UNDONE, mark, read_note

SOURCE, TARGET = "source", "target"


def raise_provisional(
    application: Application,
    ports: Ports,
    identifier: str,
    other: str,
    *,
    unit_dir: Path = UNIT_DIR,
) -> None:
    """Fence the target for as long as a handover takes. other: the server at the other end, as people call it."""
    FenceWork(application, ports, unit_dir).put_up(_fields(application, TARGET, identifier, other))


def announce_provisional(
    application: Application, work: FenceWork, identifier: str, other: str
) -> tuple[dict[str, Any], Snapshot]:
    """Write the source's fence while the application still runs; returns it, and what runs."""
    return work.announce(_fields(application, SOURCE, identifier, other))


def _fields(application: Application, role: str, identifier: str, other: str) -> dict[str, Any]:
    before = read_fence(Path(application.application_state_dir))
    to_or_from = "to" if role == SOURCE else "from"
    provisional = {"role": role, "id": identifier, "other": other, "before": before}
    return {"reason": f"being migrated {to_or_from} {other}", "by": "migrate", "provisional": provisional}


def make_permanent(application: Application, identifier: str, to: str, installation: str) -> None:
    """The source lets go: from here on nothing on it starts the application, whatever happens."""
    state_dir = Path(application.application_state_dir)
    fence = dict(read_fence(state_dir) or {})
    provisional = fence.pop("provisional", {})
    fence["reason"] = f"moved to {to}, migration {identifier}"
    fence["migration"] = {"id": identifier, "to": to, "installation": installation, "before": provisional.get("before")}
    write_fence(state_dir, fence)
    forget_stop(state_dir)


def granted_to(application: Application) -> Optional[dict[str, Any]]:
    """The migration for which this server is fenced for good, None when it is not, or for another reason."""
    fence = read_fence(Path(application.application_state_dir))
    migration = None if fence is None or "provisional" in fence else fence.get("migration")
    return migration if isinstance(migration, dict) else None


def lower(application: Application, ports: Ports, *, start: Optional[Snapshot], unit_dir: Path = UNIT_DIR) -> None:
    """Take down what a handover put up, and go back to what was before: an earlier fence, or what ran.

    start: what is to run now; None means what ran when the fence was put up.
    """
    state_dir = Path(application.application_state_dir)
    fence = read_fence(state_dir)
    if fence is None:
        return
    before = (fence.get("provisional") or fence.get("migration") or {}).get("before")
    work = FenceWork(application, ports, unit_dir)
    if before is None or start is not None:
        work.take_down(fence, fence.get("services", []) if start is None else start)
        return
    ports.step("unfence")
    forget_stop(state_dir)
    write_fence(state_dir, before)
    work.masks.unmask([name for name in fence.get("masked", []) if name not in before.get("masked", [])])
    work.masks.mask(before.get("masked", []))


def settle_source(application: Application, ports: Ports, *, unit_dir: Path = UNIT_DIR) -> Optional[str]:
    """For a recovery, which holds the lock: a handover that died before it let go is off, and what ran runs again."""
    provisional = _provisional(application, SOURCE)
    if provisional is None:
        return None
    lower(application, ports, start=None, unit_dir=unit_dir)
    return f"took the fence of a migration down that had not let go, to {provisional.get('other')}"


def may_go_forward(application: Application, identifier: object) -> bool:
    """Whether the source has let go for this handover, and nothing was given back."""
    note = read_note(Path(application.application_state_dir)) or {}
    return note.get("id") == identifier and note.get("state") in (GRANTED, COMPLETE)


def settle_target(application: Application, ports: Ports, *, unit_dir: Path = UNIT_DIR) -> Optional[str]:
    """For a recovery that has brought the data to an end: start it here where the source has let go, else never."""
    provisional = _provisional(application, TARGET)
    if provisional is None:
        return None
    identifier, other = str(provisional.get("id")), provisional.get("other")
    if may_go_forward(application, identifier):
        state_dir = Path(application.application_state_dir)
        note = read_note(state_dir) or {}
        lower(application, ports, start=list(note.get("start", [])), unit_dir=unit_dir)
        mark(state_dir, identifier, COMPLETE)
        return f"went on with the migration from {other}, which has let go"
    abandon(application, ports, identifier, unit_dir=unit_dir)
    return f"gave up the migration from {other}; nothing of it runs here"


def _provisional(application: Application, role: str) -> Optional[dict[str, Any]]:
    fence = read_fence(Path(application.application_state_dir)) or {}
    found = fence.get("provisional")
    return found if isinstance(found, dict) and found.get("role") == role else None


def abandon(application: Application, ports: Ports, identifier: str, *, unit_dir: Path = UNIT_DIR) -> None:
    """The target goes back to what it was, and runs nothing."""
    state_dir = Path(application.application_state_dir)
    mark(state_dir, identifier, UNDONE)
    fence = read_fence(state_dir) or {}
    if "provisional" not in fence:
        return
    if fence["provisional"].get("before") is None:
        FenceWork(application, ports, unit_dir).masks.unmask(fence.get("masked", []))
        remove_fence(state_dir)
    else:
        lower(application, ports, start=None, unit_dir=unit_dir)


def refuse_running(application: Application, ports: Ports) -> None:
    """Raises TradekeepError where something of the application runs on a server that is to take it over."""
    running = [name for entry in FenceWork(application, ports).services.snapshot() for name in entry["running"]]
    if running:
        raise TradekeepError(
            f"{running[0]} runs here: two live copies of one bot trade twice",
            path=application.root,
            hint="stop it (tradekeep fence), then run again",
        )
