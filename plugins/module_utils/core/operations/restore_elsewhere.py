# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Restoring into a directory of its own, to look at or to take along; live data and services are left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from ..application import Application
from ..archive.manifest import Entry
from ..errors import ConfigurationError, ExitStatus, SpaceError
from ..host.account import owner_of
from ..host.files import make_private_directory, remove_tree, space
from ..host.filesystem.beneath import open_root
from ..host.filesystem.identity import acting_as, privileged
from ..host.filesystem.scratch import scratch_directory, shared_place
from ..host.worker import worker_account
from ..ports import Ports
from ..storage.local import Backup
from .attributes import notes_of_access_lists
from .check_ahead import check_ahead
from .kind_of import SQLITE, kind_of_entry
from .links import left_out_line
from .outcome import Outcome
from .provenance import note_other_maker
from .reading import Contents, read_contents, unpack
from .restore_plan import Selection, levels_above, nothing_chosen
from .restore_stage import check_files
from .rights import give_rights, settle
from .rights_plan import notes_of_refused_rights, unknown_directory
from .text import counted, human_bytes


def restore_elsewhere(
    application: Application,
    ports: Ports,
    backup: Backup,
    selection: Selection,
    target: Path,
    passphrase_file: Optional[str],
    dry_run: bool,
    *,
    gnupg_home: Optional[str] = None,
    accept_damage: bool = False,
) -> Outcome:
    """Unpack into an empty directory of its own; live data and services are left alone."""
    target = Path(os.path.abspath(target))
    _refuse_target(application, target)
    said = selection.strip is not None or selection.into is not None
    contents = read_contents(
        backup,
        ports,
        passphrase_file,
        gnupg_home=gnupg_home,
        application=application if said else None,
        strip=selection.strip,
        into=selection.into,
    )
    note_other_maker(application, backup, contents.report.header, ports.progress.note)
    chosen = selection.chooser(application)
    entries = [entry for entry in contents.entries if chosen(entry.path)]
    if not entries and not selection.whole:
        raise nothing_chosen(backup.path.name, contents.entries)
    needed = sum(entry.data_bytes for entry in entries)
    if needed > space(target).bytes_free:
        raise SpaceError(f"{human_bytes(needed)} needed", path=target, hint="free some space or choose another place")
    if dry_run:
        check_ahead(
            application,
            ports,
            backup=backup,
            contents=contents,
            entries=entries,
            passphrase_file=passphrase_file,
            gnupg_home=gnupg_home,
            accept_damage=accept_damage,
        )
    else:
        unpacking = _Unpacking(
            application, ports, backup, contents, entries, passphrase_file, gnupg_home, accept_damage
        )
        _unpack_into(target, unpacking, chosen)
        with acting_as(owner_of(application)):
            lists = notes_of_access_lists(application, entries)
        for note in (*notes_of_refused_rights(application, entries), *lists):
            ports.progress.note(note)
    verb = "would restore" if dry_run else "restored"
    files = sum(1 for e in entries if e.type == "file")
    record = {
        "backup": backup.path.name,
        "state": "planned" if dry_run else "restored",
        "to": str(target),
        "files": files,
        "bytes": needed,
        "weaker_checks": contents.foreign,
    }
    lines = [f"{verb} {counted(files, 'file')}, {human_bytes(needed)}, into {target}"]
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


@dataclass(frozen=True)
class _Unpacking:
    """What is unpacked, and how it is told."""

    application: Application
    ports: Ports
    backup: Backup
    contents: Contents
    entries: Sequence[Entry]
    passphrase_file: Optional[str]
    gnupg_home: Optional[str]
    accept_damage: bool

    def into(self, directory: Path, chosen: Callable[[str], bool]) -> str:
        """Unpack the chosen entries; returns the directory that stands for the root."""
        return unpack(
            self.backup,
            self.contents,
            str(directory),
            chosen,
            self.ports,
            self.passphrase_file,
            self.gnupg_home,
            settle(self.application, in_place=False),
        )


def _unpack_into(target: Path, unpacking: _Unpacking, chosen: Callable[[str], bool]) -> None:
    """In a directory of the owner's beneath the target, as everything in it is to be the owner's; then moved up."""
    owner = owner_of(unpacking.application)
    make_private_directory(target)
    with _removed_on_failure(target), scratch_directory(target, "unpack", account=worker_account(owner)) as staging:
        unpacked = Path(unpacking.into(staging, chosen))
        descriptor = open_root(unpacked)
        try:
            with _passable(target), acting_as(owner):
                if _is_reachable(unpacked):
                    _finish(unpacking, unpacked, unpacking.entries)
                else:
                    _finish_unreachable(unpacking, descriptor)
        finally:
            os.close(descriptor)
        for path in unpacked.iterdir() if unpacking.entries else ():
            path.rename(target / path.name)


def _is_reachable(unpacked: Path) -> bool:
    """Whether the account that acts can get there by its name, as SQLite has to."""
    try:
        os.listdir(unpacked)
    except PermissionError:
        return False
    return True


def _finish_unreachable(unpacking: _Unpacking, descriptor: int) -> None:
    """Where the owner cannot pass through, as below /root: by the open directory.

    SQLite opens a database by its real name alone, so that databases are checked in a place of their own.
    """
    application, ports = unpacking.application, unpacking.ports
    profile = application.profile
    files = (entry for entry in unpacking.entries if entry.type == "file")
    databases = {entry.path for entry in files if kind_of_entry(profile, entry) == SQLITE}
    owner = owner_of(application)
    if databases:
        place = shared_place(application.application_state_dir, owner)
        with scratch_directory(place, "check", account=worker_account(owner)) as scratch:
            copied = Path(unpacking.into(scratch, databases.__contains__))
            check_files(
                application,
                ports,
                [(entry, str(copied / entry.path)) for entry in unpacking.entries if entry.path in databases],
                accept_damage=unpacking.accept_damage,
            )
    _finish(unpacking, Path(f"/proc/self/fd/{descriptor}"), unpacking.entries, checked=databases, keep=(descriptor,))


def _finish(
    unpacking: _Unpacking,
    unpacked: Path,
    entries: Sequence[Entry],
    *,
    checked: AbstractSet[str] = frozenset(),
    keep: Sequence[int] = (),
) -> None:
    """Check what was unpacked, but for what has been, and give it its rights."""
    application, ports = unpacking.application, unpacking.ports
    placed = []
    above = f"{unpacked}/"
    for entry in reversed(entries):
        place = above + entry.path
        if entry.type == "symlink" and not os.path.lexists(place):
            ports.progress.note(left_out_line(entry.path))
        else:
            placed.append((entry, place))
    waiting = [item for item in placed if item[0].path not in checked]
    check_files(application, ports, waiting, keep=keep, accept_damage=unpacking.accept_damage)
    for entry, place in (*placed, *_parents(unpacking, entries, above)):
        give_rights(application, entry, place, in_place=False)


def _parents(unpacking: _Unpacking, entries: Sequence[Entry], above: str) -> Iterator[tuple[Entry, str]]:
    """Directories above what was chosen that were not chosen themselves, the deepest first."""
    chosen = {entry.path for entry in entries if entry.type == "directory"}
    parents = {path for entry in entries for path in levels_above(entry.path)} - chosen
    known = {entry.path: entry for entry in unpacking.contents.entries if entry.path in parents}
    for path in sorted(parents, reverse=True):
        if os.path.isdir(above + path):
            yield known.get(path) or unknown_directory(unpacking.application, path), above + path


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


@contextmanager
def _removed_on_failure(target: Path) -> Iterator[None]:
    """Leave the directory empty again when it could not be filled."""
    try:
        yield
    except BaseException:
        for path in target.iterdir():
            remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        raise
