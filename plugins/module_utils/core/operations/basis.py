# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the data held when it was last known to be right: the basis that the next backup is compared with.

``<state_dir>/<app>/basis.json``. Each backup writes it, and what puts other data in place (a restore, a migration)
lowers it to what it left. Where it is missing, as after an upgrade, the newest good backup's sidecar is the basis.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ..application import Application, Component
from ..component_paths import fixed_part, is_open
from ..errors import TradekeepError
from ..host.files import atomic_write
from ..host.filesystem.identity import privileged
from ..host.mounts import Place, places_of
from ..patterns import classify
from ..ports import Ports
from ..storage.backup import LARGEST_SIDECAR, Backup, iso, parse_iso, read_small
from ..storage.choice import is_future, latest_of
from ..storage.local import LocalCatalog
from .scan import expected_paths, scan
from .tally import Tally

VERSION = 1
MOST_PLACES = 100
_RESTORED = "restored.json"
"""In the application's state directory: what was put in place last, and when."""
Tables = Mapping[str, int]


@dataclass(frozen=True)
class Basis:
    """What was there.

    moment: when. name: the backup that held it, or what was put in place since. files, content: of each component, see
    ``Tally``. databases: the rows of each table, as far as they are known. missing, empty: files that the profile
    requires; of old backups it is not known which were empty. places: where the root (``""``) and the components lay,
    on the host of this name. definitions: what the profile said of each component, see ``definition_of``. drained: how
    much of its rows a table was seen to lose without a word of a person's, see ``shrinking``.
    """

    moment: datetime
    name: str
    files: Mapping[str, int]
    content: Mapping[str, int]
    databases: Mapping[str, Tables]
    missing: frozenset[str] = frozenset()
    empty: Optional[frozenset[str]] = None
    places: Mapping[str, Place] = field(default_factory=dict)
    definitions: Mapping[str, str] = field(default_factory=dict)
    drained: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    root: str = ""
    host: str = ""


def basis_of(application: Application, catalog: LocalCatalog) -> Optional[Basis]:
    """What the next backup is compared with; None where nothing was ever backed up."""
    recorded, newest = recorded_basis(application), newest_good(catalog)
    if newest is None or (recorded is not None and recorded.moment >= newest.moment):
        return recorded
    restored = restored_at(application, catalog.clock.now())
    if restored is not None and restored >= newest.moment:
        return None  # restored by an older version, which left no basis: less data than the backup held is right
    return basis_in(newest)


def basis_in(backup: Backup) -> Optional[Basis]:
    """What a backup held, as its sidecar says; None where that is not in order."""
    try:
        return _of_sidecar(backup.name, backup.moment, backup.sidecar)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def newest_good(catalog: LocalCatalog) -> Optional[Backup]:
    """The newest backup to rely on; one that is dated in the future only where there is no other."""
    return latest_of(catalog.list(), catalog.clock.now())


def restored_at(application: Application, now: datetime) -> Optional[datetime]:
    """When the live data was last taken back in time, as far as that is known.

    A date in the future is not: it would keep losses unseen until it has come. A loss that was right then can be
    accepted once.
    """
    restored = Path(application.application_state_dir) / _RESTORED
    try:
        with privileged():
            at = datetime.fromisoformat(json.loads(read_small(restored))["at"])
        return None if is_future(at, now) else at
    except (OSError, ValueError, KeyError, TypeError):
        return None


def definition_of(component: Component) -> str:
    """Stands for what the profile says of a component's content: where it differs, counts do not compare."""
    rules = [[rule.pattern, rule.kind, *(["may_shrink"] if rule.may_shrink else [])] for rule in component.files]
    text = json.dumps([sorted(component.paths), sorted(component.exclude), rules])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def current_places(application: Application) -> dict[str, Place]:
    """Where the root and the components lie now."""
    kept = [component for component in application.profile.components if component.backup]
    paths = {fixed_part(path) if is_open(path) else path for component in kept for path in component.paths}
    return places_of(application.root, ["", *sorted(paths - {""})[:MOST_PLACES]])


def facts_for_sidecar(
    application: Application, content: Mapping[str, int], guarded: Mapping[str, int], empty: Collection[str]
) -> dict[str, Any]:
    """What a sidecar has to say beside the backup's own facts so that it can be a basis.

    guarded: files of each component that may not go.
    """
    places = {path: asdict(place) for path, place in current_places(application).items()}
    return {
        "root": str(application.root),
        "content": dict(content),
        "guarded": dict(guarded),
        "empty": sorted(empty),
        "places": places,
        "definitions": {item.name: definition_of(item) for item in application.profile.components},
    }


def note_backup(application: Application, made: Backup) -> None:
    """From now on a backup is what the next one is compared with."""
    _write(application, _of_sidecar(made.name, made.moment, made.sidecar))


def note_restored(
    application: Application, ports: Ports, backup: str, touched: Optional[Collection[str]] = None
) -> None:
    """Remember that the data went back in time, so that the next backup does not take that for a loss.

    touched: the components that were changed, None for all.
    """
    with contextlib.suppress(TradekeepError):
        # What cannot be looked at now is compared with what the last backup held.
        note_replaced(application, ports, backup, touched)
    record = {"at": ports.clock.now().isoformat(), "backup": backup}
    with privileged():
        atomic_write(Path(application.application_state_dir) / _RESTORED, (json.dumps(record) + "\n").encode("utf-8"))


def note_replaced(application: Application, ports: Ports, name: str, touched: Optional[Collection[str]]) -> None:
    """Lower the basis to what a restore or a migration has put in place.

    name: what was put in place, a backup where there is one of that name. touched: the components that were changed,
    None for all; the others still have to hold what they held.
    """
    catalog = LocalCatalog(application, ports.clock)
    before = basis_of(application, catalog)
    if before is None:
        return
    there, live = Tally(expected_paths(application)), set()
    for found in scan(application, refuse_links=False):
        there.add(found)
        if found.kind == "sqlite":
            live.add(found.path)

    def is_touched(path: str) -> bool:
        classified = classify(application.profile, path)
        return touched is None or classified is None or classified.component.name in touched

    put_back = _databases_in(catalog, name)
    databases = {path: put_back[path] for path in live & set(put_back)}
    for path, tables in before.databases.items():
        if not is_touched(path):
            databases[path] = tables
        elif path in live:
            databases[path] = _least(tables, put_back.get(path, {}))
    absent = {path for path in there.looked_for if path not in there.seen and is_touched(path)}
    _write(
        application,
        replace(
            before,
            # A backup can be dated a second later than it was made.
            moment=max(before.moment, ports.clock.now()),
            name=name,
            files=_lowered(before.files, there.files, touched),
            content=_lowered(before.content, there.content, touched),
            databases=databases,
            missing=before.missing | absent,
            empty=(before.empty or frozenset()) | there.empty,
            places=current_places(application),
            root=str(application.root),
            host=socket.gethostname(),
        ),
    )


def _lowered(before: Mapping[str, int], now: Mapping[str, int], touched: Optional[Collection[str]]) -> dict[str, int]:
    return {
        name: count if touched is not None and name not in touched else min(count, now.get(name, 0))
        for name, count in before.items()
    }


def _least(first: Tables, second: Tables) -> dict[str, int]:
    """Tables that both have, with the smaller number of rows."""
    return {table: min(rows, second[table]) for table, rows in first.items() if table in second}


def _databases_in(catalog: LocalCatalog, name: str) -> dict[str, Tables]:
    """The tables of the databases in a backup; nothing where there is none of that name."""
    try:
        return {} if "/" in name else _tables_of(catalog.find(name).sidecar)
    except (TradekeepError, TypeError, ValueError, AttributeError):
        return {}


def recorded_basis(application: Application) -> Optional[Basis]:
    """What this host itself has recorded, by its last backup or restore."""
    try:
        with privileged():
            said = json.loads(read_small(_file(application), LARGEST_SIDECAR))
        moment = parse_iso(said["at"])
        return None if moment is None or said["version"] != VERSION else _of_sidecar(str(said["name"]), moment, said)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _of_sidecar(name: str, moment: datetime, said: Mapping[str, Any]) -> Basis:
    """A basis as a sidecar says it, also an old one; what is not in order in it is not known."""
    content = said.get("content")
    files = {part: int(counts["files"]) for part, counts in _mapping(said.get("components")).items()}
    return Basis(
        moment=moment,
        name=name,
        files={**files, **{part: int(count) for part, count in _mapping(said.get("guarded")).items()}},
        content={part: int(size) for part, size in _mapping(content).items()},
        databases=_tables_of(said),
        missing=frozenset(said.get("missing", ())),
        empty=frozenset(said["empty"]) if "empty" in said else None,
        places={path: Place(**place) for path, place in _mapping(said.get("places")).items()},
        definitions=dict(_mapping(said.get("definitions"))),
        drained=_drained_in(said.get("drained")),
        root=str(said.get("root", "")),
        host=str(said.get("host", "")),
    )


def _mapping(said: Any) -> Mapping[str, Any]:
    return said if isinstance(said, Mapping) else {}


def _tables_of(said: Mapping[str, Any]) -> dict[str, Tables]:
    return {path: dict(facts.get("tables", {})) for path, facts in _mapping(said.get("databases")).items()}


def _drained_in(said: Any) -> dict[str, dict[str, float]]:
    return {
        path: {table: float(percent) for table, percent in _mapping(tables).items()}
        for path, tables in _mapping(said).items()
    }


def _write(application: Application, basis: Basis) -> None:
    """In the form of a sidecar, so that both are read alike."""
    said = {
        "version": VERSION,
        "at": iso(basis.moment),
        "name": basis.name,
        "components": {name: {"files": files} for name, files in basis.files.items()},
        "content": dict(basis.content),
        "databases": {path: {"tables": dict(tables)} for path, tables in basis.databases.items()},
        "missing": sorted(basis.missing),
        "places": {path: asdict(place) for path, place in basis.places.items()},
        "definitions": dict(basis.definitions),
        "drained": {path: dict(tables) for path, tables in basis.drained.items()},
        "root": basis.root,
        "host": basis.host,
        **({} if basis.empty is None else {"empty": sorted(basis.empty)}),
    }
    with privileged():
        atomic_write(_file(application), (json.dumps(said, sort_keys=True) + "\n").encode())


def _file(application: Application) -> Path:
    return Path(application.application_state_dir) / "basis.json"
