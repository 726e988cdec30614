# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whether a process still writes the data that is to be exchanged: the one place that decides, for all operations.

A bot that the profile's services do not stop (started by pm2, a container, a terminal, or by a unit whose name is
mistyped) would go on writing into files that are no longer there, and lose what it writes.

It is looked for twice: before the operation begins, where no service of the profile runs, so that a dry run knows it
too; and once the services are stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..application import Application
from ..errors import TradekeepError
from ..host.account import owner_of
from ..host.filesystem.identity import acting_as
from ..host.services import ServiceController
from ..host.writers import Writer, sees_every_process, writers_in
from ..ports import Ports
from .links import LiveLinks
from .scan import scan
from .text import first_few

PATIENCE_SECONDS = 3.0
"""So long a process may take to be gone after its service says that it is stopped."""
_POLL_SECONDS = 0.1
_SHOWN = 3
FORCE = "--force goes on all the same"
FORCED = "forced"
"""Among the details of a transaction: whether it went on all the same, which ``recover`` then does as well."""
GUIDE = "docs/your-bots-start.md"


class StillWrittenError(TradekeepError):
    """A process has the data open for writing."""


def writers_of(application: Application, services: ServiceController) -> tuple[Writer, ...]:
    """The processes that write data of the application now; not supervisord, which writes its own log."""
    directories = _directories(application)
    found = writers_in(*directories)
    managers = services.managers() if found else ()
    return tuple(item for item in found if item.pid not in managers)


def refuse_unmanaged_writers(
    application: Application,
    ports: Ports,
    services: ServiceController,
    *,
    force: bool = False,
    dry_run: bool = False,
    way_out: str = "",
) -> None:
    """While everything runs: raises StillWrittenError where no service does, and so no stop would end the process.

    What a service that runs would end is not known beforehand: a container's processes are in no group of its unit.
    force: ``refuse_writers`` says what goes on all the same. A dry run does not come to that, so it is said here.
    """
    found = writers_of(application, services)
    if not found or services.is_active():
        return
    if not force:
        raise _refusal(found, application, services, way_out)
    if dry_run:
        ports.progress.note(f"would go on although the data is written: {named(found)}")


def refuse_writers(
    application: Application, ports: Ports, services: ServiceController, *, force: bool = False, way_out: str = ""
) -> None:
    """Once the services are stopped: raises StillWrittenError for a process that still writes.

    force: only say so. way_out: how the person who asks can go on all the same.
    """
    if not sees_every_process():
        ports.progress.note("looked for programs that write the data among those of this account alone: root sees all")
    deadline = ports.clock.monotonic() + PATIENCE_SECONDS
    found = writers_of(application, services)
    while found and not force and ports.clock.monotonic() < deadline:
        ports.clock.sleep(_POLL_SECONDS)
        found = writers_of(application, services)
    if not found:
        return
    if not force:
        raise _refusal(found, application, services, way_out)
    ports.progress.note(f"went on although the data is written: {named(found)}")


def _refusal(
    found: Sequence[Writer], application: Application, services: ServiceController, way_out: str
) -> StillWrittenError:
    why = "its services do not stop that" if services.names_any else "the profile names no services to stop"
    return StillWrittenError(
        f"{named(found)}; {why}, so nothing was exchanged",
        path=application.root,
        hint=f"stop it and run again, or say what runs it: {GUIDE}{'; ' + way_out if way_out else ''}",
    )


def named(found: Sequence[Writer]) -> str:
    """The first few of them, and how many more there are."""
    return first_few([str(item) for item in found], _SHOWN)


def _directories(application: Application) -> list[Path]:
    """The root, and where the paths of components lie that are links to somewhere else."""
    root = os.path.realpath(application.root)
    found = {root: None}
    for component in application.profile.components:
        for path in component.paths:
            real = os.path.realpath(os.path.join(str(application.root), path))
            if real != root and not real.startswith(root.rstrip("/") + "/"):
                found[real] = None
    return [Path(path) for path in (*found, *_followed_places(application))]


def _followed_places(application: Application) -> Iterator[str]:
    """What symlinks of the data lead to that the profile follows."""
    if not any(component.follow_links for component in application.profile.components):
        return
    with acting_as(owner_of(application)):
        links, things = LiveLinks(application), list(scan(application, refuse_links=False))
    for found in things:
        if links.above(found.path) is None and found.absolute != os.path.join(str(application.root), found.path):
            yield found.absolute
