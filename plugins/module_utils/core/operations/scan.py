# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What lies in an application's data tree, in the order in which an archive holds it. Read-only; opens no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple, Optional

from ..application import Application, Component
from ..errors import ConfigurationError, UnsafePathError
from ..kinds import default_kind
from ..kinds.base import Signature
from ..kinds.reading import may_change_unseen, signature_of
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..patterns import Classifier, classifier, expected_files

OWN_PREFIX = ".tradekeep"


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

    @property
    def size(self) -> int:
        """Bytes of a file, nothing otherwise."""
        return self.signature.size if self.type == "file" else 0


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


def scan(
    application: Application, *, components: Optional[frozenset[str]] = None, listings: Optional[Listings] = None
) -> Iterator[Found]:
    """Everything that a backup holds, by component and path; parents before children.

    listings: where to keep them for the next scan, or to find those that an earlier one has kept.
    Raises UnsafePathError when a component's own path is a symlink: what it leads to would not be captured.
    """
    return chain.from_iterable(_runs(application, components, listings or Listings(0)))


def _runs(
    application: Application, components: Optional[frozenset[str]], listings: Listings
) -> Iterator[Sequence[Found]]:
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
    """What directories hold, good as long as a directory has not changed; for so many things at most."""

    def __init__(self, most: int = 100_000) -> None:
        self._left = most
        self._kept: dict[str, tuple[Signature, list[Found]]] = {}

    def keep(self, directory: Found, children: list[Found]) -> None:
        """Remember what was listed after the directory was looked at."""
        if self._left >= len(children) and not may_change_unseen(directory.signature.changed_ns):
            self._left -= len(children)
            self._kept[directory.absolute] = directory.signature, children

    def take(self, directory: Found) -> Optional[list[Found]]:
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
    entry_type = "file" if stat.S_ISREG(status.st_mode) else _type_of(status.st_mode)
    classified = lookup.directory(path) if entry_type == "directory" else lookup.file(path)
    if classified is None:
        return None
    kind = None
    if entry_type == "file":
        kind = classified.kind or default_kind(path.rpartition("/")[2])
    return Found(
        path,
        absolute,
        entry_type,
        classified.component.name,
        kind,
        classified.required,
        stat.S_IMODE(status.st_mode),
        signature_of(status),
    )


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
) -> Iterator[Sequence[Found]]:
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
        children = list(_children(lookup, found))
        listings.keep(found, children)
    for is_file, run in groupby(children, key=_is_file):
        if is_file:
            yield [child for child in run if child.component == component.name]
        else:
            for child in run:
                yield from _with_contents(lookup, component, child, listings)


def _is_file(found: Found) -> bool:
    return found.type == "file"


def _children(lookup: Classifier, directory: Found) -> Iterator[Found]:
    """What a directory holds, by name."""
    try:
        names = os.listdir(directory.absolute)
    except (FileNotFoundError, NotADirectoryError):
        return  # removed by the bot since it was listed
    names.sort()
    present = set(names)
    for name in names:
        if name.startswith(OWN_PREFIX) or (name.endswith(SIDECAR_SUFFIXES) and _is_sidecar(name, present)):
            continue
        absolute = f"{directory.absolute}/{name}"
        try:
            status = os.lstat(absolute)
        except (FileNotFoundError, NotADirectoryError):
            continue
        child = _found(lookup, f"{directory.path}/{name}", absolute, status)
        if child is not None:
            yield child


def _is_sidecar(name: str, siblings: set[str]) -> bool:
    """SQLite's own companions are part of their database, never files of their own."""
    for suffix in SIDECAR_SUFFIXES:
        if name.endswith(suffix):
            base = name[: -len(suffix)]
            return base in siblings and default_kind(base) == "sqlite"
    return False
