# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Restoring into a directory of its own, to look at or to take along; live data and services are left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from ..application import Application
from ..archive.manifest import Entry
from ..errors import ConfigurationError, ExitStatus, SpaceError
from ..host.files import make_private_directory, remove_tree, space
from ..ports import Ports
from ..storage.local import Backup
from .outcome import Outcome
from .reading import read_contents, unpack
from .restore_plan import Selection
from .restore_stage import check_restored
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
        make_private_directory(target)
        with _removed_on_failure(target):
            staging = target / ".tradekeep-unpack"
            staging.mkdir(mode=0o700)
            unpacked = unpack(backup, contents, str(staging), chosen, ports, passphrase_file)
            for entry in reversed(entries):
                _finish_elsewhere(application, ports, entry, Path(unpacked) / entry.path)
            for path in Path(unpacked).iterdir() if entries else ():
                path.rename(target / path.name)
            remove_tree(staging)
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


@contextmanager
def _removed_on_failure(target: Path) -> Iterator[None]:
    """Leave the directory empty again when it could not be filled."""
    try:
        yield
    except BaseException:
        for path in target.iterdir():
            remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        raise


def _finish_elsewhere(application: Application, ports: Ports, entry: Entry, unpacked: Path) -> None:
    if entry.type == "symlink" and not os.path.lexists(unpacked):
        ports.progress.note(f"{entry.path}: a symlink that leads out of the data, left out")
        return
    if entry.type == "file":
        check_restored(entry, unpacked, ports)
    give_rights(application, entry, str(unpacked))
