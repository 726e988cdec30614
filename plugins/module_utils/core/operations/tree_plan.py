# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What differs between the data tree and its profile: directories, owners, modes, first documents and credentials."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ..application import Application, Component
from ..errors import ConfigurationError, UnsafePathError
from ..host.files import open_file_beneath
from ..host.fstab import require_mounted
from ..host.ownership import canonical_group, canonical_owner, gid_of, name_of_gid, name_of_uid, uid_of
from ..patterns import (
    Classified,
    TreeDirectory,
    classifier,
    classify,
    classify_directory,
    root_mode,
    templates,
    tree_directories,
)
from .found import OWN_PREFIX, is_of_filesystem, left_out_as_too_deep, lies_too_deep
from .places import places
from .tree_modes import OpenToOthers, mended_mode, umask_notes

LARGEST_CREDENTIAL = 16 << 20


@dataclass(frozen=True)
class Credential:
    """A secret file that the controller hands over. ``replace`` allows a different existing file to be replaced."""

    path: str
    content: bytes = field(repr=False)
    replace: bool = False


@dataclass(frozen=True)
class Rights:
    """Owner, group and mode, as wanted or as found. Owners are None where they are not managed."""

    mode: int
    owner: Optional[str]
    group: Optional[str]

    def __str__(self) -> str:
        who = "" if self.owner is None else f" {self.owner}:{self.group}"
        return f"{self.mode:04o}{who}"


@dataclass(frozen=True)
class Change:
    """One thing to do. action: create, adjust, write or replace."""

    path: str
    action: str
    type: str
    wanted: Rights
    found: Optional[Rights] = None
    content: Optional[bytes] = field(default=None, repr=False)

    def describe(self) -> str:
        """One line; never the content."""
        if self.action == "adjust":
            return f"{self.path}: {self.found} -> {self.wanted}"
        return f"{self.path}: {self.action} {self.type} {self.wanted}"


@dataclass(frozen=True)
class TreePlan:
    """Every change, parents first, and what was left alone on purpose."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]


def plan_tree(
    application: Application, credentials: Sequence[Credential] = (), *, assume_owner: bool = False
) -> TreePlan:
    """Everything that differs from the profile. Read-only."""
    if application.system and not assume_owner:
        uid_of(application.owner)
        gid_of(application.group)
    root = Path(application.root)
    _refuse_symlinked_root(root)
    require_mounted(application.root)
    changes: list[Change] = []
    notes: list[str] = []
    others = OpenToOthers(application.root)
    for directory in tree_directories(application.profile):
        change = _plan_directory(application, directory, others)
        if change is not None:
            changes.append(change)
    handed_over = {credential.path for credential in credentials}
    for path, type_of_thing in _existing(application):
        if type_of_thing == "symlink":
            notes.append(f"{path}: a symlink, not followed; what it leads to is not managed")
            continue
        if type_of_thing == "deep":
            notes.append(left_out_as_too_deep(path))
            continue
        change = _plan_existing(application, path, type_of_thing, others)
        if change is not None:
            changes.append(change)
    notes.extend(umask_notes(item.wanted.mode for item in changes if _was_too_open(item)))
    notes.extend(others.notes())
    written = list(_templates(application, skip=handed_over))
    for credential in credentials:
        change, note = _plan_credential(application, credential)
        written.extend([change] if change else [])
        notes.extend([note] if note else [])
    for change in written:
        planned = {item.path for item in changes}
        changes.extend(item for item in _missing_parents(application, change.path) if item.path not in planned)
        changes.append(change)
    return TreePlan(tuple(changes), tuple(notes))


def _refuse_symlinked_root(root: Path) -> None:
    if root.is_symlink():
        raise ConfigurationError(
            "the data directory is a symlink", path=root, hint=f"set tradekeep_root to {os.path.realpath(root)}"
        )
    if root.exists() and not root.is_dir():
        raise ConfigurationError("the data directory is not a directory", path=root, hint="move the file away")


def _classified(application: Application, path: str, is_directory: bool) -> Optional[Classified]:
    look_up = classify_directory if is_directory else classify
    return look_up(application.profile, path)


def _wanted(application: Application, path: str, is_directory: bool) -> Optional[Rights]:
    """What something new gets."""
    classified = _classified(application, path, is_directory)
    return None if classified is None else _managed(application, classified.mode, classified.owner, classified.group)


def _managed(application: Application, mode: int, owner: Optional[str], group: Optional[str]) -> Rights:
    if not application.system:
        return Rights(mode, None, None)
    return Rights(mode, canonical_owner(owner or application.owner), canonical_group(group or application.group))


def _found(application: Application, path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(os.path.join(str(application.root), path) if path else str(application.root))
    except FileNotFoundError:
        return None


def _rights(application: Application, status: os.stat_result) -> Rights:
    if not application.system:
        return Rights(stat.S_IMODE(status.st_mode), None, None)
    return Rights(stat.S_IMODE(status.st_mode), name_of_uid(status.st_uid), name_of_gid(status.st_gid))


def _plan_directory(application: Application, directory: TreeDirectory, others: OpenToOthers) -> Optional[Change]:
    path = directory.path
    status = _found(application, path)
    mode = directory.mode
    if status is not None:
        _refuse_link(application, path, status)
        _refuse_file(application, path, status)
        mode = mended_mode(stat.S_IMODE(status.st_mode), mode, stated=directory.stated, directory=True)
    key = "root_mode" if directory.component is None else _key(directory.component, "directory_mode")
    others.see(path, mode, stated=directory.stated, directory=True, key=key)
    wanted = _managed(application, mode, directory.owner, directory.group)
    if status is None:
        return Change(path or ".", "create", "directory", wanted)
    found = _rights(application, status)
    return None if found == wanted else Change(path or ".", "adjust", "directory", wanted, found)


def _key(component: Component, name: str) -> str:
    return f"components.{component.name}.{name}"


def _was_too_open(change: Change) -> bool:
    found = change.found
    return change.type == "file" and found is not None and bool(found.mode & 0o777 & ~change.wanted.mode)


def _missing_parents(application: Application, path: str) -> Iterator[Change]:
    """Directories above a file that do not exist and that the profile does not name."""
    for directory in _parents(path):
        if _found(application, directory) is None:
            wanted = _wanted(application, directory, True)
            wanted = wanted or _managed(application, root_mode(application.profile), None, None)
            yield Change(directory, "create", "directory", wanted)


def _refuse_other_parents(application: Application, path: str) -> None:
    """Above a file lie directories: a link could lead a secret anywhere."""
    for directory in _parents(path):
        status = _found(application, directory)
        if status is not None:
            _refuse_link(application, directory, status)
            _refuse_file(application, directory, status)


def _parents(path: str) -> list[str]:
    """The directories above a path, the highest first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _existing(application: Application) -> Iterator[tuple[str, str]]:
    """What lies in the components beyond the directories that the profile names."""
    named = {directory.path for directory in tree_directories(application.profile)}
    seen: set[str] = set()
    for component in application.profile.components:
        for path in places(str(application.root), component.paths):
            for found in _walk(application, path, named):
                # What one component names can lie in what another's pattern does.
                if found[0] not in seen:
                    seen.add(found[0])
                    yield found


def _walk(application: Application, path: str, named: set[str]) -> Iterator[tuple[str, str]]:
    status = _found(application, path)
    if status is None:
        return
    if _wanted(application, path, stat.S_ISDIR(status.st_mode)) is None:
        if stat.S_ISDIR(status.st_mode) and classifier(application.profile).leads_on(path) and not lies_too_deep(path):
            yield from _walk_in(application, path, named)
        return
    if stat.S_ISLNK(status.st_mode):
        yield path, "symlink"
        return
    _refuse_link(application, path, status)
    if stat.S_ISDIR(status.st_mode):
        if is_of_filesystem(path):
            return  # root's, and stays so
        if lies_too_deep(path):
            yield path, "deep"
            return
        if path not in named:
            yield path, "directory"
        yield from _walk_in(application, path, named)
    elif stat.S_ISREG(status.st_mode):
        yield path, "file"


def _walk_in(application: Application, directory: str, named: set[str]) -> Iterator[tuple[str, str]]:
    for name in sorted(os.listdir(absolute(application, directory))):
        if not name.startswith(OWN_PREFIX):
            yield from _walk(application, f"{directory}/{name}", named)


def _refuse_link(application: Application, path: str, status: os.stat_result) -> None:
    """A symlink (or a second name of a file) could point the chown of root at anything."""
    if stat.S_ISLNK(status.st_mode):
        raise UnsafePathError(
            "a symlink lies in the data tree and is not followed",
            path=absolute(application, path),
            hint="remove it, or exclude it in the profile",
        )
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise UnsafePathError(
            "a file with a second hard link lies in the data tree",
            path=absolute(application, path),
            hint="find the other name with 'find / -samefile', then remove one of them",
        )


def _refuse_file(application: Application, path: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        return
    raise UnsafePathError(
        "a file lies where the profile has a directory", path=absolute(application, path), hint="move it away"
    )


def _plan_existing(application: Application, path: str, type_of_thing: str, others: OpenToOthers) -> Optional[Change]:
    is_directory = type_of_thing == "directory"
    classified = _classified(application, path, is_directory)
    status = _found(application, path)
    if classified is None or status is None:
        return None
    found = _rights(application, status)
    mode = mended_mode(found.mode, classified.mode, stated=classified.stated, directory=is_directory)
    key = _key(classified.component, "directory_mode" if is_directory else "file_mode")
    others.see(path, mode, stated=classified.stated, directory=is_directory, key=key)
    wanted = _managed(application, mode, classified.owner, classified.group)
    return None if found == wanted else Change(path, "adjust", type_of_thing, wanted, found)


def _templates(application: Application, *, skip: set[str]) -> Iterator[Change]:
    for _component, rule in templates(application.profile):
        _refuse_other_parents(application, rule.pattern)
        if rule.pattern in skip or _found(application, rule.pattern) is not None:
            continue
        wanted = _wanted(application, rule.pattern, False)
        if wanted is not None:
            text = json.dumps(rule.template, indent=2, ensure_ascii=False) + "\n"
            yield Change(rule.pattern, "write", "document", wanted, content=text.encode("utf-8"))


def _plan_credential(application: Application, credential: Credential) -> tuple[Optional[Change], Optional[str]]:
    path = credential.path
    classified = classify(application.profile, path)
    if classified is None:
        raise ConfigurationError(
            "the credential's path belongs to no component of the profile",
            path=path,
            hint="give a path relative to the root",
        )
    wanted = _wanted(application, path, False) or Rights(0o600, None, None)
    wanted = Rights(wanted.mode & 0o600, wanted.owner, wanted.group)
    _refuse_other_parents(application, path)
    status = _found(application, path)
    if status is None:
        return Change(path, "write", "credential", wanted, content=credential.content), None
    _refuse_link(application, path, status)
    if not stat.S_ISREG(status.st_mode):
        raise UnsafePathError("is not a file", path=absolute(application, path), hint="move it away")
    if _content(application, path) == credential.content:
        return None, None
    if not credential.replace:
        return None, f"{path}: differs from the one handed over and was left alone (set replace to replace it)"
    return Change(path, "replace", "credential", wanted, content=credential.content), None


def _content(application: Application, path: str) -> bytes:
    """What a credential holds now; one that has grown since is another one anyway."""
    with os.fdopen(open_file_beneath(Path(application.root), path), "rb") as file:
        return file.read(LARGEST_CREDENTIAL)


def absolute(application: Application, path: str) -> str:
    """Where a path of the tree lies."""
    return os.path.join(str(application.root), path)
