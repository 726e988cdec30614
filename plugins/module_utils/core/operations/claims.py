# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What of a host belongs to which application: one has its data to itself, and its backups stay in sight.

Two applications with one root have two timers and two locks for the same files. And whoever changes a name, a root or
a directory in the inventory alone leaves backups and records behind where nobody looks for them: ``rename`` takes them
along.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Optional

from ..application import Application
from ..configuration import configured_names, load_application
from ..errors import ConfigurationError, TradekeepError
from ..host.runner import SystemClock
from ..patterns import Classifier
from ..storage.belonging import named_backups, sidecar_of
from ..storage.local import LocalCatalog
from ..storage.maker import HOST
from .places import places
from .text import counted

RENAME = "ansible-playbook tradekeep.ops.rename"


def refuse_claimed(application: Application) -> None:
    """Raises ConfigurationError before an application is given what is another's, or leaves its own behind."""
    for problem in (*conflicts(application), *left_behind(application)):
        raise problem


def others_of(application: Application) -> Iterator[Application]:
    """Every other application with a configuration beside this one's; one that cannot be read is left out."""
    for name in configured_names(str(application.config_dir)):
        if name != application.name:
            # A configuration that cannot be read is for its own application to report.
            with contextlib.suppress(TradekeepError):
                yield load_application(app=name, config_dir=str(application.config_dir))


def conflicts(application: Application, besides: Collection[str] = ()) -> Iterator[ConfigurationError]:
    """Where another application has what this one names as its data. besides: names that do not count."""
    for other in others_of(application):
        if other.name in besides:
            continue
        if _real(other.root) == _real(application.root):
            yield ConfigurationError(
                f"is the root of the application {other.name} already: two would back up and restore the same files",
                path=application.root,
                hint=f"if {application.name} is its new name, run {RENAME} -e rename_from={other.name}; if it is gone, "
                f"remove {other.config_file}; else choose another root",
            )
            continue
        shared = _shared(application, other) or _shared(other, application)
        if shared is not None:
            yield ConfigurationError(
                f"belongs to a component of {application.name} and to one of {other.name}",
                path=shared,
                hint="choose another root, or exclude it from one of the two components",
            )


def _shared(outer: Application, inner: Application) -> Optional[PurePosixPath]:
    """A path of a component of ``inner`` that lies in a component of ``outer``, too."""
    top, lookup = _real(outer.root), Classifier(outer.profile, looking=False)
    for component in inner.profile.components:
        for path in component.paths:
            place = _real(inner.root) / path
            if top in place.parents:
                relative = place.relative_to(top).as_posix()
                if lookup.directory(relative) is not None or lookup.file(relative) is not None:
                    return place
    return None


def left_behind(application: Application) -> Iterator[ConfigurationError]:
    """What the application has by the configuration that is on the host, and would have no more by this one."""
    before = recorded(application)
    if before is None or before == application:
        return
    if _real(before.root) != _real(application.root) and holds_data(before):
        yield _left(
            application,
            before.root,
            "was the root, and the data is still there",
            "move the data, then",
        )
    if before.application_state_dir != application.application_state_dir and _is_used(before.application_state_dir):
        yield _left(application, before.application_state_dir, "was the place of its records, which are still there")
    moved = before.backup_dir != application.backup_dir
    renamed = before.profile.name != application.profile.name
    if moved or renamed:
        found = LocalCatalog(before, SystemClock()).list()
        if moved and found:
            there = counted(len(found), "backup")
            yield _left(application, before.backup_dir, f"was the backup directory, and {there} would be out of sight")
        elif any(item.profile == before.profile.name for item in found):
            yield _left(
                application,
                before.backup_dir,
                f"holds backups of the profile {before.profile.name}, which would be refused under its new name "
                f"{application.profile.name}",
            )


def recorded(application: Application) -> Optional[Application]:
    """The application of this name as the host knows it; None where it does not, or not in a form that can be read."""
    try:
        return load_application(config_file=str(application.config_file))
    except TradekeepError:
        return None


def holds_data(application: Application) -> bool:
    """Whether anything of a component lies below the root."""
    top = str(application.root)
    return any(
        os.path.lexists(os.path.join(top, path))
        for component in application.profile.components
        for path in places(top, component.paths)
    )


def unclaimed_backups(application: Application) -> Iterator[str]:
    """Notes of backups in the application's directory that are of no application that is configured here."""
    known = {application.name, *configured_names(str(application.config_dir))}
    directory = Path(application.backup_dir)
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    here = socket.gethostname()
    said = (sidecar_of(directory / name) for name in named_backups(names))
    owners = Counter(sidecar.get("application") for sidecar in said if sidecar.get(HOST, here) == here)
    for owner, count in sorted((str(owner), count) for owner, count in owners.items() if owner not in {*known, None}):
        yield (
            f"{directory}: {counted(count, 'backup')} of the application {owner}, which is not configured here; if it "
            f"is {application.name} now, run {RENAME} -e rename_from={owner}, else keep or remove them"
        )


def _left(application: Application, place: PurePosixPath, what: str, first: str = "") -> ConfigurationError:
    run = f"run {RENAME}, which takes it along" if not first else f"run {RENAME}"
    return ConfigurationError(
        f"{what} ({application.name} is configured with it on this host)",
        path=place,
        hint=f"{first} {run}".strip(),
    )


def _is_used(state_dir: PurePosixPath) -> bool:
    try:
        return any(name != "lock" for name in os.listdir(state_dir))
    except OSError:
        return False


def _real(path: PurePosixPath) -> PurePosixPath:
    return PurePosixPath(os.path.realpath(path))
