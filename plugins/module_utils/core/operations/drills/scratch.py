# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The place that a drill restores into: private, on a disk, and gone afterwards whatever happens."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from ...application import Application
from ...errors import ConfigurationError, InterruptedBySignal, SpaceError
from ...host.files import make_private_directory, os_errors, remove_tree, space
from ...host.mounts import filesystem_type
from ..text import human_bytes

PREFIX = ".tradekeep-drill-"
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
def scratch_place(base: Path) -> Iterator[Path]:
    """A new private directory that is removed at the end, also when a signal asks to stop.

    It is locked while its process lives; what a killed one left is removed first.
    """
    make_private_directory(base)
    sweep(base)
    place, lock = _new_place(base)
    try:
        yield place
    finally:
        try:
            remove_tree(place)
        except InterruptedBySignal:
            # It came only now. Of several signals the first alone is heard.
            remove_tree(place)
            raise
        finally:
            os.close(lock)


def sweep(base: Path) -> tuple[str, ...]:
    """Remove what killed drills left; returns the names."""
    removed = []
    with os_errors(base):
        names = sorted(name for name in os.listdir(base) if name.startswith(PREFIX)) if base.is_dir() else []
    for name in names:
        lock = _locked(base / name)
        if lock is not None:
            remove_tree(base / name)
            os.close(lock)
            removed.append(name)
    return tuple(removed)


def _new_place(base: Path) -> tuple[Path, int]:
    with os_errors(base):
        while True:
            place = base / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
            place.mkdir(mode=0o700)
            lock = _locked(place)
            # Another drill may have taken it for a leftover before it was locked.
            if lock is not None:
                return place, lock


def _locked(place: Path) -> Optional[int]:
    """The lock of a directory of ours that no living process holds; else None."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.lstat(place)):
                return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _present(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
