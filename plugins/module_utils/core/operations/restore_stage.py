# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The stage of a restore: filled and checked beside the data, then turned into the renames that put it in place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ..application import Application, CheckLevel
from ..archive.manifest import NO_FACTS, Entry
from ..errors import ArchiveError
from ..host.account import owner_of
from ..host.worker import needs_worker, run_worker, worker_account
from ..kinds import default_kind, kind_named
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..ports import NoAdvance, Ports, Progress
from ..storage.local import Backup
from ..transaction.plan import Replacement
from ..transaction.stage import Stage
from .attributes import notes_of_access_lists
from .reading import Contents, unpack
from .restore_plan import Item
from .rights import give_rights
from .rights_plan import notes_of_refused_rights

DIRECTORY_PLACE = "directories"


def fill_stage(
    application: Application,
    ports: Ports,
    stage: Stage,
    changes: Sequence[Item],
    *,
    backup: Backup,
    contents: Contents,
    passphrase_file: Optional[str],
    gnupg_home: Optional[str] = None,
) -> None:
    """Write the changed files into the stage, give them their rights, check each by its kind, make all durable."""
    prefix = contents.report.stripped_prefix
    wanted = {item.path: stage.path_for(item.path, prefix) for item in changes if item.entry is not None}
    ports.step("stage")
    for directory in stage.directories:
        # One pass for each filesystem that something lies on: nearly always one.
        here = {path for path, staged in wanted.items() if staged.startswith(f"{directory}/")}
        if here:
            unpack(backup, contents, f"{directory}/new", here.__contains__, ports, passphrase_file, gnupg_home)
    settle_stage(application, ports, stage, changes, prefix)
    new = set(new_directories(application, changes))
    for note in notes_of_access_lists(application, (entry for entry in contents.entries if entry.path in new)):
        ports.progress.note(note)


def settle_stage(
    application: Application, ports: Ports, stage: Stage, changes: Sequence[Item], prefix: str = ""
) -> None:
    """Give what was written into the stage its rights, check each file by its kind, make all durable."""
    for note in notes_of_refused_rights(application, (item.entry for item in changes if item.entry is not None)):
        ports.progress.note(note)
    for note in notes_of_access_lists(application, (item.entry for item in changes if item.entry is not None)):
        ports.progress.note(note)
    staged = [(item.entry, stage.path_for(item.path, prefix)) for item in changes if item.entry is not None]
    # First, as what is given to another account can be out of the reader's reach.
    check_files(application, ports, staged)
    for entry, place in staged:
        give_rights(application, entry, place)
    ports.step("staged")
    stage.sync()


def check_files(
    application: Application, ports: Ports, staged: Sequence[tuple[Entry, str]], *, keep: Sequence[int] = ()
) -> None:
    """Judge restored files by their kinds, in a process of the owner's account. Raises ArchiveError.

    keep: descriptors that the places are reached by.
    """
    reads_as = worker_account(owner_of(application))
    files = [(entry, Path(place)) for entry, place in staged if entry.type == "file"]

    def check(progress: Progress) -> None:
        for entry, place in files:
            check_restored(entry, place, replace(ports, progress=progress))
            progress.advance(entry.size)

    if not files or not needs_worker(reads_as, ports.workers):
        check(NoAdvance(ports.progress))
        return
    run_worker(lambda outlet, _news: check(outlet), account=reads_as, progress=NoAdvance(ports.progress), keep=keep)


def check_restored(entry: Entry, staged: Path, ports: Ports) -> None:
    """Judge restored content by its kind. Raises ArchiveError for a database that is not what it must be.

    A malformed document or log is only noted: its bytes are what the backup holds, and the application may know better.
    """
    kind = entry.kind or default_kind(os.path.basename(entry.path))
    report = kind_named(kind).check(staged, level=CheckLevel.FULL)
    problems = list(report.problems)
    expected = entry.facts.get("tables")
    if expected is not None and not report.unfinished and report.facts.get("tables") != expected:
        problems.append("rows per table differ from the manifest")
    if problems and kind == "sqlite":
        raise ArchiveError(problems[0], path=entry.path, hint="use another backup: tradekeep list")
    for text in (*problems, *(report.warnings if kind == "sqlite" else ())):
        ports.progress.note(f"{entry.path}: {text}")


def replacements(
    application: Application,
    changes: Sequence[Item],
    stage: Stage,
    prefix: str,
    directories: Optional[Mapping[str, Entry]] = None,
) -> list[Replacement]:
    """The renames that turn the live data into the staged: removals with their companions, new directories, files."""
    root = str(application.root)
    wanted: list[Replacement] = []
    named = {item.path for item in changes}
    for item in changes:
        live, kept = os.path.join(root, item.path), stage.kept_for(item.path)
        staged = None if item.entry is None else stage.path_for(item.path, prefix)
        companions = tuple(suffix for suffix in SIDECAR_SUFFIXES if item.path + suffix not in named)
        wanted.append(Replacement(live, staged, kept, companions=companions))
        for suffix in SIDECAR_SUFFIXES:
            # A stale WAL would replay over the restored database. Beside the kept one it keeps its meaning.
            if item.path + suffix not in named and os.path.lexists(live + suffix):
                wanted.append(Replacement(live + suffix, None, kept + suffix))
    for path in new_directories(application, changes):
        made = stage.path_for(path, f"{DIRECTORY_PLACE}/{len(wanted)}")
        os.makedirs(made, mode=0o700)
        facts = directories[path].facts if directories and path in directories else NO_FACTS
        give_rights(application, Entry(path, "directory", mode=0o700, facts=facts), made)
        wanted.append(Replacement(os.path.join(root, path), made, stage.kept_for(path), companions=()))
    return wanted


def new_directories(application: Application, changes: Sequence[Item]) -> list[str]:
    """Directories above the new files that are not there, parents first."""
    missing: set[str] = set()
    for item in changes:
        if item.entry is None:
            continue
        parts = item.path.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            live = os.path.join(str(application.root), path)
            if not os.path.isdir(live) or os.path.islink(live):
                missing.add(path)
    return sorted(missing)
