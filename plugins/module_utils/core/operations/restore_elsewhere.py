# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Restoring into a directory of its own, to look at or to take along; live data and services are left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Optional

from ..application import Application
from ..archive.manifest import Entry
from ..errors import ConfigurationError, ExitStatus, SpaceError
from ..host.account import Account, owner_of
from ..host.files import make_private_directory, remove_tree, space
from ..host.filesystem.identity import acting_as, privileged
from ..host.filesystem.scratch import scratch_directory
from ..host.worker import worker_account
from ..ports import Ports
from ..storage.local import Backup
from .outcome import Outcome
from .reading import Contents, read_contents, unpack
from .restore_plan import Selection
from .restore_stage import check_files
from .rights import give_rights
from .rights_plan import notes_of_refused_rights
from .text import human_bytes


def restore_elsewhere(
    application: Application,
    ports: Ports,
    backup: Backup,
    selection: Selection,
    target: Path,
    passphrase_file: Optional[str],
    dry_run: bool,
) -> Outcome:
    """Unpack into an empty directory of its own; live data and services are left alone."""
    target = Path(os.path.abspath(target))
    _refuse_target(application, target)
    contents = read_contents(backup, ports, passphrase_file)
    chosen = selection.chooser(application)
    entries = [entry for entry in contents.entries if chosen(entry.path)]
    needed = sum(entry.size for entry in entries)
    if needed > space(target).bytes_free:
        raise SpaceError(f"{human_bytes(needed)} needed", path=target, hint="free some space or choose another place")
    if not dry_run:
        _unpack_into(target, application, ports, backup, contents, entries, chosen, passphrase_file)
        for note in notes_of_refused_rights(application, entries):
            ports.progress.note(note)
    verb = "would restore" if dry_run else "restored"
    record = {
        "backup": backup.path.name,
        "state": "planned" if dry_run else "restored",
        "to": str(target),
        "files": sum(1 for e in entries if e.type == "file"),
        "bytes": needed,
        "weaker_checks": contents.foreign,
    }
    lines = [f"{verb} {record['files']} files, {human_bytes(needed)}, into {target}"]
    return Outcome(changed=True, record=record, lines=tuple(lines), status=ExitStatus.DONE)


def _refuse_target(application: Application, target: Path) -> None:
    real = os.path.realpath(target)
    root = os.path.realpath(application.root)
    if real == root or real.startswith(root + "/"):
        raise ConfigurationError(
            "lies inside the live data", path=target, hint="leave out --to, or choose another directory"
        )
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise ConfigurationError("exists and is not an empty directory", path=target, hint="choose a new directory")


def _unpack_into(
    target: Path,
    application: Application,
    ports: Ports,
    backup: Backup,
    contents: Contents,
    entries: Sequence[Entry],
    chosen: Callable[[str], bool],
    passphrase_file: Optional[str],
) -> None:
    """In a directory of the owner's beneath the target, as everything in it is to be the owner's; then moved up."""
    owner = owner_of(application)
    make_private_directory(target)
    with _removed_on_failure(target), scratch_directory(target, "unpack", account=worker_account(owner)) as staging:
        with _passable(target), acting_as(owner):
            _refuse_unreachable(staging, owner)
            unpacked = unpack(backup, contents, str(staging), chosen, ports, passphrase_file)
            _finish(application, ports, entries, Path(unpacked))
        for path in Path(unpacked).iterdir() if entries else ():
            path.rename(target / path.name)


def _finish(application: Application, ports: Ports, entries: Sequence[Entry], unpacked: Path) -> None:
    placed = []
    for entry in reversed(entries):
        place = str(unpacked / entry.path)
        if entry.type == "symlink" and not os.path.lexists(place):
            ports.progress.note(f"{entry.path}: a symlink that leads out of the data, left out")
        else:
            placed.append((entry, place))
    check_files(application, ports, placed)
    for entry, place in placed:
        give_rights(application, entry, place)


@contextmanager
def _passable(target: Path) -> Iterator[None]:
    """Let the owner through to its own directory, while it is filled; nobody can list what is there."""
    with privileged():
        target.chmod(0o711)
    try:
        yield
    finally:
        with privileged():
            target.chmod(0o700)


def _refuse_unreachable(staging: Path, owner: Account) -> None:
    try:
        os.listdir(staging)
    except PermissionError:
        raise ConfigurationError(
            f"cannot be reached by {owner.name}, in whose name it is unpacked",
            path=staging.parent,
            hint="choose a directory below one that everybody can pass through, such as /var/tmp",
        ) from None


@contextmanager
def _removed_on_failure(target: Path) -> Iterator[None]:
    """Leave the directory empty again when it could not be filled."""
    try:
        yield
    except BaseException:
        for path in target.iterdir():
            remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        raise
