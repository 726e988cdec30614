# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What lies in an application's data tree, in the order in which an archive holds it. Read-only; opens no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from ..application import Application, Component
from ..errors import ConfigurationError, UnsafePathError
from ..kinds import default_kind
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..patterns import Classifier, classifier, expected_files

OWN_PREFIX = ".tradekeep"


class Listed(NamedTuple):
    """One thing in the tree as its directory lists it. A tuple, because there can be hundreds of thousands."""

    path: str
    """Relative to the root."""
    absolute: str
    """Where its bytes are now; not under the root when a transaction keeps it aside."""
    type: str
    """``file``, ``directory``, ``symlink``, or ``special`` (socket, FIFO, device: never captured)."""
    component: str
    kind: Optional[str]
    required: bool


class Found(NamedTuple):
    """One thing in the tree (see ``Listed``), with its size and rights."""

    path: str
    absolute: str
    type: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    component: str
    kind: Optional[str]
    required: bool


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
    for listed in walk(application, components=components):
        try:
            status = os.lstat(listed.absolute)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if _type_of(status.st_mode) == listed.type:
            yield _found(listed, status)


def walk(application: Application, *, components: Optional[frozenset[str]] = None) -> Iterator[Listed]:
    """As ``scan``, with what the directories alone say."""
    root = check_root(application)
    for component in sorted(application.profile.components, key=lambda item: item.name):
        if not component.backup or (components is not None and component.name not in components):
            continue
        for path in sorted(component.paths):
            yield from _part(application, component, path, os.path.join(str(root), path))


def found_at(application: Application, path: str, absolute: str) -> Optional[Found]:
    """What lies at one place, seen as ``path`` of the application; None when absent or not part of any component."""
    try:
        status = os.lstat(absolute)
    except (FileNotFoundError, NotADirectoryError):
        return None
    listed = _listed(classifier(application.profile), path, absolute, _type_of(status.st_mode))
    return None if listed is None else _found(listed, status)


def _found(listed: Listed, status: os.stat_result) -> Found:
    path, absolute, entry_type, component, kind, required = listed
    return Found(
        path,
        absolute,
        entry_type,
        status.st_size if entry_type == "file" else 0,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        component,
        kind,
        required,
    )


def _listed(lookup: Classifier, path: str, absolute: str, entry_type: str) -> Optional[Listed]:
    classified = lookup.directory(path) if entry_type == "directory" else lookup.file(path)
    if classified is None:
        return None
    kind = None
    if entry_type == "file":
        kind = classified.kind or default_kind(path.rpartition("/")[2])
    return Listed(path, absolute, entry_type, classified.component.name, kind, classified.required)


def expected_paths(application: Application) -> frozenset[str]:
    """Files that the profile requires and a backup holds."""
    return frozenset(rule.pattern for component, rule in expected_files(application.profile) if component.backup)


def _type_of(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISLNK(mode):
        return "symlink"
    return "special"


def _part(application: Application, component: Component, path: str, absolute: str) -> Iterator[Listed]:
    """One of a component's own paths, and what lies beneath."""
    found = found_at(application, path, absolute)
    if found is None:
        return
    listed = Listed(found.path, found.absolute, found.type, found.component, found.kind, found.required)
    yield from _with_contents(classifier(application.profile), component, listed)


def _with_contents(lookup: Classifier, component: Component, listed: Listed) -> Iterator[Listed]:
    if listed.type == "symlink" and listed.path in component.paths:
        raise UnsafePathError(
            "a part of the data is a symlink, what it leads to would not be captured",
            path=listed.absolute,
            hint="use a bind mount, or make the real directory the root of an application",
        )
    if listed.component == component.name:
        yield listed
    if listed.type != "directory":
        return
    for child in _children(lookup, listed):
        if child.type == "file":
            if child.component == component.name:
                yield child
        else:
            yield from _with_contents(lookup, component, child)


def _children(lookup: Classifier, directory: Listed) -> Iterator[Listed]:
    """What a directory holds, by name."""
    try:
        with os.scandir(directory.absolute) as listing:
            entries = {entry.name: entry for entry in listing if not entry.name.startswith(OWN_PREFIX)}
    except (FileNotFoundError, NotADirectoryError):
        return  # removed by the bot since it was listed
    for name in sorted(entries):
        if name.endswith(SIDECAR_SUFFIXES) and _is_sidecar(name, entries):
            continue
        entry = entries[name]
        entry_type = "file" if entry.is_file(follow_symlinks=False) else _type_of_entry(entry)
        child = _listed(lookup, f"{directory.path}/{name}", f"{directory.absolute}/{name}", entry_type)
        if child is not None:
            yield child


def _type_of_entry(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "symlink" if entry.is_symlink() else "special"


def _is_sidecar(name: str, siblings: Container[str]) -> bool:
    """SQLite's own companions are part of their database, never files of their own."""
    for suffix in SIDECAR_SUFFIXES:
        if name.endswith(suffix):
            base = name[: -len(suffix)]
            return base in siblings and default_kind(base) == "sqlite"
    return False
