# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Where renames work: the mounts at and beneath a directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterable
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


_LASTING_IDS = frozenset(("ext2", "ext3", "ext4", "btrfs", "zfs"))
"""Filesystems whose ``f_fsid`` is made from their own UUID; others make it from a device number of this boot."""
_XFS_GEOMETRY, _XFS_GEOMETRY_SIZE, _XFS_UUID = 0x80705864, 112, slice(64, 80)
"""XFS_IOC_FSGEOMETRY_V1, which everybody may ask and every kernel answers."""
_FSUUID, _FSUUID_SIZE, _FSUUID_UUID = 0x80111500, 17, slice(1, 17)
"""FS_IOC_GETFSUUID, since Linux 6.9 for filesystems on disks."""


@dataclass(frozen=True)
class Place:
    """Where a path lies, in terms that a reboot, a bind mount or a sandbox does not change.

    filesystem: the type. source: what is mounted, such as ``/dev/sda1`` or ``server:/export``. within: the path inside
    that filesystem. identity: from the filesystem's UUID, where the kernel tells it; else None.
    """

    filesystem: str
    source: str
    within: str
    identity: Optional[str]


def places_of(root: AnyPath, paths: Iterable[str]) -> dict[str, Place]:
    """The place of each path beneath a root, the root as ``""``; empty where the system does not tell."""
    real = os.path.realpath(root)
    mounts = [_Seen.of(line) for line in _mount_lines()]
    found: dict[str, Place] = {}
    for relative in paths:
        path = f"{real.rstrip('/')}/{relative}" if relative else real
        # Of several mounts at one place the last is the one that is seen.
        held = [mount for mount in mounts if _holds(mount.point, path)]
        if held:
            longest = max(len(mount.point) for mount in held)
            found[relative] = next(item for item in reversed(held) if len(item.point) == longest).place_of(path)
    return found


def other_filesystem(before: Place, now: Place) -> bool:
    """Whether a path lies elsewhere than before: on another filesystem, or at another place in it."""
    if before.filesystem != now.filesystem or before.within != now.within:
        return True
    if before.identity is not None and now.identity is not None:
        return before.identity != now.identity
    # Disks are numbered anew at each boot; what else can be mounted is called by a name of its own.
    named = not (_is_numbered(before.source) or _is_numbered(now.source))
    return named and before.source != now.source


def _is_numbered(source: str) -> bool:
    return source.startswith("/dev/") and not source.startswith("/dev/mapper/")


@dataclass(frozen=True)
class _Seen:
    """A line of mountinfo. top: the directory of the filesystem that is mounted."""

    top: str
    point: str
    filesystem: str
    source: str

    @classmethod
    def of(cls, line: str) -> _Seen:
        fields, _dash, rest = line.partition(" - ")
        top, point = fields.split(" ")[3:5]
        filesystem, source = (*rest.split(" "), "", "")[:2]
        return cls(unescape(top), unescape(point), filesystem, unescape(source))

    def place_of(self, path: str) -> Place:
        below = path[len(self.point.rstrip("/")) :]
        within = (self.top.rstrip("/") + below) or "/"
        return Place(self.filesystem, self.source, within, self._identity())

    def _identity(self) -> Optional[str]:
        if self.filesystem not in _LASTING_IDS:
            return _uuid_at(self.point, self.filesystem) if self.source.startswith("/dev/") else None
        try:
            return f"{os.statvfs(self.point).f_fsid:x}"
        except OSError:
            return None


def _uuid_at(point: str, filesystem: str) -> Optional[str]:
    """The UUID of what is mounted there; None where the kernel does not tell it, or this account cannot ask."""
    asked = [(_FSUUID, _FSUUID_SIZE, _FSUUID_UUID)]
    if filesystem == "xfs":
        asked.insert(0, (_XFS_GEOMETRY, _XFS_GEOMETRY_SIZE, _XFS_UUID))
    with contextlib.suppress(OSError):
        descriptor = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            for request, size, where in asked:
                with contextlib.suppress(OSError):
                    answer = bytearray(size)
                    fcntl.ioctl(descriptor, request, answer)
                    if any(answer[where]):
                        return answer[where].hex()
        finally:
            os.close(descriptor)
    return None


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
