# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The renames of an exchange and how each is taken back, whatever instant it was stopped at.

Several accounts can own the directories of one tree, so the caller has root's rights, and everything goes by
descriptors, which are reached from the top of the tree without following symlinks. A name is only ever moved between a
directory of the tree and its stage.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Sequence
from typing import Optional

from ..errors import TradekeepError, UnsafePathError
from ..host.files import open_directory
from ..host.filesystem.beneath import open_at
from ..host.filesystem.identity import with_privileges
from .plan import Replacement

_OPEN_DIRECTORIES = 64
# link() is refused for files of others (fs.protected_hardlinks) and missing on some filesystems.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


class Directories:
    """Open directories beneath the tops of the trees, reached without following symlinks; the last few stay open."""

    def __init__(self, tops: Sequence[str]) -> None:
        # Opened once: what the bot may put in their place later is not looked at.
        self._tops = {top: open_directory(top) for top in sorted(tops, key=len, reverse=True)}
        self._open: OrderedDict[str, int] = OrderedDict()
        self._touched: set[str] = set()

    def at(self, path: str) -> tuple[int, str]:
        """Descriptor of the path's directory and the name in it."""
        parent, _slash, name = path.rpartition("/")
        self._touched.add(parent)
        if parent in self._open:
            self._open.move_to_end(parent)
            return self._open[parent], name
        descriptor = self._open_beneath(parent)
        self._open[parent] = descriptor
        if len(self._open) > _OPEN_DIRECTORIES:
            os.close(self._open.popitem(last=False)[1])
        return descriptor, name

    def _open_beneath(self, parent: str) -> int:
        for top, descriptor in self._tops.items():
            if parent == top or parent.startswith(top + "/"):
                return open_at(descriptor, parent[len(top) + 1 :], os.O_RDONLY | os.O_DIRECTORY, shown=top)
        raise TradekeepError("lies outside of the data of this transaction", path=parent)

    def forget(self) -> None:
        """Close what lies beneath the tops: descriptors of directories that were moved would lead astray."""
        while self._open:
            os.close(self._open.popitem()[1])

    def close(self) -> None:
        """Close everything."""
        self.forget()
        for descriptor in self._tops.values():
            os.close(descriptor)
        self._tops = {}

    @with_privileges
    def sync(self) -> None:
        """Make all names that were changed durable."""
        self.forget()
        for parent in sorted(self._touched):
            try:
                descriptor = self._open_beneath(parent)
            except (FileNotFoundError, UnsafePathError):
                continue  # it moved away or is a file now; the names in its parent are synced
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._touched.clear()


def exchange_one(item: Replacement, directories: Directories) -> None:
    """Put the staged in the place of the live and keep the old. A file is replaced without an instant of absence."""
    live = _mode(item.live, directories)
    if live is None and item.staged is None:
        return  # what was to be removed has gone by itself, as the sidecar of a database does
    if (live is not None) != item.had:
        raise TradekeepError("appeared or vanished while the transaction ran", path=item.live)
    if live is not None and (item.staged is None or not _keep_by_link(item, live, directories)):
        _rename(item.live, item.kept, directories)
        if not item.filled:
            _refuse_filled_directory(item, live, directories)
    if item.staged is not None:
        _rename(item.staged, item.live, directories)


def take_back(item: Replacement, directories: Directories) -> None:
    """Restore the old state of one path, from any instant of ``exchange_one`` or of itself."""
    if item.companions is not None and _is_exchanged(item, directories):
        _withdraw(item, item.companions, directories)
    if not item.had:
        _take_back_new(item, directories)
        return
    kept = _mode(item.kept, directories)
    if kept is None:
        return
    live = _mode(item.live, directories)
    if live is not None and _same(item.live, item.kept, directories):
        _unlink(item.kept, directories)
    elif live is not None and stat.S_ISDIR(live) and stat.S_ISDIR(kept):
        _merge_directory(item, directories)
    else:
        if live is not None and (stat.S_ISDIR(live) or stat.S_ISDIR(kept)):
            _set_aside(item, directories)
        _rename(item.kept, item.live, directories)


def _is_exchanged(item: Replacement, directories: Directories) -> bool:
    """Whether the new has been in force, so that services may have written to it."""
    if item.had:
        return _mode(item.kept, directories) is not None and not _same(item.live, item.kept, directories)
    return item.staged is not None and _mode(item.staged, directories) is None


def _withdraw(item: Replacement, companions: Sequence[str], directories: Directories) -> None:
    """Hold what services have written, and leave nothing of it beside the old: its WAL would replay over that."""
    for suffix in companions:
        if _mode(item.live + suffix, directories) is not None:
            try:
                _rename(item.live + suffix, item.given_up + suffix, directories)
            except OSError:
                _unlink(item.live + suffix, directories)  # no room to hold it; the old state counts more
    live = _mode(item.live, directories)
    if item.had and live is not None and not stat.S_ISDIR(live):
        source, source_name = directories.at(item.live)
        target, target_name = directories.at(item.given_up)
        with contextlib.suppress(OSError):
            os.link(source_name, target_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)


def _take_back_new(item: Replacement, directories: Directories) -> None:
    if item.staged is None or _mode(item.staged, directories) is not None:
        return  # it never went live, or is back already
    if _mode(item.live, directories) is not None:
        _rename(item.live, item.staged, directories)


def _set_aside(item: Replacement, directories: Directories) -> None:
    """Move what is live out of the way of the old one; into the stage, which is removed at the end."""
    staged_is_free = item.staged is not None and _mode(item.staged, directories) is None
    _rename(item.live, str(item.staged) if staged_is_free else item.kept + ".new", directories)


def _merge_directory(item: Replacement, directories: Directories) -> None:
    """A removed directory was made again meanwhile: the old one takes its place unless it is filled."""
    try:
        _rename(item.kept, item.live, directories)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _keep_by_link(item: Replacement, live: int, directories: Directories) -> bool:
    """Keep the old file under a second name, so that one rename can replace it. False where that cannot be done."""
    if stat.S_ISDIR(live) or item.staged is None:
        return False
    staged = _mode(item.staged, directories)
    if staged is None or stat.S_ISDIR(staged):
        return False
    source, source_name = directories.at(item.live)
    target, target_name = directories.at(item.kept)
    try:
        os.link(source_name, target_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True


def _refuse_filled_directory(item: Replacement, live: int, directories: Directories) -> None:
    """Only empty directories are removed: what nobody planned to remove must not go with them."""
    if not stat.S_ISDIR(live):
        return
    parent, name = directories.at(item.kept)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        names = os.listdir(descriptor)
    finally:
        os.close(descriptor)
    if names:
        raise TradekeepError(f"cannot be removed, because it still holds {names[0]}", path=item.live)
    directories.forget()


def _mode(path: str, directories: Directories) -> Optional[int]:
    """Type and mode of what is there, None when nothing is."""
    facts = _stat(path, directories)
    return None if facts is None else facts.st_mode


def _same(one: str, other: str, directories: Directories) -> bool:
    first, second = _stat(one, directories), _stat(other, directories)
    return first is not None and second is not None and os.path.samestat(first, second)


def _stat(path: str, directories: Directories) -> Optional[os.stat_result]:
    try:
        parent, name = directories.at(path)
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _rename(source: str, target: str, directories: Directories) -> None:
    moved = _mode(source, directories)
    # Both are looked up before either is used: the second look-up may close the first one's descriptor only when
    # more than _OPEN_DIRECTORIES lie between them.
    from_directory, from_name = directories.at(source)
    to_directory, to_name = directories.at(target)
    os.rename(from_name, to_name, src_dir_fd=from_directory, dst_dir_fd=to_directory)
    if moved is not None and stat.S_ISDIR(moved):
        directories.forget()


def _unlink(path: str, directories: Directories) -> None:
    parent, name = directories.at(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
