# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whether root may read a file as configuration, or execute it: only what nobody but root can write.

A file is trusted when it and every directory above it, those that symlinks lead through included, belong to root and
can be written to by nobody else. That is decided level by level from ``/`` on, relative to descriptors, so that what
was checked is what is opened. As every level above is root's alone, nobody else can change the answer afterwards.

- A directory with the sticky bit (``/tmp``) is passed through, to what is root's alone in it: others can add names
  there, but not take one away. A file in it with a second name is not trusted: the name may be somebody else's.
- Write permission of a group counts as that of others. The exceptions are the groups ``root`` and ``staff`` while they
  have no member but root: ``/usr/local`` of older Debian systems is ``root:staff`` with mode 2775. Permissions of
  an ACL show in the bits of the group; with one there is no exception.
- Whoever is not root has no more to lose than its own rights: then everything is trusted.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional, Union

from ..errors import ConfigurationError, TradekeepError
from ..formatting import pasted
from .filesystem.identity import with_privileges
from .ownership import name_of_gid, name_of_uid

AnyPath = Union[str, "os.PathLike[str]"]
_MOST_LINKS = 40
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TEMPORARY_PLACES = ("TMPDIR", "TEMP", "TMP", "SQLITE_TMPDIR")


@dataclass(frozen=True)
class Untrusted:
    """The first level of a path that somebody else can change. uid: whom it belongs to."""

    path: str
    reason: str
    uid: int


@dataclass(frozen=True)
class _Level:
    """A level of a path. facts: None where it does not exist. directory: what it is in; None for ``/``."""

    shown: str
    name: str
    descriptor: int
    facts: Optional[os.stat_result]
    directory: Optional[_Level]


@with_privileges
def untrusted_level(path: AnyPath, *, shared: bool = False) -> Optional[Untrusted]:
    """What keeps root from trusting a path; None where nothing does.

    Where the end of the path does not exist, the directories say whether anybody but root could put it there.

    shared: a directory with the sticky bit is good enough, to make something new of root's own in it.
    """
    if os.geteuid() != 0:
        return None
    with contextlib.ExitStack() as stack:
        try:
            last = _followed(path, stack)
        except OSError as error:
            return Untrusted(os.fspath(path), f"cannot be looked at: {error.strerror}", 0)
        if isinstance(last, Untrusted) or shared:
            return last if isinstance(last, Untrusted) else None
        place = last if last.facts is not None else last.directory
        if place is not None and _is_shared(place):
            return Untrusted(place.shown, f"everybody can put files into {place.shown}", 0)
    return None


@with_privileges
def untrusted_reason(path: AnyPath) -> Optional[str]:
    """Why root must neither read nor execute a path; None where it may."""
    found = untrusted_level(path)
    return None if found is None else found.reason


@with_privileges
def require_trusted(
    path: AnyPath, *, what: str, hint: Optional[str] = None, error: type[TradekeepError] = ConfigurationError
) -> None:
    """Refuse a path that is not trusted. what: the file as a person calls it, for instance ``the passphrase file``."""
    found = untrusted_level(path)
    if found is not None:
        raise _refusal(path, found, what, hint, error)


@with_privileges
def open_trusted(
    path: AnyPath, *, what: str, hint: Optional[str] = None, error: type[TradekeepError] = ConfigurationError
) -> int:
    """A descriptor for reading a regular file that is trusted. Nobody can change the file between check and use.

    Raises OSError as ``os.open`` does, and ``error`` for what is not trusted or is no regular file.
    """
    if os.geteuid() != 0:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    else:
        descriptor = _open_checked(path, what, hint, error)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise error(f"{what} is not a regular file", path=os.fspath(path), hint=hint)


@with_privileges
def read_trusted(
    path: AnyPath,
    *,
    what: str,
    hint: Optional[str] = None,
    limit: int = 64 * 1024 * 1024,
    error: type[TradekeepError] = ConfigurationError,
) -> bytes:
    """What a trusted file holds, at most so many bytes of it."""
    with open(open_trusted(path, what=what, hint=hint, error=error), "rb") as file:
        return file.read(limit)


def leave_untrusted_places() -> None:
    """Forget where the environment says that temporary files go, unless nobody else could exchange them there."""
    if os.geteuid() != 0:
        return
    for name in _TEMPORARY_PLACES:
        place = os.environ.get(name)
        if place and untrusted_level(place, shared=True) is not None:
            del os.environ[name]
            tempfile.tempdir = None


def _open_checked(path: AnyPath, what: str, hint: Optional[str], error: type[TradekeepError]) -> int:
    with contextlib.ExitStack() as stack:
        last = _followed(path, stack)
        if isinstance(last, Untrusted):
            raise _refusal(path, last, what, hint, error)
        if last.facts is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        if last.directory is None:
            raise error(f"{what} is not a regular file", path=os.fspath(path), hint=hint)
        descriptor = os.open(last.name, _READ, dir_fd=last.directory.descriptor)
    if os.path.samestat(os.fstat(descriptor), last.facts):
        return descriptor
    os.close(descriptor)
    raise error(f"{what} was replaced while it was opened", path=os.fspath(path), hint="run again")


def _followed(path: AnyPath, stack: contextlib.ExitStack) -> Union[_Level, Untrusted]:
    """The end of a path, or the first level of it that is not trusted. The stack holds the descriptors."""
    last: Optional[_Level] = None
    for level in _levels(path, stack):
        found = _judged(level)
        if found is not None:
            return found
        last = level
    if last is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    return last


def _levels(path: AnyPath, stack: contextlib.ExitStack) -> Iterator[_Level]:
    """Each level of a path from ``/`` on; of a symlink itself, then of all that it leads through."""
    todo = _names(os.path.join(os.getcwd(), os.fspath(path)))
    links = 0
    directory = root = _level("/", "", None, stack)
    yield root
    while todo:
        name = todo.pop()
        if name == "..":
            directory = directory.directory or root
            continue
        level = _level(name, directory.shown.rstrip("/") + "/", directory, stack)
        yield level
        if level.facts is None:
            return
        if not stat.S_ISLNK(level.facts.st_mode):
            directory = level
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), level.shown)
        target = os.readlink("", dir_fd=level.descriptor)
        if target.startswith("/"):
            directory = root
        todo += _names(target)


def _level(name: str, prefix: str, directory: Optional[_Level], stack: contextlib.ExitStack) -> _Level:
    shown = prefix + name
    try:
        descriptor = os.open(name, _LOOK, dir_fd=None if directory is None else directory.descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return _Level(shown, name, -1, None, directory)
    stack.callback(os.close, descriptor)
    return _Level(shown, name, descriptor, os.fstat(descriptor), directory)


def _names(path: str) -> list[str]:
    """The names of a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _judged(level: _Level) -> Optional[Untrusted]:
    facts = level.facts
    if facts is None:
        return None
    if facts.st_uid != 0:
        return Untrusted(level.shown, f"{level.shown} belongs to {name_of_uid(facts.st_uid)}", facts.st_uid)
    if not stat.S_ISLNK(facts.st_mode) and not _is_shared(level):
        who = _others_who_write(level.descriptor, facts)
        if who is not None:
            return Untrusted(level.shown, f"{level.shown} can be written to by {who}", 0)
    in_shared = level.directory is not None and _is_shared(level.directory)
    if in_shared and facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
        return Untrusted(level.shown, f"{level.shown} has a second name, and may have this one from somebody else", 0)
    return None


def _is_shared(level: _Level) -> bool:
    """Whether others can put names into a directory, and take away none but their own."""
    mode = 0 if level.facts is None else level.facts.st_mode
    return bool(stat.S_ISDIR(mode) and mode & stat.S_ISVTX and mode & (stat.S_IWGRP | stat.S_IWOTH))


def _others_who_write(descriptor: int, facts: os.stat_result) -> Optional[str]:
    if facts.st_mode & stat.S_IWOTH:
        return "everybody"
    if facts.st_mode & stat.S_IWGRP and (_has_acl(descriptor) or not _has_no_members(facts.st_gid)):
        return f"its group, {name_of_gid(facts.st_gid)}"
    return None


def _has_acl(descriptor: int) -> bool:
    try:
        # Of a descriptor that only looks, extended attributes cannot be asked for.
        os.getxattr(f"/proc/self/fd/{descriptor}", "system.posix_acl_access")
    except OSError as error:
        return error.errno not in (errno.ENODATA, errno.ENOTSUP)
    return True


def _has_no_members(gid: int) -> bool:
    """Whether it is one of the groups that may be there for nobody, and nobody but root is in it."""
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    if gid != 0 and group.gr_name != "staff":
        return False
    return set(group.gr_mem) <= {"root"} and all(item.pw_uid == 0 for item in pwd.getpwall() if item.pw_gid == gid)


def _refusal(
    path: AnyPath, found: Untrusted, what: str, hint: Optional[str], error: type[TradekeepError]
) -> TradekeepError:
    where = os.fspath(path)
    if hint is None:
        given = f"chown root {pasted(where)}; chmod go-w {pasted(where)}"
        hint = given if found.path == where else "move it to where root alone can write"
    return error(f"root does not use {what}, as others can change it: {found.reason}", path=where, hint=hint)
