# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The place that a drill restores into: private, on a disk, and gone afterwards whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from ...application import Application
from ...errors import ConfigurationError, SpaceError
from ...host.account import Account
from ...host.files import make_private_directory, space
from ...host.filesystem.scratch import SHARED, scratch_directory, shared_place, sweep
from ...host.mounts import filesystem_type
from ..text import human_bytes

SHARED_NAME = ".tradekeep-scratch"
"""The directory in a place that was chosen, in which the owner can have directories."""
_PURPOSE = "drill"
_IN_MEMORY = ("tmpfs", "ramfs")
_SPARE_BYTES = 32 << 20
_SPARE_INODES = 64
_BLOCK = 4096


def scratch_base(application: Application) -> Path:
    """The directory that scratch places are made in. Raises ConfigurationError where it is no good for that."""
    chosen = application.profile.drill.scratch
    base = Path(chosen or application.application_state_dir)
    real, root = os.path.realpath(base), os.path.realpath(application.root)
    if real == root or real.startswith(root + "/"):
        raise ConfigurationError("lies inside the live data", path=base, hint="set drill.scratch to another directory")
    if chosen is None and filesystem_type(_present(base)) in _IN_MEMORY:
        raise ConfigurationError(
            "lies in memory, where a drill would measure nothing and could use all of it up",
            path=base,
            hint="set drill.scratch to a directory on a disk",
        )
    return base


def check_space(base: Path, needed: int, things: int) -> None:
    """Raises SpaceError unless so many bytes in so many files and directories fit, with some to spare."""
    free = space(base)
    wanted = needed + things * _BLOCK + _SPARE_BYTES
    hint = "free some space, set drill.scratch to a larger disk, or limit drill.maximum_bytes"
    if free.bytes_free < wanted:
        text = f"{human_bytes(wanted)} needed for the drill, {human_bytes(free.bytes_free)} free"
        raise SpaceError(text, path=base, hint=hint)
    if free.inodes_free is not None and free.inodes_free < things + _SPARE_INODES:
        text = f"{things + _SPARE_INODES} inodes needed for the drill, {free.inodes_free} free"
        raise SpaceError(text, path=base, hint=hint)


@contextmanager
def scratch_place(base: Path, account: Optional[Account] = None, *, chosen: bool = False) -> Iterator[Path]:
    """A new private directory, the account's, that is removed at the end, also when a signal asks to stop.

    chosen: somebody has named the base, so that its rights are left alone. It is locked while its process lives; what a
    killed one left is removed first.
    """
    make_private_directory(base)
    place = base
    if account is not None:
        name = SHARED_NAME if chosen else SHARED
        place = shared_place(base, account, name=name, let_through=not chosen)
    for directory in (base, place):
        sweep(directory, purpose=_PURPOSE)
    with scratch_directory(place, _PURPOSE, account=account) as made:
        yield made


def _present(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
