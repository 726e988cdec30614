# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Taking along what an application has on the host when its name or its places change.

Backups go to their new directory, or their sidecars are told the new name; records follow; then the configuration
changes, and what was under the old name goes. Each step does what is left to do, so that a rename that was cut off is
run again. Data is never moved here: the bot's own start has to change with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from ..application import Application
from ..configuration import load_application
from ..errors import ArchiveError, ConfigurationError, SpaceError, UsageError
from ..formatting import pasted
from ..host.files import atomic_write, fsync_directory, make_private_directory, os_errors, space
from ..host.masking import UNIT_DIR
from ..host.runner import SystemClock
from ..ports import Ports
from ..storage.backup import Backup
from ..storage.belonging import latest_stem
from ..storage.local import LocalCatalog
from ..storage.maker import HOST, INSTALLATION, NUMBER_FILE, established, maker_of
from ..storage.names import LATEST_STEM, sidecars_of
from ..storage.relocation import move_backup, on_one_filesystem, taken_by_another
from ..transaction.exchange import refuse_pending
from ..transaction.lock import application_lock
from ..vocabulary import parse_name
from .claims import conflicts, holds_data
from .outcome import Outcome
from .provenance import FORMERLY, former_names
from .text import human_bytes
from .unit_sight import sandbox_root
from .units import install_units
from .user_units import manager_of

_SHOWN = 20


@dataclass(frozen=True)
class _Step:
    """One thing that is left to do."""

    what: str
    do: Callable[[], object]


def rename(
    application: Application,
    ports: Ports,
    *,
    former: str = "",
    unit_dir: Path = UNIT_DIR,
    dry_run: bool = False,
) -> Outcome:
    """Make what the host has of an application what its definition says.

    former: its name until now, where that is another. A second run changes nothing.
    """
    before = _before(application, former or application.name)
    if before is None:
        return _outcome((), dry_run)
    _refuse(application, before)
    steps = _steps(application, before, ports, unit_dir)
    if dry_run or not steps:
        return _outcome(steps, dry_run)
    with _locks(application, before, ports):
        _refuse(application, before)
        steps = _steps(application, before, ports, unit_dir)
        for step in steps:
            ports.step(step.what)
            step.do()
        LocalCatalog(application, ports.clock).refresh_latest()
        _drop_places(application, before)
    return _outcome(steps, dry_run)


@contextlib.contextmanager
def _locks(application: Application, before: Application, ports: Ports) -> Iterator[None]:
    """Nothing else runs on the application under either name."""
    with contextlib.ExitStack() as stack:
        for place in dict.fromkeys((before.application_state_dir, application.application_state_dir)):
            lock = application_lock(
                Path(place), operation="rename", clock=ports.clock, wait_seconds=600.0, note=ports.progress.note
            )
            stack.enter_context(lock)
        yield


def _before(application: Application, name: str) -> Optional[Application]:
    """The application as the host knows it; where only remains of it are known, with the places that it has now."""
    file = application.config_dir / f"{parse_name(name)}.json"
    if os.path.lexists(file):
        return load_application(config_file=str(file))
    if name == application.name:
        return None
    remains = replace(application, name=name)
    if not os.path.lexists(application.config_file) and not _is_known(remains):
        raise UsageError(
            f"no application {name!r} is configured, and nothing of it is left",
            path=application.config_dir,
            hint="name the application as it was called until now",
        )
    return remains


def _is_known(application: Application) -> bool:
    return bool(os.path.lexists(application.application_state_dir) or LocalCatalog(application, SystemClock()).list())


def _refuse(application: Application, before: Application) -> None:
    """Raises where it cannot be done; nothing has been written then."""
    # What cannot be seen cannot be taken along. Those that somebody moved by hand are in the new place.
    if LocalCatalog(replace(before, backup_dir=application.backup_dir), SystemClock()).gone():
        LocalCatalog(before, SystemClock()).require_present()
    for place in (before.application_state_dir, application.application_state_dir):
        refuse_pending(Path(place))
    for problem in conflicts(application, besides=(before.name,)):
        raise problem
    if os.path.realpath(before.root) == os.path.realpath(application.root):
        return
    if holds_data(before):
        raise UsageError(
            "the data is still in the root that was",
            path=before.root,
            hint=f"stop the bot, move it: {pasted('mv', before.root, application.root)}; then run it again",
        )
    if not Path(application.root).is_dir():
        raise ConfigurationError(
            "the data is not there yet", path=application.root, hint="move it there, then run it again"
        )


def _steps(application: Application, before: Application, ports: Ports, unit_dir: Path) -> tuple[_Step, ...]:
    # It packs the whole engine, this module too.
    from .installation import install_configuration

    steps = [*_of_installation(application, before), *_of_backups(application, before, ports)]
    steps += _of_records(application, before, ports)
    steps += _of_keys(application, before)
    planned = install_configuration(application, dry_run=True, renamed=True)
    if planned.changed:
        steps.append(
            _Step(f"write {application.config_file}", lambda: install_configuration(application, renamed=True))
        )
    if before.name != application.name:
        if os.path.lexists(before.config_file):
            steps.append(_Step(f"remove {before.config_file}", lambda: install_configuration(before, present=False)))
        steps.extend(_of_units(before, ports, unit_dir))
    steps.extend(_of_links(application, before))
    return tuple(steps)


def _of_installation(application: Application, before: Application) -> list[_Step]:
    """Its number goes first: without it, the backups that are moved would be those of another installation."""
    number = maker_of(before).installation
    if number is None or maker_of(application).installation is not None:
        return []
    return [_Step("take along the number of the installation", lambda: established(application, number))]


def _of_backups(application: Application, before: Application, ports: Ports) -> list[_Step]:
    source, target = LocalCatalog(before, ports.clock), LocalCatalog(application, ports.clock)
    # Of a name of which only remains are known here, the number of the installation may be lost.
    mine = source.own() if before == application else source.list()
    found = [item for item in mine if not item.path.is_symlink()]
    moved = source.directory != target.directory
    if moved:
        _check_place(found, source, target)
    steps = []
    for backup in found:
        sidecar = _told_anew(backup, application, target.maker.installation or source.maker.installation)
        if moved:
            steps.append(_Step(f"move {backup.path} to {target.directory}", _moving(backup, target, sidecar)))
        elif sidecar != dict(backup.sidecar):
            steps.append(_Step(f"tell {backup.path}.json the new name", _telling(backup, sidecar)))
    return steps


def _check_place(backups: Sequence[Backup], source: LocalCatalog, target: LocalCatalog) -> None:
    for backup in backups:
        if taken_by_another(backup, target):
            raise ArchiveError(
                "another backup of this name is in the new directory",
                path=target.directory / backup.name,
                hint=f"move one of the two away; the other is {backup.path}",
            )
    there, needed = space(target.directory), sum(item.size for item in backups)
    if not on_one_filesystem(source.directory, target.directory) and needed + (1 << 20) > there.bytes_free:
        raise SpaceError(
            f"{human_bytes(needed)} needed for the backups, {human_bytes(there.bytes_free)} free",
            path=target.directory,
            hint="free some space",
        )


def _told_anew(backup: Backup, application: Application, installation: Optional[str]) -> dict[str, Any]:
    """Its sidecar under the new name, and what it went by before; one that cannot be read stays as it is.

    installation: the number under which the application goes on; a sidecar of another goes by the name of the host.
    """
    sidecar = dict(backup.sidecar)
    if sidecar.get(INSTALLATION, installation) != installation:
        del sidecar[INSTALLATION]
        sidecar[HOST] = socket.gethostname()
    names = {"application": backup.application, "profile": backup.profile}
    new = {"application": application.name, "profile": application.profile.name}
    if not sidecar or names == new:
        return sidecar
    former = [item for item in (*former_names(sidecar), names) if item != new]
    return {**sidecar, **new, FORMERLY: former}


def _moving(backup: Backup, target: LocalCatalog, sidecar: dict[str, Any]) -> Callable[[], object]:
    return lambda: move_backup(backup, target, sidecar)


def _telling(backup: Backup, sidecar: dict[str, Any]) -> Callable[[], object]:
    text = (json.dumps(sidecar, indent=1, sort_keys=True) + "\n").encode()
    return lambda: atomic_write(backup.path.with_name(sidecars_of(backup.name)[1]), text)


def _of_records(application: Application, before: Application, ports: Ports) -> list[_Step]:
    """Whatever the new place does not have yet, and what the old catalog knows of backups that the new one does not."""
    source, target = Path(before.application_state_dir), Path(application.application_state_dir)
    if source == target or not source.is_dir():
        return []
    steps = []
    for name in sorted(os.listdir(source)):
        if name == "lock":
            continue
        if name == NUMBER_FILE:
            steps.append(_Step(f"remove {source / name}", (source / name).unlink))
            continue
        if not os.path.lexists(target / name):
            steps.append(_Step(f"move {source / name} to {target}", _renaming(source / name, target / name)))
        elif name == "catalog.json":
            steps.append(_Step(f"add {source / name} to {target / name}", _merging(application, before, ports)))
        else:
            steps.append(
                _Step(f"keep {source / name} aside in {target}", _setting_aside(source / name, target, before))
            )
    return steps


def _of_keys(application: Application, before: Application) -> list[_Step]:
    """The host's own key goes along, as it opens the backups, and the public ones. What is there already counts."""
    places = (
        (Path(before.host_key_dir), Path(application.host_key_dir)),
        (Path(before.public_key_dir), Path(application.public_key_dir)),
    )
    return [
        _Step(f"move {source} to {target}", _renaming(source, target, private=source == Path(before.host_key_dir)))
        for source, target in places
        if source != target and source.is_dir() and not os.path.lexists(target)
    ]


def _renaming(source: Path, target: Path, *, private: bool = True) -> Callable[[], None]:
    def move() -> None:
        if private:
            make_private_directory(target.parent)
        else:
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with os_errors(source):
            os.rename(source, target)
            fsync_directory(target.parent)

    return move


def _setting_aside(source: Path, target: Path, before: Application) -> Callable[[], None]:
    """Both have it, so that the new one counts; the old one is kept beside it, and nobody reads it."""
    place = target / f"{source.name}.of_{before.name}"
    number = 1
    while os.path.lexists(place):
        number += 1
        place = target / f"{source.name}.of_{before.name}-{number}"
    return _renaming(source, place)


def _merging(application: Application, before: Application, ports: Ports) -> Callable[[], None]:
    def merge() -> None:
        old, new = (LocalCatalog(item, ports.clock).records for item in (before, application))
        new.set(backups={**old.read()["backups"], **new.read()["backups"]})
        with os_errors(old.path):
            old.path.unlink()

    return merge


def _of_units(before: Application, ports: Ports, unit_dir: Path) -> list[_Step]:
    place = manager_of(before, ports).directory(str(unit_dir))
    if not before.has_units or ports.runner.find("systemctl") is None or not place.is_dir():
        return []
    planned = install_units(before, ports, unit_dir=str(unit_dir), present=False, dry_run=True)
    if not planned.changed:
        return []

    def remove() -> None:
        install_units(before, ports, unit_dir=str(unit_dir), present=False)

    return [_Step(f"remove the units of {before.name}", remove)]


def _of_links(application: Application, before: Application) -> list[_Step]:
    """The links under the old name, and those that lead to backups which are elsewhere now."""
    directory = Path(before.backup_dir)
    stems = [f"{LATEST_STEM}_{before.name}"] if before.name != application.name else []
    if before.backup_dir != application.backup_dir:
        stems.append(f"{LATEST_STEM}_{before.name}")
        if latest_stem(directory, _names(directory), maker_of(before)) == LATEST_STEM:
            stems.append(LATEST_STEM)
    return [
        _Step(f"remove {directory / name}", (directory / name).unlink)
        for name in _names(directory)
        if any(name.startswith(f"{stem}.tar.") for stem in stems) and (directory / name).is_symlink()
    ]


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _drop_places(application: Application, before: Application) -> None:
    """Directories of the old name that are empty now, but for the lock that is held."""
    place = Path(before.application_state_dir)
    if place != Path(application.application_state_dir):
        if _names(place) == ["lock"]:
            (place / "lock").unlink()
        for path in (place, Path(sandbox_root(before))):
            with contextlib.suppress(OSError):
                path.rmdir()


def _outcome(steps: Sequence[_Step], dry_run: bool) -> Outcome:
    would = "would " if dry_run else ""
    told = [f"{would}{step.what}" for step in steps]
    lines = told if len(told) <= _SHOWN else [*told[:_SHOWN], f"and {len(told) - _SHOWN} more"]
    return Outcome(
        changed=bool(steps),
        record={"steps": [step.what for step in steps]},
        lines=tuple(lines) or ("nothing to do",),
        before={"steps": [step.what for step in steps]},
        after={"steps": []},
    )
