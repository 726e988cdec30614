# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Private directories for the time of one piece of work, and the removal of what killed processes left of them.

All have names of one form, ``.tradekeep-<purpose>-<pid>-<random>``. Their maker holds a lock (flock(2)) on the open
directory, which the kernel drops with the process: what can be locked is nobody's any more, whatever has become of the
number of the process. The number in the name is for people.

A directory can belong to the account in whose name a worker uses it. It is made, emptied and swept with that account's
rights, so that neither needs a capability that overrides permissions, and nothing that the account puts in there can
turn them against anybody else's files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Optional

from ...errors import ConfigurationError, InterruptedBySignal, TradekeepError, UnsafePathError, UsageError
from ..account import Account
from ..files import AnyPath, make_private_directory, os_errors, process_lives
from .beneath import DIRECTORY_FLAGS, open_root
from .identity import acting_as, privileged

SHARED = "scratch"
"""The directory in an application's state directory that other accounts have their scratch directories in."""
SHARED_MODE = 0o1733
"""Everybody can make something there, nobody can list it, or touch what belongs to others."""
_NAME = re.compile(r"\.tradekeep-[a-z]+-\d+-[0-9a-f]{16}|tradekeep-gpg-\w{8}")
"""Of this form, and the homes for gpg of earlier versions, which were locked as well."""
_BY_NUMBER = re.compile(r"\.tradekeep-(?:[a-z]+-)?(\d+)-\w+")
_WITHOUT_NUMBER = re.compile(r"\.tradekeep-(?:verify|check)-\w{8}")
"""Other names of earlier versions, which held no lock."""
_PURPOSE = re.compile(r"[a-z]+")
_ATTEMPTS = 20
_A_DAY = 24 * 3600
_LEFTOVER_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@contextmanager
def scratch_directory(parent: AnyPath, purpose: str, *, account: Optional[Account] = None) -> Iterator[Path]:
    """A new directory of mode 0700 that is gone afterwards, with all that is in it.

    purpose: one lower-case word. account: whose directory it is; without one it is the engine's own. Raises OSError as
    one of ours where it cannot be made; what cannot be removed at the end is left to a sweep.
    """
    place, lock = _new_place(Path(parent), purpose, account)
    try:
        yield place
    finally:
        try:
            _remove(place, lock)
        except InterruptedBySignal:
            # It came only now. Of several signals the first alone is heard.
            _remove(place, lock)
            raise
        finally:
            os.close(lock)


def sweep(
    parent: AnyPath,
    *,
    purpose: Optional[str] = None,
    before: Optional[Callable[[Path], None]] = None,
    account: Optional[Account] = None,
    idle_seconds: float = 0,
) -> tuple[str, ...]:
    """Remove the scratch directories and files in a directory whose process is gone; returns their names.

    purpose: those for it alone. before: called with each path that is to be removed; then only those of the engine's
    own account are. account: those of this one alone, as others can make as many as they like in a directory for all.
    idle_seconds: only what nothing was written to for so long, where processes of other hosts may be at work.
    """
    uid = None if account is None else account.uid
    since = time.time() - idle_seconds if idle_seconds else None
    with os_errors(parent):
        try:
            directory = _open_parent(parent)
        except FileNotFoundError:
            return ()
        try:
            names = sorted(name for name in os.listdir(directory) if _is_scratch_name(name, purpose))
            asked = before and _before(before, parent)
            return tuple(name for name in names if _swept(name, directory, uid, asked, since))
        finally:
            os.close(directory)


def _is_scratch_name(name: str, purpose: Optional[str]) -> bool:
    """Whether a name is one of ours, or of an earlier version."""
    if purpose is not None and not name.startswith((f".tradekeep-{purpose}-", f"tradekeep-{purpose}-")):
        return False
    return any(form.fullmatch(name) for form in (_NAME, _BY_NUMBER, _WITHOUT_NUMBER))


def _new_name(purpose: str) -> str:
    """A name that nothing has, or can guess."""
    if not _PURPOSE.fullmatch(purpose):
        raise UsageError("the purpose of a scratch directory is one lower-case word", path=purpose)
    return f".tradekeep-{purpose}-{os.getpid()}-{secrets.token_hex(8)}"


def shared_place(directory: AnyPath, account: Account, *, name: str = SHARED, let_through: bool = True) -> Path:
    """A directory within one of ours, made where it is missing, that the account can make scratch directories in.

    let_through: give the directory above it the right to be passed through (0711); nothing else in it changes.
    """
    above = Path(directory)
    place = above / name
    with privileged(), os_errors(place):
        make_private_directory(above)
        if let_through:
            _set_mode(above, stat.S_IMODE(above.stat().st_mode) | 0o011)
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
        _set_mode(place, SHARED_MODE)
    with acting_as(account):
        try:
            os.stat(place)
        except PermissionError:
            raise ConfigurationError(
                f"cannot be reached by {account.name}, in whose name data is read",
                path=place,
                hint="let everybody pass through the directories above it (chmod o+x), or choose another place",
            ) from None
    return place


def _set_mode(directory: Path, mode: int) -> None:
    descriptor = os.open(directory, DIRECTORY_FLAGS)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise UnsafePathError(f"belongs to account {status.st_uid}", path=directory, hint="remove it")
        if stat.S_IMODE(status.st_mode) != mode:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _open_parent(parent: AnyPath) -> int:
    with privileged():
        return open_root(parent)


def _with_rights_of(uid: int, gid: int) -> AbstractContextManager[None]:
    if uid == 0:
        return privileged()
    return acting_as(Account(name=f"#{uid}", uid=uid, gid=gid, home="/"))


# Making


def _new_place(parent: Path, purpose: str, account: Optional[Account]) -> tuple[Path, int]:
    with os_errors(parent):
        directory = _open_parent(parent)
        try:
            for _attempt in range(_ATTEMPTS):
                name = _new_name(purpose)
                lock = _made(name, directory, account)
                if lock is not None:
                    return parent / name, lock
        finally:
            os.close(directory)
    raise TradekeepError("scratch directories are removed as soon as they are made", path=parent)


def _made(name: str, directory: int, account: Optional[Account]) -> Optional[int]:
    """Make a directory and lock it; None where a sweep came between the two."""
    if account is None or os.geteuid() != 0:
        with privileged():
            os.mkdir(name, 0o700, dir_fd=directory)
            return _lock_new(name, directory, None)
    with acting_as(account):
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
            return _lock_new(name, directory, None)
        except PermissionError:
            pass
    # A directory that is root's alone.
    with privileged():
        os.mkdir(name, 0o700, dir_fd=directory)
        return _lock_new(name, directory, account)


def _lock_new(name: str, directory: int, account: Optional[Account]) -> Optional[int]:
    try:
        descriptor = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        if account is not None:
            os.fchown(descriptor, account.uid, account.gid)
        if _locked(descriptor) and _is_still(name, directory, os.fstat(descriptor)):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still(name: str, directory: int, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=directory, follow_symlinks=False), status)
    except FileNotFoundError:
        return False


# Removing


def _remove(place: Path, lock: int) -> None:
    with contextlib.suppress(OSError, UnsafePathError):
        directory = _open_parent(place.parent)
        try:
            _remove_directory(place.name, directory, lock)
        finally:
            os.close(directory)


def _remove_directory(name: str, directory: int, descriptor: int) -> None:
    """Its content with the rights of its owner, its name with those of who owns the directory above."""
    status = os.fstat(descriptor)
    with _with_rights_of(status.st_uid, status.st_gid):
        empty(descriptor)
    with privileged():
        if _is_still(name, directory, status):
            os.rmdir(name, dir_fd=directory)


def _before(call: Callable[[Path], None], parent: AnyPath) -> Callable[[str], None]:
    return lambda name: call(Path(parent) / name)


def _swept(
    name: str,
    directory: int,
    uid: Optional[int],
    before: Optional[Callable[[str], None]],
    since: Optional[float] = None,
) -> bool:
    try:
        with privileged():
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            return False
        if before is not None and status.st_uid != os.geteuid():
            return False
        if uid is not None and status.st_uid != uid:
            return False
        if since is not None and status.st_mtime > since:
            return False
        with _with_rights_of(status.st_uid, status.st_gid):
            descriptor = os.open(name, _LEFTOVER_FLAGS, dir_fd=directory)
        try:
            if not os.path.samestat(os.fstat(descriptor), status) or not _is_leftover(name, descriptor):
                return False
            if before is not None:
                before(name)
            if stat.S_ISDIR(status.st_mode):
                _remove_directory(name, directory, descriptor)
            else:
                with privileged():
                    os.unlink(name, dir_fd=directory)
        finally:
            os.close(descriptor)
    except OSError:
        return False  # somebody else's, or gone meanwhile
    return True


def _is_leftover(name: str, descriptor: int) -> bool:
    if not _locked(descriptor):
        return False
    if _NAME.fullmatch(name):
        return True
    number = _BY_NUMBER.fullmatch(name)
    if number is not None:
        return not process_lives(int(number[1]))
    return os.fstat(descriptor).st_ctime < time.time() - _A_DAY


def empty(top: int) -> None:
    """Remove all that lies in an open directory, following no symlink.

    Directories are moved to the top before they are emptied: however deep they lie in one another, no more than two
    are open at a time.
    """
    waiting = _strip(top, top)
    while waiting:
        name = waiting.pop()
        below = _open_to_empty(name, top)
        try:
            waiting += _strip(below, top)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=top)


def _strip(directory: int, top: int) -> list[str]:
    """Unlink what is no directory; returns the names, at the top, of the directories that were there."""
    found = []
    for name in os.listdir(directory):
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            found.append(name if directory == top else _moved(name, directory, top))
    return found


def _moved(name: str, directory: int, top: int) -> str:
    moved = f"below-{secrets.token_hex(8)}"
    try:
        os.rename(name, moved, src_dir_fd=directory, dst_dir_fd=top)
    except PermissionError:
        # To move a directory is to write its ``..``.
        os.close(_open_to_empty(name, directory))
        os.rename(name, moved, src_dir_fd=directory, dst_dir_fd=top)
    return moved


def _open_to_empty(name: str, directory: int) -> int:
    """Open a directory that files are to be removed from; a stage's may be without the right to do so."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
        if os.fstat(descriptor).st_mode & 0o700 != 0o700:
            os.fchmod(descriptor, 0o700)
        return descriptor
    # It cannot even be read: only its owner, in whose name this is done, can have put a symlink there now.
    if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        os.chmod(name, 0o700, dir_fd=directory)
    return os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
