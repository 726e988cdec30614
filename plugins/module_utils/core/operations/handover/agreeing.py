# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What both servers must agree on: what is started, what is held, and that nothing else stands against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ...application import Application, ServiceManager
from ...errors import TradekeepError
from ...host.services import Snapshot
from ...host.systemd import Systemd
from ...ports import Ports
from ...transaction.fence_file import read_fence
from ...transaction.stage import Stage
from ...version import VERSION
from ..controller import services_of
from ..migrate.origin import Held, SourceFacts
from ..migrate.preflight import FAILED, NOT_APPLICABLE, OK, Check
from ..outcome import Outcome
from ..restore_plan import Item
from ..unit_files import SUPERVISOR
from .channel import Channel, ProtocolError, number_of, table_of, text_of
from .link import running_of
from .note import COMPLETE, read_note
from .receiving import Receiving

_CLOCKS_APART_SECONDS = 120.0


@dataclass
class Arrived:
    """The source of a migration that has been received already."""

    facts: SourceFacts
    held: Held

    def fill(self, stage: Stage, changes: Sequence[Item]) -> list[Item]:
        """Nothing is to be fetched any more."""
        return list(changes)


def is_complete(state_dir: Path, facts: dict[str, Any]) -> bool:
    """Whether what the source let go last is here, and runs here."""
    note, migration = read_note(state_dir) or {}, facts.get("migration") or {}
    return note.get("state") == COMPLETE and note.get("id") == migration.get("id") and not read_fence(state_dir)


def was_complete(application: Application, facts: dict[str, Any]) -> Outcome:
    """The account of a takeover that had been done before."""
    record = {"state": "unchanged", "id": facts["migration"]["id"], "application": application.name}
    lines = (f"was moved here from {facts.get('host')} before; nothing was done",)
    return Outcome(changed=False, record=record, lines=lines)


def arrived_from(name: str, facts: dict[str, Any], receiving: Receiving) -> Arrived:
    """What has arrived, as a plan is made from it."""
    host = text_of(facts, "host", 300)
    held = Held(
        tuple(receiving.entries), tuple(receiving.refused), tuple(receiving.left), dict(receiving.credentials())
    )
    return Arrived(
        SourceFacts(
            name,
            "server",
            "",
            weaker_checks=False,
            host=host,
            profile=text_of(facts, "profile", 300),
            tool=text_of(facts, "tool", 100),
        ),
        held,
    )


def what_to_start(application: Application, ports: Ports, facts: dict[str, Any]) -> tuple[Snapshot, list[str]]:
    """What ran on the source as a snapshot for this server, and what of it is not installed here."""
    services = services_of(application, ports)
    masked = set((read_fence(Path(application.application_state_dir)) or {}).get("masked", ()))
    installed = {name for entry in services.installed() for name in entry["running"]}
    systemd = Systemd(ports.runner, stop_timeout_seconds=60.0)
    ran = running_of(facts)
    missing: list[str] = []
    snapshot = services.snapshot()
    for entry in snapshot:
        is_systemd = entry["manager"] == ServiceManager.SYSTEMD.value
        names = next((names for manager, names in ran if manager == entry["manager"]), [])
        ran = [item for item in ran if item[0] != entry["manager"] or item[1] is not names]
        entry["running"] = []
        for name in names:
            unit = name if not is_systemd or "." in name else f"{name}.service"
            here = name in installed or unit in masked or (not is_systemd and SUPERVISOR in masked)
            if here or (is_systemd and _is_of(entry["units"], unit, systemd) and systemd.state(unit).loaded):
                entry["running"].append(name)
            else:
                missing.append(name)
    return snapshot, missing


def _is_of(units: Sequence[str], unit: str, systemd: Systemd) -> bool:
    """Whether a unit is one of the application's here, or starts one: a stranger would have others started as well."""
    ours = [name if "." in name else f"{name}.service" for name in units]
    if any(fnmatchcase(unit, name) for name in ours):
        return True
    return any(unit in state.triggers for state in systemd.states(ours).values())


def more_checks(
    application: Application, ports: Ports, facts: dict[str, Any], start: Snapshot, missing: Sequence[str]
) -> Iterator[Check]:
    """What only two servers have to agree on."""
    started = [name for entry in start for name in entry["running"]]
    if missing:
        yield Check("services", FAILED, f"{missing[0]} runs on the source and is not installed here")
    elif started:
        yield Check("services", OK, f"{', '.join(started)} will run here")
    else:
        yield Check("services", NOT_APPLICABLE, "nothing of the application runs on the source")
    tool = text_of(facts, "tool", 100)
    yield Check("tradekeep", OK, f"{tool} on the source, {VERSION} here")
    apart = abs(ports.clock.now().timestamp() - facts["now"])
    state = FAILED if apart > _CLOCKS_APART_SECONDS else OK
    yield Check("clocks", state, f"{apart:.1f} s apart", forceable=True)


def compare_holds(channel: Channel, receiving: Receiving) -> dict[str, Any]:
    """What the source says that it holds, once it is certain that the same is here. Raises TradekeepError."""
    databases: dict[str, dict[str, Any]] = {}

    def told(message: dict[str, Any]) -> None:
        path = text_of(message, "database")
        if receiving.entry(path) is None:
            raise ProtocolError("counts the rows of a database that it has not sent", path=path)
        databases[path] = table_of(message, "tables")

    last = channel.last_message("holds", told)
    said, here = table_of(last, "holds"), receiving.contents()
    if (number_of(said, "files"), text_of(said, "digest", 64)) != (here["files"], here["digest"]):
        raise TradekeepError(
            "what has arrived is not what the source holds", path="the other server", hint="run again; see both disks"
        )
    for entry in receiving.entries:
        tables = entry.facts.get("tables")
        if tables is not None and databases.get(entry.path) != tables:
            raise TradekeepError("has other rows than on the source", path=entry.path, hint="run again; see both disks")
    return {**here, "databases": {path: databases[path] for path in sorted(databases)}}
