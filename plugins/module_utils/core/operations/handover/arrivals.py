# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Where data arrives: a directory of the owner's at the top of each part of the tree, and files in it.

The bot can prepare whatever it likes there, and swap it at any moment. All is done with the owner's rights, relative to
the descriptor of the tree's top, through real directories alone; a file is the owner's with no second name, or it
is not used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from ...errors import TradekeepError, UnsafePathError
from ...host.files import os_errors
from ...host.filesystem.beneath import open_at, open_root
from ...host.filesystem.identity import acting_uid
from ...host.mounts import DeviceRoot, device_root_of
from ...transaction.stage_directory import make_beside, remove_stage
from ..scan import OWN_PREFIX

ARRIVING = f"{OWN_PREFIX}-arriving"
DEEPEST = 100
"""Nothing lies beneath more directories: each of them costs somebody a descriptor, or a call within a call."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_ATTEMPTS = 3


class Arrivals:
    """All of them, in the parts of one tree within which a rename can move files."""

    def __init__(self, roots: tuple[DeviceRoot, ...]) -> None:
        self._roots = roots
        self._tops: dict[str, int] = {}

    def make(self) -> None:
        """Create what is lacking of the directories."""
        for root in self._roots:
            if root.is_directory:
                place = f"{root.path}/{ARRIVING}"
                with os_errors(place):
                    make_beside(place)
                    self._refuse_strange(root, place)

    def remove(self) -> None:
        """Remove all of it."""
        for root in self._roots:
            remove_stage(f"{root.path}/{ARRIVING}")
        self.close()

    def close(self) -> None:
        """Give back the descriptors; may be called twice."""
        while self._tops:
            os.close(self._tops.popitem()[1])

    def home_of(self, path: str) -> str:
        """Where a file of the data arrives."""
        return f"{device_root_of(self._roots, path).path}/{ARRIVING}/{path}"

    def files(self) -> Iterator[str]:
        """Paths of what has arrived, in one run or in several; nothing that cannot be an arrival."""
        for root in self._roots:
            waiting = [""]
            while waiting:
                directory = waiting.pop()
                for name, status in self._listed(root, directory):
                    path = f"{directory}/{name}" if directory else name
                    if stat.S_ISDIR(status.st_mode) and path.count("/") < DEEPEST:
                        waiting.append(path)
                    elif _is_ours(status):
                        yield path

    def size_of(self, place: str) -> int:
        """How large the file at a place is, 0 where there is none that can be used."""
        with contextlib.suppress(OSError, TradekeepError), self._parent(place, make=False) as (directory, name):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            return status.st_size if _is_ours(status) else 0
        return 0

    def exists(self, place: str) -> bool:
        """Whether anything has that name."""
        with contextlib.suppress(OSError, TradekeepError), self._parent(place, make=False) as (directory, name):
            os.stat(name, dir_fd=directory, follow_symlinks=False)
            return True
        return False

    def open(self, place: str) -> int:
        """A descriptor of a file for reading. Raises UnsafePathError for what cannot be one, FileNotFoundError."""
        with self._parent(place, make=False) as (directory, name):
            descriptor = open_at(directory, name, os.O_RDONLY | os.O_NONBLOCK, shown=os.path.dirname(place))
        return _checked(descriptor, place)

    def open_for_writing(self, place: str) -> tuple[int, bool]:
        """A descriptor of the file at a place, and whether it is a new one; its directories are made.

        What lies there and cannot be used is removed.
        """
        for _attempt in range(_ATTEMPTS):
            with self._parent(place, make=True) as (directory, name):
                with contextlib.suppress(FileNotFoundError, UnsafePathError, PermissionError), _but_no_device(place):
                    found = open_at(directory, name, os.O_RDWR | os.O_NONBLOCK, shown=os.path.dirname(place))
                    return _checked(found, place), False
                _clear(name, directory)
                with contextlib.suppress(FileExistsError):
                    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NONBLOCK
                    return open_at(directory, name, flags, mode=0o600, shown=os.path.dirname(place)), True
        raise _disturbed(place)

    def rename(self, place: str, to: str) -> None:
        """Move a file, within one part of the tree; the directories of its new place are made."""
        with self._parent(place, make=False) as (source, name), self._parent(to, make=True) as (target, new_name):
            os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)

    def unlink(self, place: str) -> None:
        """Remove a file; it may be gone."""
        with contextlib.suppress(FileNotFoundError), self._parent(place, make=False) as (directory, name):
            os.unlink(name, dir_fd=directory)

    def open_live(self, path: str) -> int:
        """A descriptor of a live file for reading. Raises UnsafePathError for what is no regular file, OSError."""
        root = device_root_of(self._roots, path)
        relative = path[len(root.relative) + 1 :] if root.relative else path
        descriptor = open_at(self._top(root), relative, os.O_RDONLY | os.O_NONBLOCK, shown=root.path)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnsafePathError("is not a regular file", path=f"{root.path}/{relative}")
        return descriptor

    def _listed(self, root: DeviceRoot, directory: str) -> list[tuple[str, os.stat_result]]:
        relative = f"{ARRIVING}/{directory}" if directory else ARRIVING
        found = []
        with contextlib.suppress(OSError, UnsafePathError):
            descriptor = open_at(self._top(root), relative, _DIRECTORY, shown=root.path)
            try:
                for name in os.listdir(descriptor):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((name, os.stat(name, dir_fd=descriptor, follow_symlinks=False)))
            finally:
                os.close(descriptor)
        return found

    def _refuse_strange(self, root: DeviceRoot, place: str) -> None:
        descriptor = open_at(self._top(root), ARRIVING, _DIRECTORY, shown=root.path)
        try:
            if os.fstat(descriptor).st_uid != acting_uid():
                raise UnsafePathError(
                    "belongs to somebody else than the data's owner",
                    path=place,
                    hint="an earlier version or somebody else has left it: remove it, then run again",
                )
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _parent(self, place: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """The open directory of a place, and the name in it. make: what stands in a directory's place is removed."""
        root = self._root_of(place)
        directory, _slash, name = place[len(root.path) + 1 :].rpartition("/")
        descriptor = self._made(root, directory) if make else self._opened(root, directory)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _opened(self, root: DeviceRoot, directory: str) -> int:
        return open_at(self._top(root), directory, _DIRECTORY, shown=root.path)

    def _made(self, root: DeviceRoot, directory: str) -> int:
        with contextlib.suppress(FileNotFoundError, UnsafePathError):
            return self._opened(root, directory)
        here, seen = os.dup(self._top(root)), root.path
        try:
            for part in directory.split("/"):
                seen = f"{seen}/{part}"
                deeper = _directory_in(here, part, seen)
                os.close(here)
                here = deeper
            return os.dup(here)
        finally:
            os.close(here)

    def _top(self, root: DeviceRoot) -> int:
        if root.path not in self._tops:
            self._tops[root.path] = open_root(root.path)
        return self._tops[root.path]

    def _root_of(self, place: str) -> DeviceRoot:
        holding = [root for root in self._roots if place.startswith(f"{root.path}/")]
        if not holding:
            raise UnsafePathError("lies outside the data", path=place)
        return max(holding, key=lambda root: len(root.path))


def _directory_in(above: int, name: str, shown: str) -> int:
    for _attempt in range(_ATTEMPTS):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=above)
        with contextlib.suppress(UnsafePathError, FileNotFoundError):
            return open_at(above, name, _DIRECTORY, shown=os.path.dirname(shown))
        _clear(name, above)
    raise _disturbed(shown)


@contextlib.contextmanager
def _but_no_device(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise UnsafePathError("is not a regular file", path=place) from error


def _clear(name: str, directory: int) -> None:
    """Remove what lies there, unless it is a directory."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _checked(descriptor: int, place: str) -> int:
    """What is open, if it is a file that can be used."""
    status = os.fstat(descriptor)
    if _is_ours(status):
        return descriptor
    os.close(descriptor)
    what = "is not a regular file" if not stat.S_ISREG(status.st_mode) else "is not the owner's alone"
    raise UnsafePathError(what, path=place, hint="something else was put in its place: look for who did it")


def _is_ours(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == acting_uid()


def _disturbed(place: str) -> UnsafePathError:
    return UnsafePathError(
        "is put in the way again and again",
        path=place,
        hint="stop what works in the data on this server, then run again",
    )
