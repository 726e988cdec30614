# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Services of an application without root: its systemd units are those of the account's own systemd.

They are commands like any others (docs/your-bots-start.md): the snapshots in journals and fences need nothing new.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from .application import ServiceManager, Services
from .errors import ConfigurationError

_START = ("systemctl", "--user", "start")


def services_of_the_account(services: Iterable[Services]) -> tuple[Services, ...]:
    """The same with a command for each systemd unit; what is a command already stays as it is."""
    return tuple(found for item in services for found in _of_the_account(item))


def user_units_of(services: Iterable[Services]) -> tuple[str, ...]:
    """The units of the account's systemd among the services."""
    return tuple(item.start[-1] for item in services if item.start is not None and item.start[:-1] == _START)


def _of_the_account(services: Services) -> Iterator[Services]:
    if services.manager is not ServiceManager.SYSTEMD:
        yield services
        return
    for unit in services.units:
        if "*" in unit:
            raise ConfigurationError(
                f"expected the name of a unit, found {unit!r}",
                path="services.units",
                hint="without root, name each unit",
            )
        yield dataclasses.replace(
            services,
            manager=ServiceManager.COMMAND,
            units=(unit,),
            start=(*_START, unit),
            stop=("systemctl", "--user", "stop", unit),
            is_active=("systemctl", "--user", "is-active", "--quiet", unit),
        )
