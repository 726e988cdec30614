# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Restoring: verify, stage beside the data, check the stage; then stop, exchange by rename, start, and watch.

Everything slow happens before the stop. What is replaced is kept aside until the services are up and it has become a
safety backup; on any failure before that, everything goes back.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ..application import Application
from ..errors import (
    CaptureError,
    ExitStatus,
    ServiceError,
    SpaceError,
)
from ..host.account import owner_of
from ..host.files import space
from ..host.filesystem.holes import data_at
from ..host.filesystem.identity import acting_as
from ..host.filesystem.immutable import refuse_locked
from ..host.mounts import device_roots
from ..host.services import Snapshot
from ..patterns import classify
from ..ports import Ports
from ..storage.local import Backup
from ..transaction.exchange import refuse_pending
from ..transaction.lock import application_lock
from ..transaction.plan import Replacement
from ..transaction.stage import Stage
from .basis import note_restored
from .check_ahead import check_ahead
from .controller import services_of
from .exchange_run import Change, run_exchange
from .fence import note_fence
from .healthy import health_gate
from .keys import find_to_read, home_for, require_usable_keys
from .leftovers import sweep_state
from .links import LiveLinks
from .live_digest import database_digest
from .outcome import Outcome
from .provenance import note_other_maker, refuse_other_maker
from .reading import Contents, passphrase_for, read_contents
from .restore_elsewhere import restore_elsewhere
from .restore_links import links_left_out, tell_of_links
from .restore_plan import (
    Item,
    Selection,
    check_selection,
    compare,
    identity,
    kept_out,
    nothing_chosen,
    plan_items,
    unmanaged,
    with_tied,
)
from .restore_stage import fill_stage, replacements
from .safety import keep_given_up, make_safety_backup, safety_space
from .scan import check_root
from .still_writing import FORCE, FORCED, refuse_unmanaged_writers, refuse_writers
from .text import counted, first_few, first_lines, human_bytes, stopped_for
from .tree import mend_rights

_SHOWN = 5
_OTHER_PROFILE = "look at it with --to DIR; put it here all the same with --any-profile; or "


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
    force: bool
    gnupg_home: Optional[str] = None
    not_data: Sequence[str] = ()
    unmanaged: Sequence[str] = ()
    left_links: Sequence[str] = ()
    accept_damage: bool = False
    stopped: list[str] = field(default_factory=list)
    health: list[dict[str, Any]] = field(default_factory=list)
    unhealthy: Optional[str] = None
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
    any_profile: bool = False,
    force: bool = False,
    key_file: Optional[str] = None,
    accept_damage: bool = False,
    include_unmanaged: bool = False,
    strip: Optional[str] = None,
    into: Optional[str] = None,
) -> Outcome:
    """Put a backup (or the chosen part of it) in the place of the live data, or into the directory ``to``.

    Restoring what is there already stops nothing and changes nothing. any_profile: take a backup of another profile.
    force: go on although a process that the services do not own writes the data, and keep what was restored although a
    health check fails. accept_damage: restore a damaged database too, as the backup has it.
    include_unmanaged: also what no component of the profile has; a directory ``to`` gets it in any case.
    strip: the leading directories of an archive of another program to leave out; found by the profile otherwise.
    into: the directory of the root that such an archive was made in.
    key_file: the secret key of a backup to a public one, for this time; without it the host's own key is tried, and the
    account's keyring.
    """
    selection = check_selection(application, components, paths)
    selection = replace(selection, unmanaged=include_unmanaged or to is not None, strip=strip, into=into)
    secret = passphrase_for(application, passphrase_file)
    given = key_file is not None
    backup = find_to_read(application, ports, reference, passphrase_file=secret, key_given=given)
    if to is None and not any_profile:
        # As far as its sidecar tells, before all of it is read.
        refuse_other_maker(application, backup, hint=_OTHER_PROFILE)
    with home_for(application, backup.path, key_file, ports) as home:
        if to is not None:
            return restore_elsewhere(
                application,
                ports,
                backup,
                selection,
                Path(to),
                secret,
                dry_run,
                gnupg_home=home,
                accept_damage=accept_damage,
            )
        with acting_as(owner_of(application)):
            if dry_run:
                run = _prepare(application, ports, backup, selection, secret, home, any_profile, force, dry_run=True)
                run.accept_damage = accept_damage
                return _planned(run)
            return _restore_locked(
                application, ports, backup, selection, secret, home, any_profile, force, accept_damage
            )


def _restore_locked(
    application: Application,
    ports: Ports,
    backup: Backup,
    selection: Selection,
    secret: Optional[str],
    home: Optional[str],
    any_profile: bool,
    force: bool,
    accept_damage: bool,
) -> Outcome:
    with application_lock(
        Path(application.application_state_dir),
        operation="restore",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.mention,
    ):
        sweep_state(application)
        run = _prepare(application, ports, backup, selection, secret, home, any_profile, force)
        run.accept_damage = accept_damage
        return _restore_live(run)


def _prepare(
    application: Application,
    ports: Ports,
    backup: Backup,
    selection: Selection,
    passphrase_file: Optional[str],
    home: Optional[str],
    any_profile: bool,
    force: bool,
    *,
    dry_run: bool = False,
) -> _Run:
    """Verify the whole archive and compare it with the live data. Writes nothing."""
    check_root(application)
    refuse_pending(Path(application.application_state_dir))
    contents = read_contents(
        backup,
        ports,
        passphrase_file,
        gnupg_home=home,
        application=application,
        strip=selection.strip,
        into=selection.into,
    )
    if not any_profile:
        refuse_other_maker(application, backup, contents.report.header, hint=_OTHER_PROFILE)
    note_other_maker(application, backup, contents.report.header, ports.progress.note)
    if contents.foreign:
        ports.progress.note("made by another program, without a manifest: only weaker checks are possible")
    items = plan_items(application, contents.entries, selection, digest_of_database=database_digest(application, ports))
    not_data, without_component = _left_alone_of(
        application, ports, contents, selection, nothing_fits=contents.foreign and not items
    )
    left_links = links_left_out(application, contents, selection)
    if not items and not selection.whole and not without_component and not left_links:
        raise nothing_chosen(backup.path.name, contents.entries)
    run = _Run(application, ports, backup, contents, selection, items, passphrase_file, force, home, not_data)
    run.unmanaged, run.left_links = without_component, left_links
    tell_of_links(ports.progress.note, left_links, run.changes)
    _check_space(run)
    refuse_locked(os.path.join(application.root, item.path) for item in run.changes)
    if run.changes:
        # What is replaced becomes a safety backup, when the services run on the new data already.
        require_usable_keys(application, ports)
        services = services_of(application, ports)
        refuse_unmanaged_writers(application, ports, services, force=force, dry_run=dry_run, way_out=FORCE)
    return run


def _left_alone_of(
    application: Application, ports: Ports, contents: Contents, selection: Selection, *, nothing_fits: bool
) -> tuple[list[str], list[str]]:
    """What is code or a cache here, and what no component has: neither is restored.

    nothing_fits: whether an archive of another program has nothing else.
    """
    not_data = kept_out(application, contents.entries, selection)
    if not_data:
        ports.progress.note(f"left alone, as it is code or a cache here and no data: {first_few(not_data, _SHOWN)}")
    without_component = unmanaged(application, contents.entries, selection)
    if without_component:
        some = first_few(without_component, _SHOWN)
        ways = "--include-unmanaged takes it"
        if nothing_fits:
            ways += "; --into DIR says in which directory of the root the archive was made"
        ports.progress.note(f"left alone, as no component of the profile has it: {some} ({ways})")
    return not_data, without_component


def _check_space(run: _Run) -> None:
    needed = sum(item.entry.data_bytes for item in run.changes if item.entry is not None)
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
        safety_space(run.application, sum(_live_bytes(run.application, item) for item in run.changes))


def _live_bytes(application: Application, item: Item) -> int:
    """How much of what is replaced is no hole."""
    return data_at(os.path.join(str(application.root), item.path), (item.before or {}).get("size", 0))


def _planned(run: _Run) -> Outcome:
    check_ahead(
        run.application,
        run.ports,
        backup=run.backup,
        contents=run.contents,
        entries=[item.entry for item in run.changes if item.entry is not None],
        passphrase_file=run.passphrase_file,
        gnupg_home=run.gnupg_home,
        accept_damage=run.accept_damage,
    )
    same = len(run.items) - len(run.changes)
    end = f"{run.backup.path.name}: {len(run.changes)} would change, {same} are the same; nothing was written"
    listed = [item.describe() for item in run.changes]
    return _outcome(run, changed=bool(run.changes), listed=listed, lines=[end], state="planned")


def _outcome(
    run: _Run,
    *,
    changed: bool,
    lines: Sequence[str],
    state: str,
    listed: Sequence[str] = (),
    more: Optional[dict[str, Any]] = None,
) -> Outcome:
    """listed: what a line each is said about, before the lines; of very much of it a terminal shows the beginning."""
    left = _left_alone(run) if run.changes else []
    if left:
        # Positions that refer to fills, for instance: only a person knows whether two moments fit together.
        lines = [*lines, f"left as it is now, which may not fit to what went back in time: {', '.join(left)}"]
    record: dict[str, Any] = {
        "backup": run.backup.path.name,
        "state": state,
        "left_alone": left,
        "not_data": list(run.not_data),
        "unmanaged": list(run.unmanaged),
        "links_left_out": list(run.left_links),
        "weaker_checks": run.contents.foreign,
        "changes": [
            {"path": item.path, "action": item.action, "before": item.before, "after": item.after}
            for item in run.changes
        ],
        "unchanged": len(run.items) - len(run.changes),
        "safety_backup": None,
        "stopped": run.stopped,
        "health": run.health,
        "seconds": run.times,
        **(more or {}),
    }
    return Outcome(
        changed=changed,
        record=record,
        lines=(*listed, *lines),
        fitted=lambda _width: (*first_lines(listed), *lines),
        before={item.path: item.before or "absent" for item in run.changes},
        after={item.path: item.after or "absent" for item in run.changes},
        status=ExitStatus.DONE if run.unhealthy is None else ExitStatus.FINDINGS,
    )


def _left_alone(run: _Run) -> list[str]:
    """Components that the backup has and that are wanted in part or not at all."""
    chosen = run.selection.chooser(run.application)
    found = set()
    for entry in run.contents.entries:
        classified = None if chosen(entry.path) else classify(run.application.profile, entry.path)
        if classified is not None and entry.type == "file":
            found.add(classified.component.name)
    return sorted(found)


def _restore_live(run: _Run) -> Outcome:
    if not run.changes:
        return _outcome(
            run,
            changed=False,
            lines=[f"everything {_but_for_links(run)}is as {run.backup.path.name} has it; nothing was done"],
            state="unchanged",
        )
    application, ports = run.application, run.ports
    state_dir = Path(application.application_state_dir)
    started = ports.clock.monotonic()
    with Stage.create(state_dir, device_roots(application.root)) as stage:
        _fill(run, stage, run.changes)
        run.times["staging"] = round(ports.clock.monotonic() - started, 3)
        safety = _exchange(run, stage, state_dir)
    mended = mend_rights(application, ports, run.selection.chooser(application))
    end = (
        f"restored {len(run.changes)} from {run.backup.path.name}; "
        f"{stopped_for(run.stopped, run.times.get('downtime', 0.0))}; what was there before is in {safety.path.name}"
    )
    lines = [end]
    if run.unhealthy is not None:
        lines.append(f"kept although it is not healthy: {run.unhealthy}")
    return _outcome(
        run,
        changed=True,
        listed=[item.describe() for item in run.changes] + [change.describe() for change in mended],
        lines=lines,
        state="restored",
        more={"safety_backup": str(safety.path)},
    )


def _but_for_links(run: _Run) -> str:
    return f"but for {counted(len(run.left_links), 'symlink')} that was left out " if run.left_links else ""


def _fill(run: _Run, stage: Stage, changes: Sequence[Item]) -> None:
    fill_stage(
        run.application,
        run.ports,
        stage,
        changes,
        backup=run.backup,
        contents=run.contents,
        passphrase_file=run.passphrase_file,
        gnupg_home=run.gnupg_home,
        accept_damage=run.accept_damage,
    )


def _exchange(run: _Run, stage: Stage, state_dir: Path) -> Backup:
    """Exchange the data, and keep what was replaced as a safety backup."""
    application, ports, name = run.application, run.ports, run.backup.path.name

    def settled() -> list[Replacement]:
        _settle(run, stage)
        directories = {entry.path: entry for entry in run.contents.entries if entry.type == "directory"}
        return replacements(application, run.changes, stage, run.contents.report.stripped_prefix, directories)

    services = services_of(application, ports)
    start: Optional[Snapshot] = [] if note_fence(application, ports) else None

    def confirm() -> None:
        if start is None and run.stopped:
            _ask_health(run)
        note_restored(application, ports, name, _touched(run))

    change = Change(
        operation="restore",
        in_place="the restored data is in place",
        replacements=settled,
        confirm=confirm,
        keep=lambda exchange: make_safety_backup(application, ports, exchange),
        given_up=lambda exchange: keep_given_up(application, ports, exchange),
        were_stopped=run.stopped.extend,
        was_down=lambda seconds: run.times.update(downtime=seconds),
        details={"backup": name, "touched": _touched(run), FORCED: run.force},
    )
    return run_exchange(
        change,
        state_dir=state_dir,
        stage=stage,
        services=services,
        ports=ports,
        refuse_writers=lambda: refuse_writers(application, ports, services, force=run.force, way_out=FORCE),
        start=start,
    )


def _ask_health(run: _Run) -> None:
    """Raises ServiceError where the bot is not healthy on the restored data, unless that is to be kept."""
    gate = health_gate(run.application, run.ports)
    try:
        gate.run(run.ports.clock.now())
    except ServiceError as error:
        if not run.force:
            raise ServiceError(error.message, path=error.path, hint="--force keeps what was restored") from error
        run.unhealthy = str(error)
    finally:
        run.health = [result.as_dict() for result in gate.results]


def _touched(run: _Run) -> list[str]:
    """The components of which something is changed."""
    classified = (classify(run.application.profile, item.path) for item in run.changes)
    return sorted({item.component.name for item in classified if item is not None})


def _settle(run: _Run, stage: Stage) -> None:
    """Between the comparison and the stop the bot went on writing: take in what it changed meanwhile."""
    before = {item.path: item for item in run.items}
    links = LiveLinks(run.application)
    late = [
        compare(run.application, item.entry, database_digest(run.application, run.ports), links)
        for item in run.items
        if item.action == "same"
        and item.entry is not None
        and identity(run.application, item.path, links) != item.identity
    ]
    for item in late:
        if item.action != "same" and links.above(item.path) is not None:
            raise CaptureError(
                "was written behind its symlink while the restore was prepared",
                path=item.path,
                hint="stop what writes there, then run it again",
            )
    now = {**before, **{item.path: item for item in late}}
    late = [
        item for item in with_tied(list(now.values())) if item.action != "same" and before[item.path].action == "same"
    ]
    if late:
        _fill(run, stage, late)
    again = plan_items(
        run.application,
        run.contents.entries,
        run.selection,
        digest_of_database=database_digest(run.application, run.ports),
        known=before,
    )
    now = {item.path: item for item in again}
    now.update({item.path: item for item in late})
    run.items = [now[path] for path in sorted(now)]
