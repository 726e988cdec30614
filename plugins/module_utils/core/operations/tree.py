# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The data tree: planned in full, then made what its profile says."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Callable

from ..application import Application
from ..errors import ExitStatus, TradekeepError, UnsafePathError
from ..host.account import account_of_uid
from ..host.files import (
    atomic_write,
    atomic_write_at,
    make_private_directory,
    open_directory_beneath,
    open_file_beneath,
    os_errors,
    sweep_writes,
)
from ..host.filesystem.beneath import make_root, open_root
from ..host.filesystem.identity import acting_as, with_privileges
from ..host.filesystem.immutable import reason_for
from ..host.ownership import gid_of, place_of, uid_of
from ..patterns import templates
from ..ports import Ports
from ..transaction.lock import application_lock
from .fence import note_fence
from .losses import refuse_other_place
from .outcome import Outcome
from .takeover import foreign_owner, refuse_takeover
from .text import first_lines
from .tree_plan import Change, Credential, Rights, TreePlan, absolute, plan_tree
from .uncovered import uncovered_in_words

__all__ = ["Credential", "mend_rights", "tree"]


def tree(
    application: Application,
    ports: Ports,
    *,
    fix: bool,
    credentials: Sequence[Credential] = (),
    assume_owner: bool = False,
    take_over: bool = False,
) -> Outcome:
    """Compare the tree with the profile and, with ``fix``, make it so.

    assume_owner: plan as if a missing account were there already (check mode of a first run creates it later).
    take_over: give to its owner what another account has. Without it such data is refused, and noted by a mere look.
    Raises UnsafePathError for a symlink or a hard link in the tree, ConfigurationError for an unknown owner.
    """
    note_fence(application, ports)
    if not take_over and (fix or assume_owner):
        refuse_takeover(application)
    if not fix:
        foreign = None if take_over else foreign_owner(application)
        if foreign is not None:
            ports.progress.note(str(foreign))
        plan = plan_tree(application, credentials, assume_owner=assume_owner)
        _refuse_other_place(application, plan)
        return _outcome(plan, _uncovered(application, ports), fixed=False)
    with application_lock(
        Path(application.application_state_dir),
        operation="tree",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.mention,
    ):
        _sweep(application, credentials)
        plan = plan_tree(application, credentials)
        _refuse_other_place(application, plan)
        for change in plan.changes:
            _apply(application, change, ports)
    return _outcome(plan, _uncovered(application, ports), fixed=True)


def _uncovered(application: Application, ports: Ports) -> list[str]:
    warnings, notes = uncovered_in_words(application, ports)
    return [*warnings, *notes]


def _refuse_other_place(application: Application, plan: TreePlan) -> None:
    """A tree that is whole was moved there by somebody; one that has to be made is on a disk that is not the data's."""
    if any(change.action == "create" for change in plan.changes):
        refuse_other_place(application)


@with_privileges
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


def _sweep(application: Application, credentials: Sequence[Credential]) -> None:
    """Remove what a run that was killed left of a file it was writing: it may hold a secret."""
    sweep_writes(_replaced(application))
    files = [credential.path for credential in credentials] + [r.pattern for _c, r in templates(application.profile)]
    for directory in sorted({os.path.dirname(path) for path in files}):
        try:
            descriptor = open_directory_beneath(Path(application.root), directory)
        except (OSError, TradekeepError):
            continue  # not there yet; or nothing of ours, and then the plan refuses it
        try:
            with _as_its_owner(descriptor):
                sweep_writes(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)


def _replaced(application: Application) -> Path:
    """Where credentials go that are replaced."""
    return Path(application.application_state_dir) / "replaced"


def _apply(application: Application, change: Change, ports: Ports) -> None:
    """By descriptors from the root on: whatever the bot puts in the place of a directory meanwhile is not followed."""
    ports.step(f"tree {change.action} {change.path}")
    if change.path == ".":
        if change.action == "create":
            make_root(application.root)
        with os_errors(application.root):
            _adjust(open_root(application.root), change.wanted)
        return
    parent, name = os.path.split(change.path)
    try:
        directory = open_directory_beneath(Path(application.root), parent)
    except FileNotFoundError as error:
        if change.content is None and change.action != "create":
            return  # removed by the application since the plan was made
        raise TradekeepError(
            "its directory was removed meanwhile", path=absolute(application, change.path), hint="run again"
        ) from error
    try:
        with os_errors(absolute(application, change.path)):
            if change.content is not None:
                _write(application, change, change.content, directory, name, ports)
            else:
                _make_or_mend(change, directory, name, absolute(application, change.path))
    finally:
        os.close(directory)


def _make_or_mend(change: Change, directory: int, name: str, shown: str) -> None:
    if change.action == "create":
        with _as_its_owner(directory):
            os.mkdir(name, 0o700, dir_fd=directory)
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return  # removed by the application since the plan was made
    except OSError as error:
        raise UnsafePathError(f"cannot be opened safely: {error.strerror}", path=shown, hint="run again") from error
    _adjust(descriptor, change.wanted)


def _as_its_owner(directory: int) -> AbstractContextManager[None]:
    """Work in an open directory with the rights of the account that it belongs to."""
    status = os.fstat(directory)
    return acting_as(account_of_uid(status.st_uid, status.st_gid))


def _adjust(fd: int, wanted: Rights) -> None:
    """Set owner, then mode, on an open file, so that nothing can be exchanged underneath; closes it."""
    try:
        status = os.fstat(fd)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise UnsafePathError("is neither a file nor a directory any more", path=place_of(fd), hint="run again")
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            raise UnsafePathError("a second hard link appeared", path=place_of(fd), hint="run again")
        if wanted.owner is not None and wanted.group is not None:
            os.fchown(fd, uid_of(wanted.owner), gid_of(wanted.group))
        os.fchmod(fd, wanted.mode)
    except PermissionError as error:
        raise reason_for(error, place_of(fd)) or TradekeepError(
            f"owner or mode cannot be set: {error.strerror}", path=place_of(fd), hint="run as root"
        ) from error
    finally:
        os.close(fd)


def _write(application: Application, change: Change, content: bytes, directory: int, name: str, ports: Ports) -> None:
    """Write a document as the account that its directory belongs to, and give it to its own owner."""
    if change.action == "replace":
        _keep_replaced(application, change, ports)
    wanted = change.wanted
    uid = None if wanted.owner is None else uid_of(wanted.owner)
    gid = None if wanted.group is None else gid_of(wanted.group)
    with _as_its_owner(directory):
        atomic_write_at(directory, name, content, mode=wanted.mode, uid=uid, gid=gid)


def _keep_replaced(application: Application, change: Change, ports: Ports) -> None:
    kept = _replaced(application) / change.path.replace("/", "_")
    make_private_directory(kept.parent)
    stamp = ports.clock.now().strftime("%Y%m%d_%H%M%S_%f")
    with os.fdopen(open_file_beneath(Path(application.root), change.path), "rb") as replaced:
        atomic_write(kept.with_name(f"{kept.name}.{stamp}"), replaced.read(), mode=0o600)
    ports.progress.mention(f"{change.path}: what was replaced is kept as {kept.name}.{stamp} in {kept.parent}")


def _outcome(plan: TreePlan, not_covered: Sequence[str], *, fixed: bool) -> Outcome:
    changed = bool(plan.changes)
    notes = (*plan.notes, *not_covered)
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
            "notes": list(notes),
        },
        lines=(*described, *notes, f"data tree: {verdict}"),
        fitted=lambda _width: (*first_lines([*described, *notes]), f"data tree: {verdict}"),
        before={item.path: str(item.found or "absent") for item in plan.changes},
        after={item.path: str(item.wanted) for item in plan.changes},
        status=ExitStatus.FINDINGS if changed and not fixed else ExitStatus.DONE,
    )
