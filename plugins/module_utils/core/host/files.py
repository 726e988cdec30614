# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Files without surprises: no symlink followed, no half-written file under its name, no mode left to the umask."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from ..errors import SpaceError, TradekeepError, UnsafePathError
from .filesystem.beneath import DIRECTORY_FLAGS, open_at, open_root
from .filesystem.chown import give_owner_mode
from .filesystem.immutable import reason_for

AnyPath = Union[str, "os.PathLike[str]"]
_TEMPORARY_PREFIX = ".tradekeep-write-"


@dataclass(frozen=True)
class Space:
    """What a filesystem has left for the caller. ``inodes_free`` is None where it has no fixed number of inodes."""

    bytes_free: int
    inodes_free: Optional[int]


def failure_of(error: OSError, path: Optional[object] = None) -> TradekeepError:
    """The engine's error for one of the operating system."""
    where = error.filename if path is None else path
    text = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceError(f"the disk is full: {text}", path=where, hint="free some space and run again")
    return reason_for(error, where) or TradekeepError(text[:1].lower() + text[1:], path=where)


@contextlib.contextmanager
def os_errors(path: Optional[object] = None) -> Iterator[None]:
    """Turns errors of the operating system inside the block into the engine's."""
    try:
        yield
    except OSError as error:
        raise failure_of(error, path) from error


def components_of(relative: str) -> list[str]:
    """The names of a relative path; refuses every way of leaving its root."""
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    if relative.startswith("/") or ".." in parts or "\0" in relative:
        raise UnsafePathError("leads out of its root", path=relative)
    return parts


def open_directory(path: AnyPath) -> int:
    """A descriptor of a directory that is reached through no symlink of anybody but root's (see ``open_root``)."""
    with os_errors_but_absence(path):
        return open_root(path)


def open_directory_beneath(root: AnyPath, relative: str) -> int:
    """A descriptor of a directory beneath root, reached without following symlinks.

    Raises UnsafePathError that names the symlink, FileNotFoundError when a level does not exist.
    """
    top = open_directory(root)
    try:
        with os_errors_but_absence(f"{os.fspath(root)}/{relative}"):
            return open_at(top, relative, os.O_RDONLY | os.O_DIRECTORY, shown=os.fspath(root))
    finally:
        os.close(top)


def open_file_beneath(root: AnyPath, relative: str) -> int:
    """A descriptor for reading a regular file beneath root, without following symlinks or waiting for a FIFO."""
    if not components_of(relative):
        raise UnsafePathError("is not a file", path=root)
    shown = f"{os.fspath(root)}/{relative}"
    top = open_directory(root)
    try:
        with os_errors_but_absence(shown):
            descriptor = open_at(top, relative, os.O_RDONLY | os.O_NONBLOCK, shown=os.fspath(root))
    finally:
        os.close(top)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafePathError("is not a regular file", path=shown)
    return descriptor


@contextlib.contextmanager
def os_errors_but_absence(path: object) -> Iterator[None]:
    """``os_errors``, but what does not exist stays FileNotFoundError, which callers take for an answer."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise failure_of(error, path) from error


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything; the system may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def atomic_write(
    path: AnyPath, data: bytes, *, mode: int = 0o600, uid: Optional[int] = None, gid: Optional[int] = None
) -> None:
    """Replace a file by a whole, synced one; owner and mode are right before it gets its name."""
    target = Path(path)
    with os_errors(target):
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            atomic_write_at(directory, target.name, data, mode=mode, uid=uid, gid=gid)
        finally:
            os.close(directory)


def atomic_write_at(
    directory: int, name: str, data: bytes, *, mode: int = 0o600, uid: Optional[int] = None, gid: Optional[int] = None
) -> None:
    """The same in an open directory. Raises OSError."""
    temporary = f"{_TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            write_all(descriptor, data)
            give_owner_mode(descriptor, uid=uid, gid=gid, mode=mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)


def sweep_writes(directory: AnyPath) -> None:
    """Remove temporary files of ``atomic_write`` whose process was killed."""
    if not Path(directory).is_dir():
        return
    with os_errors(directory):
        for entry in Path(directory).iterdir():
            pid = entry.name[len(_TEMPORARY_PREFIX) :].partition("-")[0]
            if entry.name.startswith(_TEMPORARY_PREFIX) and pid.isdigit() and not process_lives(int(pid)):
                entry.unlink()


def process_lives(pid: int) -> bool:
    """Whether a process of that number exists, whoever it belongs to."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def fsync_directory(path: AnyPath) -> None:
    """Make the names in a directory durable, where the filesystem can be told to."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def make_private_directory(path: AnyPath) -> bool:
    """Create a directory (and its parents, 0755) with mode 0700 whatever the umask; returns whether it was created.

    An existing directory is left as it is; a symlink in its place is refused.
    """
    target = Path(path)
    with os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.mkdir(mode=0o700)
        except FileExistsError:
            os.close(open_directory(target))
            return False
        target.chmod(0o700)
        fsync_directory(target.parent)
        return True


def remove_tree(path: AnyPath) -> bool:
    """Remove a directory and all in it, following no symlink; returns whether there was one.

    Works level by level from open directories, however many there are, and holds one open at a time: an owner could
    make more of them than a recursion, a path or the number of open files allows. Raises where one of them is moved
    away meanwhile, so that nothing is removed where it went.
    """
    target = Path(path)
    with os_errors(target):
        try:
            parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            top = _entered(target.name, parent)
            if top is None:
                return False
            _remove_contents(top, target)
            os.rmdir(target.name, dir_fd=parent)
        finally:
            os.close(parent)
        return True


@dataclass(frozen=True)
class _Level:
    """A directory that is being removed: its name, what it is, and its subdirectories that are still there."""

    name: str
    identity: tuple[int, int]
    left: list[str]

    @classmethod
    def of(cls, name: str, descriptor: int) -> _Level:
        """The open directory of that name, its files removed."""
        facts = os.fstat(descriptor)
        return cls(name, (facts.st_dev, facts.st_ino), _without_files(descriptor))


def _remove_contents(current: int, target: Path) -> None:
    """Empty an open directory, and close it."""
    above: list[_Level] = []
    try:
        level = _Level.of("", current)
        while level.left or above:
            if level.left:
                name = level.left.pop()
                deeper = _entered(name, current)
                if deeper is not None:
                    os.close(current)
                    current = deeper
                    above.append(level)
                    level = _Level.of(name, current)
                continue
            done, level = level.name, above.pop()
            up = os.open("..", DIRECTORY_FLAGS, dir_fd=current)
            os.close(current)
            current = up
            facts = os.fstat(current)
            if (facts.st_dev, facts.st_ino) != level.identity:
                raise UnsafePathError(f"a directory in it ({done}) was moved while it was removed", path=target)
            os.rmdir(done, dir_fd=current)
    finally:
        os.close(current)


def _without_files(directory: int) -> list[str]:
    """Remove all but the subdirectories from an open directory; returns their names."""
    with os.scandir(directory) as listing:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
    for name, is_directory in found:
        if not is_directory:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
    return [name for name, is_directory in found if is_directory]


def _entered(name: str, directory: int) -> Optional[int]:
    """A descriptor of a directory that is to be removed, None when it is gone."""
    try:
        if os.geteuid() != 0:
            _let_owner_in(name, directory)
        return os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return None


def _let_owner_in(name: str, directory: int) -> None:
    """Let an ordinary user empty a directory of its own that was staged without the right to."""
    held = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if os.fstat(held).st_mode & 0o700 != 0o700:
            with contextlib.suppress(OSError):
                os.chmod(f"/proc/self/fd/{held}", 0o700)
    finally:
        os.close(held)


def space(path: AnyPath) -> Space:
    """What is left on the filesystem of a path; where it does not exist yet, of its nearest parent."""
    present = Path(path)
    while not present.exists() and present != present.parent:
        present = present.parent
    with os_errors(present):
        facts = os.statvfs(present)
    inodes = facts.f_favail if facts.f_files else None
    return Space(bytes_free=facts.f_bavail * facts.f_frsize, inodes_free=inodes)
