# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What was done in directories, as the kernel tells it: inotify(7).

An event is in the queue before the call that causes it returns, so who reads the queue knows all that was done until
then. Not told are writes through mmap, through a hard link elsewhere, and by other hosts on a shared filesystem.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import termios
from pathlib import Path
from typing import NamedTuple, Optional

from ..errors import TradekeepError

_HEADER = struct.Struct("iIII")
_BUFFER = 1 << 16
_MODIFY, _ATTRIB = 0x2, 0x4
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_COMES_OR_GOES = _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_UNMOUNT, _OVERFLOW, _IS_DIRECTORY = 0x2000, 0x4000, 0x40000000
_ONLY_DIRECTORIES = 0x01000000
_MAXIMUM = Path("/proc/sys/fs/inotify/max_user_watches")
# What every kernel allows.
_LEAST = 8192


class Event(NamedTuple):
    """Something was done to a name in a watched directory. comes_or_goes: not only to its content or rights."""

    watch: int
    name: str
    is_directory: bool
    comes_or_goes: bool


class Watch:
    """Watches directories, each by itself and not what lies beneath. Raises TradekeepError where it cannot go on."""

    def __init__(self) -> None:
        self._system = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._system, "inotify_init1"):
            raise TradekeepError("this system cannot watch directories")
        self._descriptor: int = self._system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _failure(ctypes.get_errno())
        self._left = _allowance()
        self._missed: Optional[TradekeepError] = None

    def add(self, path: str) -> Optional[int]:
        """Watch a directory; returns the number that its events bear, None when it is not there or cannot be read."""
        if self._left <= 0:
            raise _failure(errno.ENOSPC)
        mask = _MODIFY | _ATTRIB | _COMES_OR_GOES | _ONLY_DIRECTORIES
        number: int = self._system.inotify_add_watch(self._descriptor, os.fsencode(path), mask)
        if number >= 0:
            self._left -= 1
            return number
        reason = ctypes.get_errno()
        if reason in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return None
        raise _failure(reason, path)

    def remove(self, number: int) -> None:
        """Do not watch a directory any more; it may be gone."""
        self._system.inotify_rm_watch(self._descriptor, number)

    def events(self) -> list[Event]:
        """What was done since the last call, in order; of a bot that never rests, what was done until this one.

        Once something was missed, every call raises.
        """
        if self._missed is None:
            try:
                return self._read()
            except TradekeepError as error:
                self._missed = error
        raise self._missed

    def _read(self) -> list[Event]:
        found: list[Event] = []
        waiting = struct.unpack("i", fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4)))[0]
        while waiting > 0:
            content = os.read(self._descriptor, _BUFFER)
            waiting -= len(content)
            found.extend(_events(content))
        return found

    def close(self) -> None:
        """Watch nothing any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _events(content: bytes) -> list[Event]:
    found: list[Event] = []
    at = 0
    while at < len(content):
        watch, mask, _cookie, length = _HEADER.unpack_from(content, at)
        at += _HEADER.size
        if mask & _OVERFLOW:
            raise TradekeepError("more was written meanwhile than the kernel notes (fs.inotify.max_queued_events)")
        if mask & _UNMOUNT:
            raise TradekeepError("a filesystem of the data was unmounted")
        name = os.fsdecode(content[at : at + length].partition(b"\0")[0])
        at += length
        found.append(Event(watch, name, bool(mask & _IS_DIRECTORY), bool(mask & _COMES_OR_GOES)))
    return found


def _allowance() -> int:
    """Half of what the user may watch: the rest is for the bot, which can be the same user's."""
    try:
        return int(_MAXIMUM.read_text(encoding="ascii")) // 2
    except (OSError, ValueError):
        return _LEAST // 2


def _failure(number: int, path: Optional[str] = None) -> TradekeepError:
    if number == errno.ENOSPC:
        return TradekeepError("there are more directories than can be watched (fs.inotify.max_user_watches)")
    if number == errno.EMFILE:
        return TradekeepError("too much else is watched already (fs.inotify.max_user_instances)")
    return TradekeepError(f"directories cannot be watched: {os.strerror(number)}", path=path)
