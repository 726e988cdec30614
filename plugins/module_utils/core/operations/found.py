# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What is found in a directory: things one by one, and small files by the hundred. Read-only; opens no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple, Optional, Union

from ..errors import CaptureError, UnreadableError
from ..kinds.base import Signature
from ..kinds.reading import DIRECTORY_FLAGS, signature_of
from ..kinds.small import SHORT_WAYS, SMALL
from ..patterns import Classified, Classifier
from ..signals import answer
from .kind_of import kind_in, tied, without_sidecars

NO_COMPONENT = "(none)"
"""Shown for what no component of the profile has."""
OWN_PREFIX = ".tradekeep"
LOST_AND_FOUND = "lost+found"
NOTHING_SEEN = Signature(0, 0, 0, 0, 0)
DEEPEST = 100
"""Directories in directories that are looked into, the root not counted. The bot can make any number of them, which no
path reaches and no recursion survives.
"""
_LONGEST_DIRECTORY = 1500
"""Bytes of a directory's path below the root: a path in it is one that a stage anywhere can still hold."""

MOST_NAMES = 1_000_000
"""Names in one directory. They are sorted, and so held in memory all at once."""


class Found(NamedTuple):
    """One thing in the tree. A tuple, because there can be hundreds of thousands."""

    path: str
    """Relative to the root."""
    absolute: str
    """Where its bytes are now; not under the root when a transaction keeps it aside."""
    type: str
    """``file``, ``directory``, ``symlink``, ``special`` (socket, FIFO, device: never captured), or ``deep`` (a
    directory below so many others that neither it nor what it holds is captured).
    """
    component: str
    kind: Optional[str]
    required: bool
    mode: int
    signature: Signature
    may_shrink: bool = False
    """Whether the profile says so of this file."""

    @classmethod
    def of_directory(cls, path: str, absolute: str) -> Found:
        """A directory of which nothing else matters."""
        return cls(path, absolute, "directory", "", None, False, 0, NOTHING_SEEN)

    @classmethod
    def of_file(cls, directory: Found, name: str, component: str, kind: str, seen: Signature) -> Found:
        """A plain file whose rights were not kept; who captures it looks at them."""
        path, absolute = f"{directory.path}/{name}", f"{directory.absolute}/{name}"
        return cls(path, absolute, "file", component, kind, False, 0, seen)

    @property
    def files(self) -> int:
        """One, or none."""
        return 1 if self.type == "file" else 0

    @property
    def size(self) -> int:
        """Bytes of a file, nothing otherwise."""
        return self.signature.size if self.type == "file" else 0


class SmallFiles(NamedTuple):
    """Small files of one component, side by side in one directory; four lists in step, because there can be so many."""

    directory: Found
    component: str
    names: list[str]
    kinds: list[str]
    seen: list[Signature]
    type: str = "file"

    @property
    def files(self) -> int:
        """How many."""
        return len(self.names)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(seen.size for seen in self.seen)

    def holds(self, path: str) -> bool:
        """Whether a path is one of theirs."""
        return _is_one_of(path, self.directory, self.names)


class Share(NamedTuple):
    """The same, as somebody else has seen them."""

    number: int
    directory: Found
    names: Sequence[str]
    component: str
    files: int
    size: int
    type: str = "file"

    def holds(self, path: str) -> bool:
        """Whether a path is one of theirs."""
        return _is_one_of(path, self.directory, self.names)


Thing = Union[Found, SmallFiles]


def _is_one_of(path: str, directory: Found, names: Sequence[str]) -> bool:
    parent, _slash, name = path.rpartition("/")
    return parent == directory.path and name in names


def found_of(lookup: Classifier, path: str, absolute: str, status: os.stat_result) -> Optional[Found]:
    """What has this status; None when it is not part of any component.

    A directory of code in which there can be data is of the component ``""``.
    """
    mode = status.st_mode
    entry_type = "file" if stat.S_ISREG(mode) else _type_of(mode)
    classified = lookup.directory(path) if entry_type == "directory" else lookup.file(path)
    if entry_type == "directory" and lies_too_deep(path):
        entry_type = "deep"
    if classified is None:
        if entry_type == "directory" and lookup.leads_on(path):
            return Found(path, absolute, entry_type, "", None, False, stat.S_IMODE(mode), signature_of(status))
        return None
    kind = None
    if entry_type == "file":
        kind = kind_in(classified, path)
    component, required = classified.component.name, classified.required
    seen, shrinks = signature_of(status), _shrinks_by_rule(classified)
    return Found(path, absolute, entry_type, component, kind, required, stat.S_IMODE(mode), seen, shrinks)


def unmanaged_at(path: str, absolute: str, status: os.stat_result, kind: str) -> Found:
    """What has this status, of whatever component it may have been: for copies of what is about to go."""
    mode = status.st_mode
    entry_type = "file" if stat.S_ISREG(mode) else _type_of(mode)
    known = kind if entry_type == "file" else None
    return Found(path, absolute, entry_type, NO_COMPONENT, known, False, stat.S_IMODE(mode), signature_of(status))


def lies_too_deep(directory: str) -> bool:
    """Whether a directory, given relative to the root, lies below so many others that it is not looked into."""
    if directory.count("/") >= DEEPEST:
        return True
    return len(directory) * 4 > _LONGEST_DIRECTORY and len(os.fsencode(directory)) > _LONGEST_DIRECTORY


def left_out_as_too_deep(directory: str) -> str:
    """What to say of such a directory."""
    return f"{directory}: lies more than {DEEPEST} directories deep or has too long a path, left out with all in it"


def _type_of(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISLNK(mode):
        return "symlink"
    return "special"


def names_in(directory: Found, lookup: Optional[Classifier] = None) -> list[str]:
    """The names of what may be captured, in order. lookup: leaves out what is a part of a database beside it."""
    answer()
    try:
        with os.scandir(directory.absolute) as entries:
            names = sorted(entry.name for entry in islice(entries, MOST_NAMES + 1))
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed by the bot since it was listed
    except PermissionError:
        if is_of_filesystem(directory.path):
            return []
        raise UnreadableError("may not be read by the owner of the data", path=directory.absolute) from None
    if len(names) > MOST_NAMES:
        raise too_many_names(MOST_NAMES, directory.absolute)
    if OWN_PREFIX in "\0".join(names):
        names = [name for name in names if not name.startswith(OWN_PREFIX)]
    return names if lookup is None else without_sidecars(lookup, directory.path, names)


def is_of_filesystem(directory: str) -> bool:
    """Whether a directory is the filesystem's own, at the top of a disk: root's alone, and no data of anybody's."""
    return directory[directory.rfind("/") + 1 :] == LOST_AND_FOUND


def too_many_names(most: int, path: str) -> CaptureError:
    """The error for more than can be looked at in the memory and the time that there are."""
    return CaptureError(
        f"holds more than {most:,} files and directories",
        path=path,
        hint="remove or move away what nobody needs, or leave the directory out with 'exclude' in the profile",
    )


def look(lookup: Classifier, directory: Found, names: Sequence[str]) -> list[Found]:
    """Those of some things in a directory that are still there and part of a component."""
    found: list[Found] = []
    for name, status in _statuses(directory, names):
        thing = found_of(lookup, f"{directory.path}/{name}", f"{directory.absolute}/{name}", status)
        if thing is not None:
            found.append(thing)
    return found


def look_together(lookup: Classifier, directory: Found, names: Sequence[str]) -> list[Thing]:
    """The same, with small files gathered."""
    things: list[Thing] = []
    latest: Optional[SmallFiles] = None
    prefix = f"{directory.path}/"
    together = tied(names)
    for name, status in _statuses(directory, names):
        path = prefix + name
        if status.st_size <= SMALL and stat.S_ISREG(status.st_mode) and name not in together:
            classified = lookup.file(path)
            if classified is None:
                continue
            kind = kind_in(classified, name)
            if kind in SHORT_WAYS and not (classified.required or _shrinks_by_rule(classified)):
                if latest is None or latest.component != classified.component.name:
                    latest = SmallFiles(directory, classified.component.name, [], [], [])
                    things.append(latest)
                latest.names.append(name)
                latest.kinds.append(kind)
                latest.seen.append(signature_of(status))
                continue
        thing = found_of(lookup, path, f"{directory.absolute}/{name}", status)
        if thing is not None:
            latest = None
            things.append(thing)
    return things


def _shrinks_by_rule(classified: Classified) -> bool:
    """Whether a file is counted apart from others of its component."""
    return classified.may_shrink and not classified.component.may_shrink


def _statuses(directory: Found, names: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Names that are still there. Looking up each whole path anew would take as long as all the rest."""
    with opened(directory.absolute) as descriptor:
        for name in names if descriptor is not None else ():
            try:
                yield name, os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue


@contextmanager
def opened(directory: str) -> Iterator[Optional[int]]:
    """The open directory, for what lies in it; None when it is gone."""
    descriptor = _descriptor_of(directory)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _descriptor_of(directory: str) -> Optional[int]:
    try:
        return os.open(directory, DIRECTORY_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
