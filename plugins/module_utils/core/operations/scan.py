# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What lies in an application's data tree, in the order in which an archive holds it. Read-only; opens no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Protocol, Union, cast

from ..application import Application, Component
from ..errors import ConfigurationError, UnsafePathError
from ..kinds import default_kind
from ..kinds.base import Signature
from ..kinds.reading import DIRECTORY_FLAGS, may_change_unseen, signature_of
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..patterns import Classifier, classifier, expected_files

OWN_PREFIX = ".tradekeep"
NOTHING_SEEN = Signature(0, 0, 0, 0, 0)


class Found(NamedTuple):
    """One thing in the tree. A tuple, because there can be hundreds of thousands."""

    path: str
    """Relative to the root."""
    absolute: str
    """Where its bytes are now; not under the root when a transaction keeps it aside."""
    type: str
    """``file``, ``directory``, ``symlink``, or ``special`` (socket, FIFO, device: never captured)."""
    component: str
    kind: Optional[str]
    required: bool
    mode: int
    signature: Signature

    @classmethod
    def of_directory(cls, path: str, absolute: str) -> Found:
        """A directory of which nothing else matters."""
        return cls(path, absolute, "directory", "", None, False, 0, NOTHING_SEEN)

    @property
    def size(self) -> int:
        """Bytes of a file, nothing otherwise."""
        return self.signature.size if self.type == "file" else 0


class Share(NamedTuple):
    """Small files of one component, side by side in one directory, that somebody else has looked at."""

    number: int
    directory: Found
    names: Sequence[str]
    component: str
    files: int
    size: int
    type: str = "file"

    def holds(self, path: str) -> bool:
        """Whether a path is one of theirs."""
        parent, _slash, name = path.rpartition("/")
        return parent == self.directory.path and name in self.names


class Sharing(Protocol):
    """Somebody who looks at a share of many small files."""

    def give(self, directory: Found, names: Sequence[str]) -> bool:
        """Whether they look at them; then ``take`` waits for what they saw."""

    def take(self, directory: Found, names: Sequence[str]) -> Optional[Share]:
        """What they saw; None when it has to be looked at by who asks."""


MINE, SHARE = 450, 550
"""Names that are looked at here while somebody else looks at more; capturing, there is also writing to be done here."""

Look = Callable[[Found, Sequence[str]], Iterable[Found]]
"""The things that bear some names in a directory, as a scan finds them."""


def check_root(application: Application) -> Path:
    """The root as a path. Raises ConfigurationError when it is missing or a symlink."""
    root = Path(application.root)
    try:
        status = root.lstat()
    except FileNotFoundError:
        raise ConfigurationError(
            "the data directory does not exist",
            path=root,
            hint="create it with 'tradekeep tree --fix' or the site playbook",
        ) from None
    if stat.S_ISLNK(status.st_mode):
        raise ConfigurationError(
            "the data directory is a symlink", path=root, hint=f"set tradekeep_root to {os.path.realpath(root)}"
        )
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError("the data directory is not a directory", path=root, hint="name a directory")
    return root


def scan(application: Application, *, components: Optional[frozenset[str]] = None) -> Iterator[Found]:
    """Everything that a backup holds, by component and path; parents before children.

    Raises UnsafePathError when a component's own path is a symlink: what it leads to would not be captured.
    """
    # Only with somebody to share with there are shares.
    return cast(Iterator[Found], chain.from_iterable(_runs(application, components, Listings(0))))


def shared_scan(application: Application, listings: Listings) -> Iterator[Union[Found, Share]]:
    """The same, and what somebody else has looked at as a whole.

    listings: where to keep what is listed for the next scan, or to find what an earlier one has kept.
    """
    return chain.from_iterable(_runs(application, None, listings))


def looker(application: Application) -> Look:
    """How an application's files are looked at."""
    lookup = classifier(application.profile)
    return lambda directory, names: _look(lookup, directory, names)


def _runs(
    application: Application, components: Optional[frozenset[str]], listings: Listings
) -> Iterator[Sequence[Union[Found, Share]]]:
    """The same in runs of what lies side by side; one by one, every thing would pass through all directories above."""
    root = check_root(application)
    for component in sorted(application.profile.components, key=lambda item: item.name):
        if not component.backup or (components is not None and component.name not in components):
            continue
        for path in sorted(component.paths):
            found = found_at(application, path, os.path.join(str(root), path))
            if found is not None:
                yield from _with_contents(classifier(application.profile), component, found, listings)


class Listings:
    """What directories hold, good as long as a directory has not changed; for so many things at most.

    sharing: who looks at a share of what can be remembered.
    """

    def __init__(self, most: int = 100_000, sharing: Optional[Sharing] = None) -> None:
        self._left = most
        self._kept: dict[str, tuple[Signature, list[Union[Found, Share]]]] = {}
        self.sharing = sharing

    def has_room(self, directory: Found, count: int) -> bool:
        """Whether so much, listed after the directory was looked at, would be remembered."""
        return self._left >= count and not may_change_unseen(directory.signature.changed_ns)

    def keep(self, directory: Found, children: list[Union[Found, Share]], count: int) -> None:
        """Remember what was listed after the directory was looked at. count: things, those in shares included."""
        if self.has_room(directory, count):
            self._left -= count
            self._kept[directory.absolute] = directory.signature, children

    def take(self, directory: Found) -> Optional[list[Union[Found, Share]]]:
        """What is remembered, once, if the directory is as it was."""
        signature, children = self._kept.pop(directory.absolute, (None, []))
        if signature is None:
            return None
        try:
            return children if signature_of(os.lstat(directory.absolute)) == signature else None
        except (FileNotFoundError, NotADirectoryError):
            return None


def found_at(application: Application, path: str, absolute: str) -> Optional[Found]:
    """What lies at one place, seen as ``path`` of the application; None when absent or not part of any component."""
    try:
        status = os.lstat(absolute)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _found(classifier(application.profile), path, absolute, status)


def _found(lookup: Classifier, path: str, absolute: str, status: os.stat_result) -> Optional[Found]:
    mode = status.st_mode
    entry_type = "file" if stat.S_ISREG(mode) else _type_of(mode)
    classified = lookup.directory(path) if entry_type == "directory" else lookup.file(path)
    if classified is None:
        return None
    kind = None
    if entry_type == "file":
        kind = classified.kind or default_kind(path[path.rfind("/") + 1 :])
    component, required = classified.component.name, classified.required
    seen = signature_of(status)
    return Found(path, absolute, entry_type, component, kind, required, stat.S_IMODE(mode), seen)


def expected_paths(application: Application) -> frozenset[str]:
    """Files that the profile requires and a backup holds."""
    return frozenset(rule.pattern for component, rule in expected_files(application.profile) if component.backup)


def _type_of(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISLNK(mode):
        return "symlink"
    return "special"


def _with_contents(
    lookup: Classifier, component: Component, found: Found, listings: Listings
) -> Iterator[Sequence[Union[Found, Share]]]:
    if found.type == "symlink" and found.path in component.paths:
        raise UnsafePathError(
            "a part of the data is a symlink, what it leads to would not be captured",
            path=found.absolute,
            hint="use a bind mount, or make the real directory the root of an application",
        )
    if found.component == component.name:
        yield (found,)
    if found.type != "directory":
        return
    children = listings.take(found)
    if children is None:
        names = _names_in(found)
        sharing = listings.sharing if listings.has_room(found, len(names)) else None
        children = list(_children(lookup, found, names, sharing))
        listings.keep(found, children, len(names))
    for is_file, run in groupby(children, key=_is_file):
        if is_file:
            yield [child for child in run if child.component == component.name]
        else:
            for child in run:
                if isinstance(child, Found):
                    yield from _with_contents(lookup, component, child, listings)


def _is_file(found: Union[Found, Share]) -> bool:
    return found.type == "file"


def _children(
    lookup: Classifier, directory: Found, names: Sequence[str], sharing: Optional[Sharing]
) -> Iterator[Union[Found, Share]]:
    """What a directory holds, by name."""
    for start in range(0, len(names), SHARE + MINE):
        mine, others = names[start : start + MINE], names[start + MINE : start + MINE + SHARE]
        given = sharing is not None and len(others) > SHARE // 2 and sharing.give(directory, others)
        yield from _look(lookup, directory, mine)
        share = sharing.take(directory, others) if sharing is not None and given else None
        yield from _look(lookup, directory, others) if share is None else (share,)


def _names_in(directory: Found) -> list[str]:
    """The names of what may be captured, in order."""
    try:
        names = sorted(os.listdir(directory.absolute))
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed by the bot since it was listed
    present = set(names)
    return [
        name
        for name in names
        if not name.startswith(OWN_PREFIX) and not (name.endswith(SIDECAR_SUFFIXES) and _is_sidecar(name, present))
    ]


def _look(lookup: Classifier, directory: Found, names: Sequence[str]) -> list[Found]:
    """Those of some things in a directory that are still there and part of a component."""
    found: list[Found] = []
    try:
        # Looking up each whole path anew takes as long as all the rest.
        descriptor = os.open(directory.absolute, DIRECTORY_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return found
    try:
        for name in names:
            try:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
            child = _found(lookup, f"{directory.path}/{name}", f"{directory.absolute}/{name}", status)
            if child is not None:
                found.append(child)
    finally:
        os.close(descriptor)
    return found


def _is_sidecar(name: str, siblings: set[str]) -> bool:
    """SQLite's own companions are part of their database, never files of their own."""
    for suffix in SIDECAR_SUFFIXES:
        if name.endswith(suffix):
            base = name[: -len(suffix)]
            return base in siblings and default_kind(base) == "sqlite"
    return False
