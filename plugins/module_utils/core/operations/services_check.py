# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whether the services that the profile names are there: a unit whose name is mistyped is never stopped."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..application import Application
from ..errors import ConfigurationError, ServiceError
from ..host.services import ServiceController
from ..host.unit_manager import UnitManager
from ..ports import Ports
from ..user_services import user_units_of
from .still_writing import GUIDE


def missing_services(application: Application, ports: Ports, coming: Collection[str] = ()) -> Iterator[str]:
    """What is named and that this host does not have, or cannot be asked for. A bot can still be installed.

    coming: units that are about to be installed.
    """
    yield from map(_no_such_service, _missing_user_units(application, ports))
    if not application.system:
        return
    for named in application.profile.services:
        # Each for itself: one that cannot be asked says nothing of the others.
        try:
            missing = ServiceController((named,), ports.runner, ports.clock).missing()
        except ServiceError as error:
            yield str(error)
            continue
        yield from (_no_such_service(name) for name in missing if not {name, f"{name}.service"} & set(coming))


def _missing_user_units(application: Application, ports: Ports) -> Iterator[str]:
    manager = UnitManager(ports.runner, user=True)
    names = user_units_of(application.services) if application.user_units else ()
    if not names or not manager.answers():
        return
    for name in names:
        if "LoadState=not-found" in manager.systemctl("show", "--property=LoadState", "--", name, check=False).stdout:
            yield name


def _no_such_service(name: str) -> str:
    error = ConfigurationError(
        "there is no such service on this host, so nothing would be stopped before data is exchanged",
        path=name,
        hint="install it, or mend its name in services of the profile",
    )
    return str(error)


def unmanaged(application: Application) -> Iterator[str]:
    """What a profile without any services means; one that says ``manager: none`` knows it."""
    if application.has_units and not application.profile.services:
        yield (
            "the profile names no services, so that no restore and no deploy can stop the bot: name what runs it "
            f"({GUIDE}), or say manager: none where you stop it yourself"
        )
