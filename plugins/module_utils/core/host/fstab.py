# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Mounts that the host is configured to have and that are not there.

What is written below such a directory goes to the disk beneath it: it fills that one, and is hidden once the mount is
there again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ..errors import UnsafePathError
from ..formatting import pasted
from .files import AnyPath
from .mounts import mount_points, unescape

_FSTAB = Path("/etc/fstab")
_MOUNT_UNITS = Path("/etc/systemd/system")


def missing_mount(path: AnyPath) -> Optional[str]:
    """The directory above a path, or the path itself, that is to be a mount and is none."""
    real = os.path.realpath(path)
    wanted = [point for point in _configured() if point != "/" and (real + "/").startswith(point + "/")]
    if not wanted:
        return None
    present = set(mount_points())
    # Where the system does not tell what is mounted, nothing can be said.
    missing = [point for point in wanted if present and os.path.realpath(point) not in present]
    return max(missing, key=len, default=None)


def require_mounted(path: AnyPath) -> None:
    """Raises UnsafePathError where a path lies below a mount that is configured and is not there."""
    point = missing_mount(path)
    if point is not None:
        raise UnsafePathError(
            f"lies on {point}, which is to be a mount and is not mounted",
            path=path,
            hint=f"run '{pasted('mount', point)}', or take it out of /etc/fstab",
        )


def _configured() -> Iterator[str]:
    """The mount points of /etc/fstab and of the units that somebody wrote."""
    for line in _lines(_FSTAB):
        fields = line.split()
        if len(fields) > 2 and not fields[0].startswith("#") and fields[1].startswith("/") and fields[2] != "swap":
            yield os.path.normpath(unescape(fields[1]))
    for unit in sorted(_MOUNT_UNITS.glob("*.mount")):
        for line in _lines(unit):
            key, _equals, place = line.partition("=")
            if key.strip() == "Where" and place.strip().startswith("/"):
                yield os.path.normpath(place.strip())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
