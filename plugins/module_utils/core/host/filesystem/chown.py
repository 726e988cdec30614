# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Giving away what was made with an account's own rights: the one thing below a root that takes root."""

from __future__ import annotations

import os
import stat
from typing import Optional

from ...errors import UnsafePathError
from ..ownership import apply_owner_mode, name_of_uid, place_of
from .identity import acting_uid, privileged


def give_owner_mode(
    descriptor: int, *, uid: Optional[int] = None, gid: Optional[int] = None, mode: Optional[int] = None
) -> bool:
    """Set owner, group and mode of what this thread has made as the account that it acts as: root gives it away.

    None leaves as is. Returns whether anything changed.

    Raises UnsafePathError for a file that belongs to somebody else, or has a second name: whoever put it there may be
    after the right to it.
    """
    present = os.fstat(descriptor)
    wanted = present.st_uid if uid is None else uid, present.st_gid if gid is None else gid
    if wanted == (present.st_uid, present.st_gid):
        return apply_owner_mode(descriptor, mode=mode)
    shared = stat.S_ISREG(present.st_mode) and present.st_nlink > 1
    if present.st_uid != acting_uid() or shared or not (_is_plain(present.st_mode)):
        raise UnsafePathError(
            f"belongs to {name_of_uid(present.st_uid)} and is not given to {name_of_uid(wanted[0])}"
            + (", as it has a second hard link" if shared else ""),
            path=place_of(descriptor),
            hint="something else was put in its place meanwhile: look for who did it, then run it again",
        )
    with privileged():
        return apply_owner_mode(descriptor, uid=wanted[0], gid=wanted[1], mode=mode)


def _is_plain(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
