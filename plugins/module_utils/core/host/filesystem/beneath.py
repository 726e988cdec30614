# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Descriptors of what lies beneath a directory, reached without following a symlink that the bot could have made.

From ``/`` down, level by level: a symlink is followed only where root alone can change the directory that it lies in.
From the first directory on that somebody else can write to, every level has to be a real directory (O_NOFOLLOW), or is
looked up by the kernel in one step that cannot leave the directory (openat2(2): RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS).
What was opened stays what it is, whatever becomes of the names.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from typing import Optional, Union

from ...errors import UnsafePathError
from ..account import account_of_uid
from .identity import acting_as

AnyPath = Union[str, "os.PathLike[str]"]
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ON_THE_WAY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Through directories that may be entered and not be read."""
_MOST_SYMLINKS = 40
"""As many as the kernel follows (path_resolution(7))."""
_SYS_OPENAT2 = 437
"""The same on every architecture (Linux 5.6)."""
_RESOLVE = 0x04 | 0x08  # RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
_C = ctypes.CDLL(None, use_errno=True)


def open_root(path: AnyPath) -> int:
    """A descriptor of a directory that a root, a checkout or a stage's top is named by.

    Raises UnsafePathError that names the symlink, FileNotFoundError where a level does not exist, OSError.
    """
    text = os.fspath(path)
    if not text.startswith("/"):
        text = os.path.abspath(text)
    if os.geteuid() != 0:
        return _open_level(text, None, text)
    return _walk(_parts(text), text)


def make_root(path: AnyPath) -> None:
    """Create a directory and those above it that are missing (0755), level by level as ``open_root`` goes.

    What is missing is made in the name of the account that the directory above it belongs to.
    """
    missing: list[str] = []
    text = os.path.abspath(path)
    while True:
        try:
            here = open_root(text)
            break
        except FileNotFoundError:
            text, name = os.path.split(text)
            missing.append(name)
    try:
        for name in reversed(missing):
            owner = os.fstat(here)
            with acting_as(account_of_uid(owner.st_uid, owner.st_gid)):
                os.mkdir(name, 0o755, dir_fd=here)
            deeper = _open_level(name, here, name)
            os.close(here)
            here = deeper
    finally:
        os.close(here)


def open_at(directory: int, relative: str, flags: int, *, mode: int = 0, shown: str = "") -> int:
    """Open what lies beneath an open directory, following no symlink at any level and never leaving it.

    flags: as of open(2); O_NOFOLLOW and O_CLOEXEC are added. Raises UnsafePathError, or OSError as open(2) does.
    """
    where = f"{shown}/{relative}" if shown else relative
    parts = _parts(relative)
    if ".." in parts or relative.startswith("/") or "\0" in relative:
        raise UnsafePathError("leads out of its root", path=where)
    if not parts:
        return os.open(".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    found = _openat2(directory, "/".join(parts), flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode) if len(parts) > 1 else None
    if found is not None:
        return found
    return _open_level_by_level(directory, parts, flags, mode, shown)


def _open_level_by_level(directory: int, parts: list[str], flags: int, mode: int, shown: str) -> int:
    here, seen = os.dup(directory), shown
    try:
        for part in parts[:-1]:
            seen = f"{seen}/{part}" if seen else part
            deeper = _open_level(part, here, seen, _ON_THE_WAY)
            os.close(here)
            here = deeper
        try:
            return os.open(parts[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=here)
        except OSError as error:
            raise _explained(error, parts[-1], here, f"{seen}/{parts[-1]}" if seen else parts[-1]) from error
    finally:
        os.close(here)


def _openat2(directory: int, relative: str, flags: int, mode: int) -> Optional[int]:
    """The same in one step. None where the kernel or a sandbox does not have it, or refuses: for what reason, the
    other way finds out."""
    how = (ctypes.c_uint64 * 3)(flags, mode if flags & os.O_CREAT else 0, _RESOLVE)
    name = os.fsencode(relative)
    descriptor = int(_C.syscall(_SYS_OPENAT2, directory, name, ctypes.byref(how), ctypes.sizeof(how)))
    return descriptor if descriptor >= 0 else None


def _walk(parts: list[str], shown: str) -> int:
    """From the top, following symlinks of directories that are root's own."""
    links, seen = 0, ""
    here = os.open("/", _ON_THE_WAY)
    try:
        while parts:
            part = parts.pop(0)
            target = _link_of_root(part, here)
            if target is None:
                seen = f"{seen}/{part}"
                deeper = _open_level(part, here, seen, _ON_THE_WAY)
            else:
                links += 1
                if links > _MOST_SYMLINKS:
                    raise UnsafePathError("leads through too many symlinks", path=shown)
                parts[:0] = _parts(target)
                deeper, seen = (os.open("/", _ON_THE_WAY), "") if target.startswith("/") else (os.dup(here), seen)
            os.close(here)
            here = deeper
        return _open_level(".", here, shown)
    finally:
        os.close(here)


def _link_of_root(name: str, directory: int) -> Optional[str]:
    """The target of a symlink which nobody but root can have put there; ``..`` is looked up like a name."""
    try:
        if not stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return None
    except FileNotFoundError:
        return None
    holder = os.fstat(directory)
    if holder.st_uid != 0 or holder.st_mode & 0o022:
        return None
    return os.readlink(name, dir_fd=directory)


def _open_level(name: str, directory: Optional[int], shown: str, flags: int = DIRECTORY_FLAGS) -> int:
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        raise _explained(error, name, directory, shown) from error


def _explained(error: OSError, name: str, directory: Optional[int], shown: str) -> Exception:
    """What stands in the way; a symlink, or a file for a directory, is one of the unsafe ones."""
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        target = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(mode) else None
    except OSError:
        mode, target = 0, None
    if target is not None:
        return UnsafePathError(f"is a symlink to {target}", path=shown, hint="put the real directory or file there")
    if error.errno == errno.ENOTDIR and mode:
        return UnsafePathError("is not a directory", path=shown)
    return type(error)(error.errno, error.strerror, shown)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
