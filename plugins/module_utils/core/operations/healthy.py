# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The health checks of an application (``deploy.health``), as every operation that starts its services asks them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from ..application import Application
from ..host.account import owner_of
from ..host.health import HealthGate
from ..ports import Ports


def health_gate(application: Application, ports: Ports, *, directory: Optional[Path] = None) -> HealthGate:
    """All its checks. Their commands run as the owner; where, ``working_directory`` says, unless it is given."""
    return HealthGate(
        application.profile.deploy.health,
        root=Path(application.root),
        directory=directory or working_directory(application),
        account=owner_of(application),
        ports=ports,
    )


def working_directory(application: Application) -> Path:
    """Where commands of the application run: in its code, or in its data where no code was deployed yet."""
    checkout = Path(application.checkout)
    return checkout if os.path.isdir(checkout) else Path(application.root)
