# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The data tree: directories, owners, modes, first documents and credentials. Planned in full, then applied."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from ..application import Application
from ..errors import ConfigurationError, ExitStatus, TradekeepError, UnsafePathError
from ..host.files import atomic_write, make_private_directory, open_directory_beneath
from ..host.ownership import gid_of, name_of_gid, name_of_uid, uid_of
from ..patterns import TreeDirectory, classify, classify_directory, templates, tree_directories
from ..ports import Ports
from ..transaction.lock import application_lock
from .outcome import Outcome
from .scan import OWN_PREFIX


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


def tree(
    application: Application,
    ports: Ports,
    *,
    fix: bool,
    credentials: Sequence[Credential] = (),
    assume_owner: bool = False,
) -> Outcome:
    """Compare the tree with the profile and, with ``fix``, make it so.

    assume_owner: plan as if a missing account were there already (check mode of a first run creates it later).
    Raises UnsafePathError for a symlink or a hard link in the tree, ConfigurationError for an unknown owner.
    """
    if not fix:
        return _outcome(plan_tree(application, credentials, assume_owner=assume_owner), fixed=False)
    with application_lock(
        Path(application.application_state_dir),
        operation="tree",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.note,
    ):
        plan = plan_tree(application, credentials)
        for change in plan.changes:
            _apply(application, change, ports)
    return _outcome(plan, fixed=True)


def plan_tree(
    application: Application, credentials: Sequence[Credential] = (), *, assume_owner: bool = False
) -> TreePlan:
    """Everything that differs from the profile. Read-only."""
    if application.system and not assume_owner:
        uid_of(application.owner)
        gid_of(application.group)
    root = Path(application.root)
    _refuse_symlinked_root(root)
    changes: list[Change] = []
    notes: list[str] = []
    for directory in tree_directories(application.profile):
        change = _plan_directory(application, directory)
        if change is not None:
            changes.append(change)
    handed_over = {credential.path for credential in credentials}
    for path, type_of_thing in _existing(application):
        if type_of_thing == "symlink":
            notes.append(f"{path}: a symlink, not followed; what it leads to is not managed")
            continue
        change = _plan_existing(application, path, type_of_thing)
        if change is not None:
            changes.append(change)
    changes.extend(_templates(application, skip=handed_over))
    for credential in credentials:
        change, note = _plan_credential(application, credential)
        changes.extend([change] if change else [])
        notes.extend([note] if note else [])
    return TreePlan(tuple(changes), tuple(notes))


def mend_rights(application: Application, ports: Ports, chosen: Callable[[str], bool]) -> tuple[Change, ...]:
    """Give what exists in the chosen part of the tree the owner and mode of the profile; the caller holds the lock.

    Returns what was changed. A tree that cannot be walked safely is noted and left alone.
    """
    try:
        changes = [item for item in plan_tree(application).changes if item.action == "adjust" and chosen(item.path)]
        for change in changes:
            _apply(application, change, ports)
    except TradekeepError as error:
        ports.progress.note(f"owners and modes were not mended: {error}")
        return ()
    return tuple(changes)


def _refuse_symlinked_root(root: Path) -> None:
    if root.is_symlink():
        raise ConfigurationError(
            "the data directory is a symlink", path=root, hint=f"set tradekeep_root to {os.path.realpath(root)}"
        )
    if root.exists() and not root.is_dir():
        raise ConfigurationError("the data directory is not a directory", path=root, hint="move the file away")


def _wanted(application: Application, path: str, is_directory: bool) -> Optional[Rights]:
    look_up = classify_directory if is_directory else classify
    classified = look_up(application.profile, path)
    return None if classified is None else _managed(application, classified.mode, classified.owner, classified.group)


def _managed(application: Application, mode: int, owner: Optional[str], group: Optional[str]) -> Rights:
    if not application.system:
        return Rights(mode, None, None)
    return Rights(mode, owner or application.owner, group or application.group)


def _found(application: Application, path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(os.path.join(str(application.root), path) if path else str(application.root))
    except FileNotFoundError:
        return None


def _rights(application: Application, status: os.stat_result) -> Rights:
    if not application.system:
        return Rights(stat.S_IMODE(status.st_mode), None, None)
    return Rights(stat.S_IMODE(status.st_mode), name_of_uid(status.st_uid), name_of_gid(status.st_gid))


def _plan_directory(application: Application, directory: TreeDirectory) -> Optional[Change]:
    path = directory.path
    wanted = _managed(application, directory.mode, directory.owner, directory.group)
    status = _found(application, path)
    if status is None:
        return Change(path or ".", "create", "directory", wanted)
    _refuse_link(application, path, status)
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafePathError(
            "a file lies where the profile has a directory", path=_absolute(application, path), hint="move it away"
        )
    found = _rights(application, status)
    return None if found == wanted else Change(path or ".", "adjust", "directory", wanted, found)


def _existing(application: Application) -> Iterator[tuple[str, str]]:
    """What lies in the components beyond the directories that the profile names."""
    named = {directory.path for directory in tree_directories(application.profile)}
    for component in application.profile.components:
        for path in component.paths:
            yield from _walk(application, path, named)


def _walk(application: Application, path: str, named: set[str]) -> Iterator[tuple[str, str]]:
    status = _found(application, path)
    if status is None or _wanted(application, path, stat.S_ISDIR(status.st_mode)) is None:
        return
    if stat.S_ISLNK(status.st_mode):
        yield path, "symlink"
        return
    _refuse_link(application, path, status)
    if stat.S_ISDIR(status.st_mode):
        if path not in named:
            yield path, "directory"
        for name in sorted(os.listdir(_absolute(application, path))):
            if not name.startswith(OWN_PREFIX):
                yield from _walk(application, f"{path}/{name}", named)
    elif stat.S_ISREG(status.st_mode):
        yield path, "file"


def _refuse_link(application: Application, path: str, status: os.stat_result) -> None:
    """A symlink (or a second name of a file) could point the chown of root at anything."""
    if stat.S_ISLNK(status.st_mode):
        raise UnsafePathError(
            "a symlink lies in the data tree and is not followed",
            path=_absolute(application, path),
            hint="remove it, or exclude it in the profile",
        )
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise UnsafePathError(
            "a file with a second hard link lies in the data tree",
            path=_absolute(application, path),
            hint="find the other name with 'find / -samefile', then remove one of them",
        )


def _plan_existing(application: Application, path: str, type_of_thing: str) -> Optional[Change]:
    wanted = _wanted(application, path, type_of_thing == "directory")
    status = _found(application, path)
    if wanted is None or status is None:
        return None
    found = _rights(application, status)
    return None if found == wanted else Change(path, "adjust", type_of_thing, wanted, found)


def _templates(application: Application, *, skip: set[str]) -> Iterator[Change]:
    for _component, rule in templates(application.profile):
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
    status = _found(application, path)
    if status is None:
        return Change(path, "write", "credential", wanted, content=credential.content), None
    _refuse_link(application, path, status)
    if Path(_absolute(application, path)).read_bytes() == credential.content:
        return None, None
    if not credential.replace:
        return None, f"{path}: differs from the one handed over and was left alone (set replace to replace it)"
    return Change(path, "replace", "credential", wanted, content=credential.content), None


def _absolute(application: Application, path: str) -> str:
    return os.path.join(str(application.root), path)


def _apply(application: Application, change: Change, ports: Ports) -> None:
    ports.step(f"tree {change.action} {change.path}")
    if change.path == "." and change.action == "create":
        os.makedirs(application.root, mode=0o755, exist_ok=True)
        _adjust(os.open(application.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW), change.wanted)
        return
    if change.path == ".":
        _adjust(os.open(application.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW), change.wanted)
        return
    if change.content is not None:
        _write(application, change, change.content, ports)
        return
    parent, name = os.path.split(change.path)
    parent_fd = open_directory_beneath(Path(application.root), parent)
    try:
        if change.action == "create":
            os.mkdir(name, 0o700, dir_fd=parent_fd)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent_fd)
    except FileNotFoundError:
        return  # removed by the application since the plan was made
    except OSError as error:
        raise UnsafePathError(
            f"cannot be opened safely: {error.strerror}", path=_absolute(application, change.path), hint="run again"
        ) from error
    finally:
        os.close(parent_fd)
    _adjust(fd, change.wanted)


def _adjust(fd: int, wanted: Rights) -> None:
    """Set owner, then mode, on an open file, so that nothing can be exchanged underneath; closes it."""
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            raise UnsafePathError("a second hard link appeared", hint="run again")
        if wanted.owner is not None and wanted.group is not None:
            os.fchown(fd, uid_of(wanted.owner), gid_of(wanted.group))
        os.fchmod(fd, wanted.mode)
    except PermissionError as error:
        raise TradekeepError(
            f"owner or mode cannot be set: {error.strerror}",
            path=os.readlink(f"/proc/self/fd/{fd}"),
            hint="run as root",
        ) from error
    finally:
        os.close(fd)


def _write(application: Application, change: Change, content: bytes, ports: Ports) -> None:
    target = Path(_absolute(application, change.path))
    if change.action == "replace":
        kept = Path(application.application_state_dir) / "replaced" / change.path.replace("/", "_")
        make_private_directory(kept.parent)
        stamp = ports.clock.now().strftime("%Y%m%d_%H%M%S_%f")
        atomic_write(kept.with_name(f"{kept.name}.{stamp}"), target.read_bytes(), mode=0o600)
    os.close(open_directory_beneath(Path(application.root), os.path.dirname(change.path)))
    wanted = change.wanted
    uid = None if wanted.owner is None else uid_of(wanted.owner)
    gid = None if wanted.group is None else gid_of(wanted.group)
    atomic_write(target, content, mode=wanted.mode, uid=uid, gid=gid)


def _outcome(plan: TreePlan, *, fixed: bool) -> Outcome:
    changed = bool(plan.changes)
    described = [change.describe() for change in plan.changes]
    verdict = "as the profile says" if not changed else f"{len(described)} {'changed' if fixed else 'differ'}"
    return Outcome(
        changed=changed,
        record={
            "changes": [
                {
                    "path": item.path,
                    "action": item.action,
                    "type": item.type,
                    "before": str(item.found or "absent"),
                    "after": str(item.wanted),
                }
                for item in plan.changes
            ],
            "notes": list(plan.notes),
        },
        lines=(*described, *plan.notes, f"data tree: {verdict}"),
        before={item.path: str(item.found or "absent") for item in plan.changes},
        after={item.path: str(item.wanted) for item in plan.changes},
        status=ExitStatus.FINDINGS if changed and not fixed else ExitStatus.DONE,
    )
