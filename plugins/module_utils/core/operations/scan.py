# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What lies in an application's data tree, in the order in which an archive holds it. Read-only; opens no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from ..application import Application, Component
from ..errors import ConfigurationError, UnsafePathError
from ..kinds import default_kind
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..patterns import classify, classify_directory, expected_files

OWN_PREFIX = ".tradekeep"


class Found(NamedTuple):
    """One thing in the tree. A tuple, because there can be hundreds of thousands."""

    path: str
    """Relative to the root."""
    absolute: str
    """Where its bytes are now; not under the root when a transaction keeps it aside."""
    type: str
    """``file``, ``directory``, ``symlink``, or ``special`` (socket, FIFO, device: never captured)."""
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
    root = check_root(application)
    for component in sorted(application.profile.components, key=lambda item: item.name):
        if not component.backup or (components is not None and component.name not in components):
            continue
        for path in sorted(component.paths):
            yield from _walk(application, component, path, os.path.join(str(root), path))


def found_at(application: Application, path: str, absolute: str) -> Optional[Found]:
    """What lies at one place, seen as ``path`` of the application; None when absent or not part of any component."""
    try:
        status = os.lstat(absolute)
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind_of_thing = _type_of(status.st_mode)
    look_up = classify_directory if kind_of_thing == "directory" else classify
    classified = look_up(application.profile, path)
    if classified is None:
        return None
    kind = None
    if kind_of_thing == "file":
        kind = classified.kind or default_kind(os.path.basename(path))
    return Found(
        path,
        absolute,
        kind_of_thing,
        status.st_size if kind_of_thing == "file" else 0,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        classified.component.name,
        kind,
        classified.required,
    )


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


def _walk(application: Application, component: Component, path: str, absolute: str) -> Iterator[Found]:
    found = found_at(application, path, absolute)
    if found is None:
        return
    if found.type == "symlink" and path in component.paths:
        raise UnsafePathError(
            "a part of the data is a symlink, what it leads to would not be captured",
            path=absolute,
            hint="use a bind mount, or make the real directory the root of an application",
        )
    if found.component == component.name:
        yield found
    if found.type != "directory":
        return
    try:
        names = sorted(name for name in os.listdir(absolute) if not name.startswith(OWN_PREFIX))
    except (FileNotFoundError, NotADirectoryError):
        return  # removed by the bot since it was listed
    present = set(names)
    for name in names:
        if not _is_sidecar(name, present):
            yield from _walk(application, component, f"{path}/{name}", f"{absolute}/{name}")


def _is_sidecar(name: str, siblings: set[str]) -> bool:
    """SQLite's own companions are part of their database, never files of their own."""
    for suffix in SIDECAR_SUFFIXES:
        if name.endswith(suffix):
            base = name[: -len(suffix)]
            return base in siblings and default_kind(base) == "sqlite"
    return False
