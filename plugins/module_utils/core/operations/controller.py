# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The services of an application, as every operation starts, stops and asks for them."""

from __future__ import annotations

from ..application import Application
from ..host.services import ServiceController
from ..ports import Ports


def services_of(application: Application, ports: Ports) -> ServiceController:
    """What is stopped and started here; nothing where services are left to whoever started them."""
    return ServiceController(application.services, ports.runner, ports.clock)
