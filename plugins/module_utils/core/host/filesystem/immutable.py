# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Files that somebody has locked with chattr(1): even root may not replace them, and the system does not say why."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import stat
import struct
from collections.abc import Iterable
from typing import Optional

from ...errors import TradekeepError

_GET_FLAGS = 0x80006601 | struct.calcsize("l") << 16
"""FS_IOC_GETFLAGS."""
_FLAGS = ((0x10, "i", "immutable"), (0x20, "a", "append-only"))
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def locked_by_chattr(path: object) -> Optional[TradekeepError]:
    """The error for a path that is locked, or lies in a directory that is; None where neither is, or none tells."""
    if not isinstance(path, (str, os.PathLike)) or not os.path.isabs(path):
        return None
    whole = os.fspath(path)
    for place in (whole, os.path.dirname(whole)):
        found = _flag_of(place)
        if found is not None:
            return _locked(place, *found)
    return None


def _locked(where: str, letter: str, word: str) -> TradekeepError:
    return TradekeepError(
        f"is {word} (chattr +{letter}), so that it cannot be changed",
        path=where,
        hint=f"unlock it with: chattr -{letter} {shlex.quote(where)}; then run it again",
    )


def refuse_locked(paths: Iterable[str]) -> None:
    """Raises TradekeepError for the first path that is locked by chattr(1), or whose directory is."""
    seen: set[str] = set()
    for path in paths:
        directory = os.path.dirname(path)
        while not os.path.isdir(directory) and directory != os.path.dirname(directory):
            directory = os.path.dirname(directory)
        for place in (path, directory) if directory not in seen else (path,):
            found = _flag_of(place)
            if found is not None:
                raise _locked(place, *found)
        seen.add(directory)


def reason_for(error: OSError, path: object) -> Optional[TradekeepError]:
    """The same for an error of the system, where that may be the reason."""
    return locked_by_chattr(path) if error.errno == errno.EPERM else None


def _flag_of(path: str) -> Optional[tuple[str, str]]:
    """The letter and the word of what locks a file or directory; nothing else is opened, a device least of all."""
    try:
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return None
        descriptor = os.open(path, _LOOK)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(struct.calcsize("l")))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    flags = struct.unpack("l", answer)[0]
    return next(((letter, word) for flag, letter, word in _FLAGS if flags & flag), None)
