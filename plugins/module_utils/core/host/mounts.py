# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Where renames work: the mounts at and beneath a directory."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..errors import UnsafePathError
from .files import AnyPath, open_directory, os_errors

_MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class DeviceRoot:
    """A part of a tree within which a rename can move files.

    relative: path of its top beneath the tree's root, empty for the root itself. Bind mounts of one filesystem are
    parts of their own, because the kernel refuses renames between mounts whatever the device.
    """

    relative: str
    path: str
    device: int
    is_directory: bool = True


def device_roots(root: AnyPath) -> tuple[DeviceRoot, ...]:
    """The root and every mount beneath it, parents first."""
    with os_errors(root):
        os.close(open_directory(root))
        top = os.path.realpath(root)
        mounts = [point for point in mount_points() if point.startswith(top + "/")]
        return tuple(_device_root(top, point) for point in sorted({top, *mounts}))


def device_root_of(roots: tuple[DeviceRoot, ...], relative: str) -> DeviceRoot:
    """The part that holds a path beneath the root; refuses a path that is itself a mount point."""
    holding = roots[0]
    for candidate in roots[1:]:
        if relative == candidate.relative:
            raise UnsafePathError(
                "is a mount point and cannot be exchanged", path=candidate.path, hint="unmount it or leave it out"
            )
        if relative.startswith(candidate.relative + "/") and len(candidate.relative) > len(holding.relative):
            holding = candidate
    return holding


def _device_root(top: str, point: str) -> DeviceRoot:
    facts = Path(point).lstat()
    return DeviceRoot(
        relative="" if point == top else point[len(top) + 1 :],
        path=point,
        device=facts.st_dev,
        is_directory=stat.S_ISDIR(facts.st_mode),
    )


@dataclass(frozen=True)
class Mount:
    """A mount as it is now; mounted anew it has another number."""

    number: str
    point: str
    filesystem: str


def mounts_holding(path: AnyPath) -> tuple[Mount, ...]:
    """The mount that a path lies on and all beneath the path; empty where the system does not tell."""
    real = os.path.realpath(path)
    on: Optional[Mount] = None
    beneath: list[Mount] = []
    for line in _mount_lines():
        fields = line.split(" ")
        found = Mount(fields[0], unescape(fields[4]), line.partition(" - ")[2].split(" ")[0])
        if found.point.startswith(real.rstrip("/") + "/"):
            beneath.append(found)
        # Of several mounts at one place the last is the one that is seen.
        elif _holds(found.point, real) and (on is None or len(found.point) >= len(on.point)):
            on = found
    return (*(() if on is None else (on,)), *beneath)


def filesystem_type(path: AnyPath) -> str:
    """The type of the filesystem that a path lies on, such as ``ext4``; empty where the system does not tell."""
    real = os.path.realpath(path)
    return next((mount.filesystem for mount in mounts_holding(real) if _holds(mount.point, real)), "")


def _holds(point: str, path: str) -> bool:
    return (path + "/").startswith(point.rstrip("/") + "/")


def mount_points() -> list[str]:
    """Mount points of this process; empty where the system does not tell."""
    return [unescape(line.split(" ")[4]) for line in _mount_lines()]


def _mount_lines() -> list[str]:
    if not _MOUNTINFO.exists():
        return []
    return [line for line in os.fsdecode(_MOUNTINFO.read_bytes()).split("\n") if line.count(" ") > 4]


def unescape(text: str) -> str:
    """A path of the kernel's tables, in which blanks and backslashes are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)
