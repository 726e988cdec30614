# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The guards against the hazards of docs/hazards.md, each with the way to take it out; ``guards.py`` does so."""

from __future__ import annotations

from .accounts import ACCOUNTS
from .acting import ACTING
from .capturing import CAPTURING
from .confining import CONFINING
from .deploying import DEPLOYING
from .following import FOLLOWING
from .hanging import HANGING
from .judging import JUDGING
from .keeping import KEEPING
from .links import OF_LINKS
from .losing import LOSING
from .migrating import MIGRATING
from .modes import OF_MODES
from .moving import MOVING
from .proving import PROVING
from .reading import READING
from .rehearsing import REHEARSING
from .removal import Moved, Removal, changed
from .repositories import REPOSITORIES
from .restoring import RESTORING
from .settling import SETTLING
from .sharing import SHARING
from .showing import SHOWING
from .stopping import STOPPING
from .unmanaged import UNMANAGED
from .whole import WHOLE
from .writing import WRITING

__all__ = ["REMOVALS", "Moved", "Removal", "changed"]

REMOVALS: tuple[Removal, ...] = (
    *CAPTURING,
    *WRITING,
    *KEEPING,
    *LOSING,
    *RESTORING,
    *REPOSITORIES,
    *REHEARSING,
    *DEPLOYING,
    *PROVING,
    *MOVING,
    *MIGRATING,
    *ACTING,
    *SHARING,
    *SHOWING,
    *CONFINING,
    *READING,
    *HANGING,
    *FOLLOWING,
    *STOPPING,
    *UNMANAGED,
    *OF_LINKS,
    *OF_MODES,
    *ACCOUNTS,
    *JUDGING,
    *WHOLE,
    *SETTLING,
)
