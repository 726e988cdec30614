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
        mounts = [point for point in _mount_points() if point.startswith(top + "/")]
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


def filesystem_type(path: AnyPath) -> str:
    """The type of the filesystem that a path lies on, such as ``ext4``; empty where the system does not tell."""
    real = os.path.realpath(path)
    nearest, found = "", ""
    for line in _mount_lines():
        point = _unescape(line.split(" ")[4])
        # Of several mounts at one place the last is the one that is seen.
        if (real + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(nearest):
            nearest, found = point, line.partition(" - ")[2].split(" ")[0]
    return found


def _mount_points() -> list[str]:
    """Mount points of this process; empty where the system does not tell."""
    return [_unescape(line.split(" ")[4]) for line in _mount_lines()]


def _mount_lines() -> list[str]:
    if not _MOUNTINFO.exists():
        return []
    return [line for line in os.fsdecode(_MOUNTINFO.read_bytes()).split("\n") if line.count(" ") > 4]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)
