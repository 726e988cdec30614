# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Restoring: verify, stage beside the data, check the stage; then stop, exchange by rename, start, and watch.

Everything slow happens before the stop. What is replaced is kept aside until the services are up and it has become a
safety backup; on any failure before that, everything goes back.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..application import Application, CheckLevel
from ..archive.manifest import Entry
from ..errors import (
    ArchiveError,
    CaptureError,
    CheckError,
    ConfigurationError,
    ExitStatus,
    InterruptedBySignal,
    NeedsPersonError,
    ServiceError,
    SpaceError,
    TradekeepError,
    UsageError,
)
from ..host.files import atomic_write, make_private_directory, remove_tree, space
from ..host.mounts import device_roots
from ..host.services import ServiceController
from ..kinds import default_kind, kind_named
from ..kinds.base import CaptureContext
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..ports import Ports
from ..storage.local import Backup, LocalCatalog
from ..transaction.exchange import Exchange, refuse_pending
from ..transaction.lock import application_lock
from ..transaction.plan import Replacement
from ..transaction.signals import shielded
from ..transaction.stage import Stage
from ..transaction.stopped import forget_stop, note_stop
from .leftovers import COMPARE_PREFIX, sweep_state
from .outcome import Outcome
from .reading import Contents, passphrase_for, read_contents, unpack
from .restore_plan import DatabaseDigest, Item, Selection, check_selection, compare, digest_of, identity, plan_items
from .rights import give_rights
from .safety import make_safety_backup, safety_space
from .scan import check_root
from .text import human_bytes
from .tree import mend_rights

DIRECTORY_PLACE = "directories"


@dataclass
class _Run:
    """What one restore has at hand."""

    application: Application
    ports: Ports
    backup: Backup
    contents: Contents
    selection: Selection
    items: list[Item]
    passphrase_file: Optional[str]
    times: dict[str, float] = field(default_factory=dict)

    @property
    def changes(self) -> list[Item]:
        """The items that are not as the backup has them."""
        return [item for item in self.items if item.action != "same"]


def restore(
    application: Application,
    ports: Ports,
    *,
    reference: str = "latest",
    components: Sequence[str] = (),
    paths: Sequence[str] = (),
    to: Optional[str] = None,
    dry_run: bool = False,
    passphrase_file: Optional[str] = None,
) -> Outcome:
    """Put a backup (or the chosen part of it) in the place of the live data, or into the directory ``to``.

    Restoring what is there already stops nothing and changes nothing.
    """
    selection = check_selection(application, components, paths)
    backup = LocalCatalog(application, ports.clock).find(reference)
    secret = passphrase_for(application, passphrase_file)
    if to is not None:
        return _restore_elsewhere(application, ports, backup, selection, Path(to), secret, dry_run)
    if dry_run:
        return _planned(_prepare(application, ports, backup, selection, secret))
    with application_lock(
        Path(application.application_state_dir),
        operation="restore",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.note,
    ):
        sweep_state(application)
        return _restore_live(_prepare(application, ports, backup, selection, secret))


def _prepare(
    application: Application, ports: Ports, backup: Backup, selection: Selection, passphrase_file: Optional[str]
) -> _Run:
    """Verify the whole archive and compare it with the live data. Writes nothing."""
    check_root(application)
    refuse_pending(Path(application.application_state_dir))
    contents = read_contents(backup, ports, passphrase_file)
    if contents.foreign:
        ports.progress.note("made by another program, without a manifest: only weaker checks are possible")
    _refuse_unsafe_links(contents, selection, application)
    items = plan_items(
        application, contents.entries, selection, digest_of_database=_database_digest(application, ports)
    )
    if not items and not selection.whole:
        raise UsageError(
            "the backup holds nothing of what was chosen", path=backup.path.name, hint="see tar -tzf of it"
        )
    run = _Run(application, ports, backup, contents, selection, items, passphrase_file)
    _check_space(run)
    return run


def _database_digest(application: Application, ports: Ports) -> DatabaseDigest:
    """A function that captures a live database into a private place that is gone afterwards, for its digest."""

    def captured(live: str) -> Optional[str]:
        state_dir = str(application.application_state_dir)
        usable = os.path.isdir(state_dir) and os.access(state_dir, os.W_OK)
        prefix = f"{COMPARE_PREFIX}{os.getpid()}-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=state_dir if usable else None) as scratch:
            context = CaptureContext(scratch=Path(scratch), clock=ports.clock, deadline_seconds=30.0)
            try:
                with kind_named("sqlite").capture(Path(live), context) as capture, capture.open() as stream:
                    return digest_of(stream)
            except (CaptureError, CheckError):
                return None

    return captured


def _refuse_unsafe_links(contents: Contents, selection: Selection, application: Application) -> None:
    chosen = selection.chooser(application)
    for path in sorted(contents.unsafe_links):
        if chosen(path):
            raise ArchiveError(
                "a symlink in the backup leads out of the data and is not restored",
                path=path,
                hint="restore the rest with --component or --path",
            )


def _check_space(run: _Run) -> None:
    needed = sum(item.entry.size for item in run.changes if item.entry is not None)
    free = space(run.application.root)
    if needed + (1 << 20) > free.bytes_free:
        raise SpaceError(
            f"{human_bytes(needed)} needed beside the data, {human_bytes(free.bytes_free)} free",
            path=run.application.root,
            hint="free some space",
        )
    if free.inodes_free is not None and free.inodes_free < len(run.changes) + 16:
        raise SpaceError("not enough inodes for the stage", path=run.application.root, hint="remove some small files")
    if run.changes:
        safety_space(run.application, sum((item.before or {}).get("size", 0) for item in run.changes))


def _planned(run: _Run) -> Outcome:
    lines = [item.describe() for item in run.changes]
    same = len(run.items) - len(run.changes)
    lines.append(f"{run.backup.path.name}: {len(run.changes)} would change, {same} are the same; nothing was written")
    return _outcome(run, changed=bool(run.changes), lines=lines, state="planned")


def _outcome(
    run: _Run, *, changed: bool, lines: Sequence[str], state: str, more: Optional[dict[str, Any]] = None
) -> Outcome:
    record: dict[str, Any] = {
        "backup": run.backup.path.name,
        "state": state,
        "weaker_checks": run.contents.foreign,
        "changes": [
            {"path": item.path, "action": item.action, "before": item.before, "after": item.after}
            for item in run.changes
        ],
        "unchanged": len(run.items) - len(run.changes),
        "safety_backup": None,
        "seconds": run.times,
        **(more or {}),
    }
    return Outcome(
        changed=changed,
        record=record,
        lines=tuple(lines),
        before={item.path: item.before or "absent" for item in run.changes},
        after={item.path: item.after or "absent" for item in run.changes},
    )


def _restore_live(run: _Run) -> Outcome:
    if not run.changes:
        return _outcome(
            run,
            changed=False,
            lines=[f"everything is as {run.backup.path.name} has it; nothing was done"],
            state="unchanged",
        )
    application, ports = run.application, run.ports
    state_dir = Path(application.application_state_dir)
    make_private_directory(state_dir)
    started = ports.clock.monotonic()
    with Stage.create(state_dir, device_roots(application.root)) as stage:
        _fill_stage(run, stage, run.changes)
        run.times["staging"] = round(ports.clock.monotonic() - started, 3)
        safety = _exchange(run, stage, state_dir)
    mended = mend_rights(application, ports, run.selection.chooser(application))
    lines = [item.describe() for item in run.changes] + [change.describe() for change in mended]
    lines.append(
        f"restored {len(run.changes)} from {run.backup.path.name}; services were stopped for "
        f"{run.times.get('downtime', 0.0):.2f} s; what was there before is in {safety.path.name}"
    )
    return _outcome(run, changed=True, lines=lines, state="restored", more={"safety_backup": str(safety.path)})


def _fill_stage(run: _Run, stage: Stage, changes: Sequence[Item]) -> None:
    """Write the changed files into the stage, give them their rights, check each by its kind, make all durable."""
    prefix = run.contents.report.stripped_prefix
    wanted = {item.path: stage.path_for(item.path, prefix) for item in changes if item.entry is not None}
    run.ports.step("stage")
    for directory in stage.directories:
        # One pass for each filesystem that something lies on: nearly always one.
        here = {path for path, staged in wanted.items() if staged.startswith(f"{directory}/")}
        if here:
            unpack(run.backup, run.contents, f"{directory}/new", here.__contains__, run.ports, run.passphrase_file)
    for item in changes:
        if item.entry is None:
            continue
        staged = wanted[item.path]
        give_rights(run.application, item.entry, staged)
        if item.entry.type == "file":
            check_restored(item.entry, Path(staged), run.ports)
    run.ports.step("staged")
    stage.sync()


def check_restored(entry: Entry, staged: Path, ports: Ports) -> None:
    """Judge restored content by its kind. Raises ArchiveError for a database that is not what it must be.

    A malformed document or log is only noted: its bytes are what the backup holds, and the application may know better.
    """
    kind = entry.kind or default_kind(os.path.basename(entry.path))
    report = kind_named(kind).check(staged, level=CheckLevel.FULL)
    problems = list(report.problems)
    expected = entry.facts.get("tables")
    if expected is not None and report.facts.get("tables") != expected:
        problems.append("rows per table differ from the manifest")
    if problems and kind == "sqlite":
        raise ArchiveError(problems[0], path=entry.path, hint="use another backup: tradekeep list")
    for text in problems:
        ports.progress.note(f"{entry.path}: {text}")


def _exchange(run: _Run, stage: Stage, state_dir: Path) -> Backup:
    """Stop, exchange, start, watch; keep the old state as a safety backup; commit. Puts everything back on failure."""
    application, ports = run.application, run.ports
    services = ServiceController(application.profile.services if application.system else (), ports.runner, ports.clock)
    snapshot = services.snapshot()
    note_stop(state_dir, operation="restore", snapshot=snapshot)
    stopped_at = ports.clock.monotonic()
    exchange: Optional[Exchange] = None
    try:
        ports.step("stop")
        services.stop(snapshot)
        _settle(run, stage)
        exchange = Exchange.begin(
            state_dir,
            operation="restore",
            replacements=replacements(run.application, run.changes, stage, run.contents.report.stripped_prefix),
            stages=stage.directories,
            services=snapshot,
            details={"backup": run.backup.path.name, "encrypted": run.backup.encrypted},
            clock=ports.clock,
            step=ports.step,
        )
        exchange.apply(ports.step)
        ports.step("start")
        services.start(snapshot)
        run.times["downtime"] = round(ports.clock.monotonic() - stopped_at, 3)
        services.wait_until_steady(snapshot)
        note_restored(application, ports, run.backup.path.name)
    except BaseException as error:
        with shielded():
            _put_back(services, snapshot, exchange, error, ports)
            forget_stop(state_dir)
        raise
    return _finish(run, exchange, state_dir)


def _finish(run: _Run, exchange: Exchange, state_dir: Path) -> Backup:
    """The new state runs: keep the old one as a safety backup, and commit. Nothing is undone from here on."""
    try:
        forget_stop(state_dir)
        safety = make_safety_backup(run.application, run.ports, exchange, encrypted=run.backup.encrypted)
    except InterruptedBySignal as error:
        raise NeedsPersonError(
            "stopped by a signal; the restored data is in place and what it replaced still lies aside",
            path=state_dir,
            hint="run: tradekeep recover",
        ) from error
    try:
        with contextlib.suppress(InterruptedBySignal), shielded():
            # Short, and too late to stop: the signal would make a restore that is complete say that it was undone.
            exchange.commit(run.ports.step)
    except TradekeepError as error:
        raise NeedsPersonError(
            f"the restored data is in place, but that could not be recorded: {error}",
            path=state_dir,
            hint="mend that, then run: tradekeep recover",
        ) from error
    return safety


def _put_back(
    services: ServiceController,
    snapshot: list[dict[str, Any]],
    exchange: Optional[Exchange],
    error: BaseException,
    ports: Ports,
) -> None:
    ports.progress.note(f"failed, putting everything back: {error}")
    if exchange is not None:
        services.stop(snapshot)
        exchange.undo(ports.step)
        exchange.clean(ports.step)
    try:
        services.start(snapshot)
        services.wait_until_steady(snapshot)
    except ServiceError as second:
        raise ServiceError(
            f"{error}; the data is as it was, but then: {second.message}", path=second.path, hint=second.hint
        ) from error


def _settle(run: _Run, stage: Stage) -> None:
    """Between the comparison and the stop the bot went on writing: take in what it changed meanwhile."""
    before = {item.path: item for item in run.items}
    late = [
        compare(run.application, item.entry, _database_digest(run.application, run.ports))
        for item in run.items
        if item.action == "same" and item.entry is not None and identity(run.application, item.path) != item.identity
    ]
    late = [item for item in late if item.action != "same"]
    if late:
        _fill_stage(run, stage, late)
    again = plan_items(
        run.application,
        run.contents.entries,
        run.selection,
        digest_of_database=_database_digest(run.application, run.ports),
        known=before,
    )
    now = {item.path: item for item in again}
    now.update({item.path: item for item in late})
    run.items = [now[path] for path in sorted(now)]


def replacements(application: Application, changes: Sequence[Item], stage: Stage, prefix: str) -> list[Replacement]:
    """The renames that turn the live data into the staged: removals with their companions, new directories, files."""
    root = str(application.root)
    wanted: list[Replacement] = []
    named = {item.path for item in changes}
    for item in changes:
        live, kept = os.path.join(root, item.path), stage.kept_for(item.path)
        wanted.append(Replacement(live, None if item.entry is None else stage.path_for(item.path, prefix), kept))
        for suffix in SIDECAR_SUFFIXES:
            # A stale WAL would replay over the restored database. Beside the kept one it keeps its meaning.
            if item.path + suffix not in named and os.path.lexists(live + suffix):
                wanted.append(Replacement(live + suffix, None, kept + suffix))
    for path in new_directories(application, changes):
        staged = stage.path_for(path, f"{DIRECTORY_PLACE}/{len(wanted)}")
        os.makedirs(staged, mode=0o700)
        give_rights(application, Entry(path, "directory", mode=0o700), staged)
        wanted.append(Replacement(os.path.join(root, path), staged, stage.kept_for(path)))
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


def note_restored(application: Application, ports: Ports, backup: str) -> None:
    """Remember that the data went back in time, so that the next backup does not take that for a loss."""
    record = {"at": ports.clock.now().isoformat(), "backup": backup}
    atomic_write(Path(application.application_state_dir) / "restored.json", (json.dumps(record) + "\n").encode("utf-8"))


def _restore_elsewhere(
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
