# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The stage of a restore: filled and checked beside the data, then turned into the renames that put it in place."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

from ..application import Application, CheckLevel
from ..archive.manifest import Entry
from ..errors import ArchiveError
from ..host.account import owner_of
from ..host.worker import needs_worker, run_worker, worker_account
from ..kinds import kind_named
from ..kinds.base import CheckReport
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..ports import NoAdvance, Ports, Progress
from ..storage.local import Backup
from ..transaction.plan import Replacement
from ..transaction.stage import Stage
from .attributes import notes_of_access_lists
from .kind_of import SQLITE, kind_inside, kind_of_entry
from .reading import Contents, unpack
from .restore_plan import Item
from .rights import give_rights, settle
from .rights_plan import notes_of_refused_rights, unknown_directory

_WAYS_OUT = "use another backup: tradekeep list; or take it as it is with --accept-damage"


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
    accept_damage: bool = False,
) -> None:
    """Write the changed files into the stage, give them their rights, check each by its kind, make all durable."""
    prefix = contents.report.stripped_prefix
    wanted = {item.path: stage.path_for(item.path, prefix) for item in changes if item.entry is not None}
    ports.step("stage")
    for directory in stage.directories:
        # One pass for each filesystem that something lies on: nearly always one.
        here = {path for path, staged in wanted.items() if staged.startswith(f"{directory}/")}
        if here:
            place = f"{directory}/new"
            unpack(backup, contents, place, here.__contains__, ports, passphrase_file, gnupg_home, settle(application))
    settle_stage(application, ports, stage, changes, prefix, accept_damage=accept_damage)
    new = set(new_directories(application, changes))
    for note in notes_of_access_lists(application, (entry for entry in contents.entries if entry.path in new)):
        ports.progress.note(note)


def settle_stage(
    application: Application,
    ports: Ports,
    stage: Stage,
    changes: Sequence[Item],
    prefix: str = "",
    *,
    accept_damage: bool = False,
) -> None:
    """Give what was written into the stage its rights, check each file by its kind, make all durable."""
    for note in notes_of_refused_rights(application, (item.entry for item in changes if item.entry is not None)):
        ports.progress.note(note)
    for note in notes_of_access_lists(application, (item.entry for item in changes if item.entry is not None)):
        ports.progress.note(note)
    staged = [(item.entry, stage.path_for(item.path, prefix)) for item in changes if item.entry is not None]
    # First, as what is given to another account can be out of the reader's reach.
    check_files(application, ports, staged, accept_damage=accept_damage)
    for entry, place in staged:
        give_rights(application, entry, place)
    ports.step("staged")
    stage.sync()


def check_files(
    application: Application,
    ports: Ports,
    staged: Sequence[tuple[Entry, str]],
    *,
    keep: Sequence[int] = (),
    accept_damage: bool = False,
) -> None:
    """Judge restored files by their kinds, in a process of the owner's account. Raises ArchiveError.

    keep: descriptors that the places are reached by. accept_damage: only note what is damaged.
    """
    reads_as = worker_account(owner_of(application))
    kinds = [
        (entry, place, _kind_of_staged(application, entry, place)) for entry, place in staged if entry.type == "file"
    ]
    # Of other files nothing is known but their digest, which was compared when they were written.
    files = [(entry._replace(kind=kind), Path(place)) for entry, place, kind in kinds if kind != "file"]

    def check(progress: Progress) -> None:
        told = replace(ports, progress=progress)
        for entry, place in files:
            try:
                check_restored(entry, place, told)
            except ArchiveError as error:
                if not accept_damage:
                    raise
                progress.note(f"{entry.path}: restored as the backup has it, which is damaged: {error.message}")
            progress.advance(entry.size)

    if not files or not needs_worker(reads_as, ports.workers):
        check(NoAdvance(ports.progress))
        return
    run_worker(lambda outlet, _news: check(outlet), account=reads_as, progress=NoAdvance(ports.progress), keep=keep)


def _kind_of_staged(application: Application, entry: Entry, place: str) -> str:
    kind = kind_of_entry(application.profile, entry)
    return kind if entry.kind else kind_inside(kind, place)


def was_checked(entry: Entry) -> bool:
    """Whether a backup has found a database good when it captured it."""
    return entry.kind == SQLITE and "check" in entry.facts


def weighed(entry: Entry, found: CheckReport, again: Callable[[], CheckReport]) -> CheckReport:
    """What a full check found of a database, as it counts: what a backup took after a quick check is taken back.

    again: checks it quickly. All pages are as they were then, so that what only a full check finds (an index that does
    not fit its table) was so when it was backed up; the rows are all there.
    """
    if found.ok or not was_checked(entry) or entry.facts["check"] != CheckLevel.QUICK.value:
        return found
    quick = again()
    if quick.problems:
        return found
    told = [f"was so when it was backed up: {text}" for text in found.problems]
    return CheckReport(found.kind, warnings=(*told, *quick.warnings), facts=quick.facts)


def differing_tables(said: Mapping[str, Any], report: CheckReport) -> list[str]:
    """Tables of which a database has other rows than its manifest says. Where one of the two SQLites could not read all
    of the schema, those that both know."""
    expected, found = said.get("tables"), report.facts.get("tables")
    if expected is None or report.unfinished or found is None:
        return []
    partly = said.get("needs") or report.facts.get("needs")
    names = set(expected) & set(found) if partly else {*expected, *found}
    return sorted(name for name in names if expected.get(name) != found.get(name))


def check_restored(entry: Entry, staged: Path, ports: Ports) -> None:
    """Judge restored content by its kind. Raises ArchiveError for a database that is not what it must be.

    A malformed document or log is only noted: its bytes are what the backup holds, and the application may know better.
    """
    kind = entry.kind or "file"
    report = kind_named(kind).check(staged, level=CheckLevel.FULL)
    if report.problems and kind == SQLITE:
        report = weighed(entry, report, lambda: kind_named(kind).check(staged, level=CheckLevel.QUICK))
    problems = list(report.problems)
    if not problems and kind == SQLITE and differing_tables(entry.facts, report):
        problems.append("rows per table differ from the manifest")
    if problems and kind == SQLITE:
        raise ArchiveError(problems[0], path=entry.path, hint=_WAYS_OUT)
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
    new = new_directories(application, changes)
    fresh = set(new)
    for item in changes:
        if item.entry is not None and _above(item.path) in fresh:
            continue  # it goes live with its directory, in one rename
        if item.entry is None and item.path in fresh:
            continue  # it makes way for a directory
        live, kept = os.path.join(root, item.path), stage.kept_for(item.path)
        staged = None if item.entry is None else stage.path_for(item.path, prefix)
        companions = tuple(suffix for suffix in SIDECAR_SUFFIXES if item.path + suffix not in named)
        wanted.append(Replacement(live, staged, kept, companions=companions))
        wanted += _stale_companions(live, kept, item.path, named)
    for path in new:
        made = stage.path_for(path, prefix)
        give_rights(application, (directories or {}).get(path) or unknown_directory(application, path), made)
        if _above(path) not in fresh:
            wanted += _stale_companions(os.path.join(root, path), stage.kept_for(path), path, named)
            wanted.append(Replacement(os.path.join(root, path), made, stage.kept_for(path), companions=()))
    return wanted


def _stale_companions(live: str, kept: str, path: str, named: Collection[str]) -> list[Replacement]:
    """A stale WAL would replay over the restored database. Beside the kept one it keeps its meaning."""
    beside = (suffix for suffix in SIDECAR_SUFFIXES if path + suffix not in named and os.path.lexists(live + suffix))
    return [Replacement(live + suffix, None, kept + suffix) for suffix in beside]


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def new_directories(application: Application, changes: Sequence[Item]) -> list[str]:
    """Directories above the new files that are not there, parents first."""
    missing: dict[str, bool] = {}
    for item in changes:
        path = "" if item.entry is None else _above(item.path)
        while path and path not in missing:
            live = os.path.join(str(application.root), path)
            missing[path] = not os.path.isdir(live) or os.path.islink(live)
            path = _above(path)
    return sorted(path for path, is_missing in missing.items() if is_missing)
