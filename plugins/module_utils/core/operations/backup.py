# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Making a backup: plan, capture, verify, and only then give it its name."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Callable, Optional, Union

from ..application import Application
from ..errors import (
    CaptureError,
    ChangedWhileReadError,
    CheckError,
    EmptyError,
    ExitStatus,
    InterruptedBySignal,
    TradekeepError,
)
from ..host.files import make_private_directory
from ..host.filesystem.identity import privileged
from ..host.fstab import require_mounted
from ..host.memory import many_objects
from ..host.scheduling import batch_work
from ..patterns import classifier, classify
from ..ports import Ports
from ..signals import shielded
from ..storage.local import Backup, LocalCatalog
from ..storage.maker import HOST, INSTALLATION
from ..transaction.lock import application_lock
from .assemble import Account as Summary
from .backup_plan import BackupPlan, check_space, held_by, request_backup
from .basis import basis_of, facts_for_sidecar, note_backup
from .damage import way_back
from .found import Share, Thing
from .keys import require_usable_keys, told_of_keys
from .leftovers import sweep_state
from .links import missed_lines
from .listings import Listings
from .losses import (
    ALL,
    GET_BACK,
    Held,
    Loss,
    accept,
    check_words,
    fewer_in,
    find_losses,
    is_allowed,
    row_losses,
    unguarded_losses,
)
from .outcome import Outcome
from .room import with_room
from .scan import scan, shared_scan
from .second_reader import SecondReader
from .shrinking import Fewer, Usual, with_usual
from .stopped_for_backup import stopped_for_backup, would_stop
from .text import counted, first_lines, human_bytes, table
from .tree_reader import Source, TreeReader, tree_reader
from .whole_names import left_out_since, note_names
from .write_archive import Job, Written, scratch_of, write_archive

Things = Callable[[], Iterable[Union[Thing, Share]]]
"""What is to be captured; called for each pass, in the process that reads it."""
ATTEMPTS = 4
"""How often an archive is begun again because a large file changed under the reader."""


def backup(
    application: Application,
    ports: Ports,
    *,
    tier: str = "manual",
    name: Optional[str] = None,
    encrypt: Optional[bool] = None,
    output: Optional[str] = None,
    dry_run: bool = False,
    allow_row_loss: bool = False,
    allow_loss: Collection[str] = (),
    host_key: bool = True,
) -> Outcome:
    """Make one backup, verified before it has its name.

    encrypt: None encrypts where there is a key, unless the schedule of the tier says otherwise. output: another
    directory than the catalog's. host_key: False leaves out the host's own key, for an archive that goes elsewhere.
    allow_loss: what may hold far less than in the last backup (see ``losses``). allow_row_loss: accept tables that lost
    most of their rows, in any component.
    """

    def request_again() -> BackupPlan:
        return request_backup(application, ports, tier, name, encrypt, output, allow_loss)

    check_words(application, allow_loss)
    if not host_key:
        application = replace(application, encryption=replace(application.encryption, host_key=False))
    request = request_again()
    if dry_run:
        with tree_reader(application, ports, lambda: nullcontext(Source(lambda: scan(application))), request) as reader:
            plan = reader.survey(list_paths=True)
        check_space(plan)
        if plan.encryption.passphrase_file is not None:
            require_usable_keys(application, ports)
        of_keys, soon = _told_of_keys(application, ports, plan)
        warnings = [*_compared(application, ports, plan, allow_loss), *of_keys, *soon]
        stops = [f"would stop {name} while the data is captured" for name in would_stop(application, ports)]
        told = [*stops, *(f"warning: {text}" for text in warnings)]

        def fitted(_width: int) -> Sequence[str]:
            return (*_plan_lines(plan, first_lines), *told)

        return Outcome(
            changed=True,
            record={"backup": None, "plan": plan.as_dict(), "warnings": warnings},
            lines=(*_plan_lines(plan), *told),
            fitted=fitted,
        )

    def work() -> Outcome:
        return _locked_backup(application, ports, request_again, allow_row_loss=allow_row_loss, allow_loss=allow_loss)

    return work() if output else with_room(application, ports, work)


def _locked_backup(
    application: Application,
    ports: Ports,
    request_again: Callable[[], BackupPlan],
    *,
    allow_row_loss: bool,
    allow_loss: Collection[str],
) -> Outcome:
    lock = application_lock(
        Path(application.application_state_dir),
        operation="backup",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.mention,
    )
    with _as_failure(application, ports), lock, many_objects(), batch_work():
        # Anew, as what ran before may have made a backup.
        request = request_again()
        with tree_reader(application, ports, lambda: _live_data(application), request) as reader:
            plan = reader.survey()
            expired, soon = _told_of_keys(application, ports, plan)
            warnings = [*_compared(application, ports, plan, allow_loss), *expired, *soon]
            plan = replace(plan, expired_keys=tuple(expired))
            for text in warnings:
                ports.progress.note(text)
            allowed = frozenset((*allow_loss, *([ALL] if allow_row_loss else ())))
            made, summary = make_backup(application, ports, plan, reader, warnings=warnings, allowed=allowed)
            _refuse_damaged(application, ports, made, summary)
    record = {
        "backup": made.as_dict(),
        "warnings": summary.told_warnings() + summary.unfinished,
        "missing": list(plan.missing),
    }
    known = plan.previous.sidecar.get("as_it_is", ()) if plan.previous else ()
    found = [path for path in summary.as_it_is if path not in known]
    new = summary.unfinished or found or summary.newly_drained
    status = ExitStatus.FINDINGS if new else ExitStatus.DONE
    lines = _made_lines(made, summary, plan, noted=warnings)
    return Outcome(changed=True, record=record, lines=lines, status=status)


def _told_of_keys(application: Application, ports: Ports, plan: BackupPlan) -> tuple[list[str], list[str]]:
    """See ``told_of_keys``, of a backup that is encrypted to keys."""
    return told_of_keys(application, ports) if plan.encryption.recipients else ([], [])


def _compared(application: Application, ports: Ports, plan: BackupPlan, allowed: Collection[str]) -> list[str]:
    """What is worth a warning of what the last good backup held. Raises CaptureError for a loss that is not allowed."""
    held = held_by(application, plan)
    found = [
        replace(item, remedy=way_back(application, ports.clock, item.path)) if item.remedy == GET_BACK else item
        for item in find_losses(application, plan.basis, held)
    ]
    losses = accept(found, allowed)
    others = (*unguarded_losses(application, plan.basis, held), *left_out_since(application))
    return [*losses, *others, *missed_lines(plan.links, plan.more_links), *plan.uncovered.lines]


@contextmanager
def _live_data(application: Application) -> Iterator[Source]:
    """The tree with a second process to look at a share of it; small files are remembered between the two passes."""
    with SecondReader(classifier(application.profile)) as second:
        listings = Listings(application, sharing=second)
        yield Source(lambda: shared_scan(application, listings), second.capture)


@contextmanager
def _as_failure(application: Application, ports: Ports) -> Iterator[None]:
    """Damage found while backing up is no mere finding: the backup was not made."""
    try:
        yield
    except (CheckError, EmptyError) as error:
        hint = error.hint or way_back(application, ports.clock, str(error.path))
        raise CaptureError(error.message, path=error.path, hint=hint) from error


def _refuse_damaged(application: Application, ports: Ports, made: Backup, summary: Summary) -> None:
    """A backup of damaged documents that the profile requires is kept, counts for nothing, and is no success."""
    if not summary.damaged:
        return
    path, _colon, fault = summary.damaged[0].partition(": ")
    more = f"; and {len(summary.damaged) - 1} more" if len(summary.damaged) > 1 else ""
    absolute = str(Path(application.root) / path)
    raise CaptureError(
        f"the profile requires it, and it is damaged: {fault}{more}; {made.name} holds it so, and counts for nothing",
        path=absolute,
        hint=f"{way_back(application, ports.clock, absolute)}; if it is right as it is, back up once with "
        f"--allow-loss {shlex.quote(path)}, or give it 'kind: file' in the profile",
    )


def back_up(
    application: Application, ports: Ports, request: BackupPlan, things: Things, *, lenient: bool = False
) -> Backup:
    """A verified backup of what an operation names, beside its own work. The caller holds the application's lock.

    request: how it is to be made; what there is to capture is found here. lenient: keep damaged databases byte for byte
    instead of failing (for safety backups).
    """
    catalog = LocalCatalog(application, ports.clock, directory=request.directory)
    if not lenient:
        catalog.require_present()
    elif (gone := catalog.gone()) is not None:
        ports.progress.note(str(gone))
    if not lenient and request.basis is None:
        request = replace(request, basis=basis_of(application, LocalCatalog(application, ports.clock)))
    with tree_reader(application, ports, lambda: nullcontext(Source(things)), request) as reader:
        plan = reader.measure()
        if lenient:
            # It is made of whatever there is, wherever it fits.
            plan = replace(plan, space_needed=0)
        return make_backup(application, ports, plan, reader, lenient=lenient)[0]


def make_backup(
    application: Application,
    ports: Ports,
    plan: BackupPlan,
    reader: TreeReader,
    *,
    warnings: Collection[str] = (),
    allowed: Optional[Collection[str]] = None,
    lenient: bool = False,
) -> tuple[Backup, Summary]:
    """Capture, verify, publish. The caller holds the application's lock. Nothing is left behind on failure.

    warnings: what the plan showed. allowed: which components' tables may lose rows. None for a backup that undoes one
    operation, which has to be made of what there is: a loss is noted.
    """
    with privileged():
        require_mounted(plan.directory)
        make_private_directory(plan.directory)
    catalog = LocalCatalog(application, ports.clock, directory=plan.directory, note=ports.progress.note)
    catalog.sweep_leftovers()
    sweep_state(application)
    job = Job(application, ports, plan, reader, ports.clock.now(), lenient)
    copy_first: frozenset[str] = frozenset()
    with scratch_of(job) as scratch:
        check_space(plan, None if scratch.parent == plan.directory else scratch.parent)
        for attempt in range(ATTEMPTS):
            temporary = catalog.temporary(job.final_name)
            try:
                with nullcontext() if lenient else stopped_for_backup(application, ports):
                    written = write_archive(job, temporary, scratch, copy_first)
                for text in (*warnings, *_compared_rows(job, written.summary, allowed)):
                    written.summary.warn(text)
                _settle_damage(application, written.summary, allowed, lenient)
                return _publish(job, catalog, temporary, written)
            except ChangedWhileReadError as error:
                if attempt == ATTEMPTS - 1 or error.path is None:
                    raise
                copy_first |= {_relative(application, str(error.path))}
                ports.progress.note(f"{error.path} changed while it was read; starting again with a copy of it")
            finally:
                with privileged():
                    temporary.unlink(missing_ok=True)
    raise CaptureError("the data changes too fast", path=application.root, hint="try again at a quieter moment")


def _settle_damage(
    application: Application, summary: Summary, allowed: Optional[Collection[str]], lenient: bool
) -> None:
    """What is damaged and may be so, as a person said, or as what is made of whatever there is, is a mere warning."""
    left = []
    for text in summary.damaged:
        path = text.partition(": ")[0]
        classified = classify(application.profile, path)
        words = {ALL, path, *([classified.component.name] if classified else [])}
        if lenient or words & set(allowed or ()):
            summary.warn(text)
        else:
            left.append(text)
    summary.damaged = left


def _publish(job: Job, catalog: LocalCatalog, temporary: Path, written: Written) -> tuple[Backup, Summary]:
    application, ports, plan, summary = job.application, job.ports, job.plan, written.summary
    databases = summary.told_databases()
    sidecar = {
        "format": 1,
        "application": application.name,
        "profile": application.profile.name,
        "created": job.header.created,
        "tier": job.header.tier,
        "name": plan.name,
        HOST: job.header.host,
        INSTALLATION: catalog.maker.installation,
        "tool": job.header.tool,
        "encrypted": job.header.encrypted,
        "compression": job.header.compression,
        "compressor": written.compressor,
        "size": written.size,
        "sha256": written.sha256,
        "manifest_sha256": written.totals.manifest_sha256,
        "files": summary.files,
        "bytes": summary.bytes,
        "components": summary.components,
        "databases": databases,
        "missing": list(plan.missing),
        "warnings": summary.told_warnings(),
        "as_it_is": summary.as_it_is,
        "expired_keys": list(plan.expired_keys),
        "damaged": summary.damaged,
        "check_level": job.header.check_level,
        "verified": written.proof,
        "seconds": written.seconds,
        "drained": summary.drained,
        **facts_for_sidecar(application, plan.content, plan.guarded, plan.empty),
    }
    ports.step("publish")
    made: Optional[Backup] = None
    with contextlib.suppress(InterruptedBySignal), shielded():
        # Once it has its name the backup is made: nothing that happens then can say that it was not.
        made = catalog.publish(temporary, job.final_name, sidecar)
        summary.unfinished += catalog.settle(made, written.proof["level"], ports.clock.now())
        if not (made.is_safety or summary.damaged):
            _note_basis(job, made, summary)
    if made is None:
        raise InterruptedBySignal("stopped by a signal; what had been begun was undone")
    return catalog.find(str(made.path)), summary


def _note_basis(job: Job, made: Backup, summary: Summary) -> None:
    try:
        note_backup(job.application, made)
        note_names(job.application, job.plan.whole_names)
    except TradekeepError as error:
        summary.unfinished.append(f"the backup is made, but: {error}")


def _compared_rows(job: Job, summary: Summary, allowed: Optional[Collection[str]]) -> list[str]:
    """What is worth a warning of the rows that were captured. Raises CaptureError for a loss that is not allowed."""
    application, databases = job.application, {path: facts["tables"] for path, facts in summary.databases.items()}
    # What has become a link holds the rows of what it leads to.
    stand_ins = job.plan.stand_ins.items()
    databases.update({path: databases[place] for path, place in stand_ins if place in databases})
    if allowed is not None:
        fewer = fewer_in(application, job.plan.basis, databases)
        told = accept(row_losses(application, job.plan.basis, fewer), allowed)
        return [*told, *_drained(job, summary, fewer, allowed)]
    basis = basis_of(application, LocalCatalog(application, job.ports.clock))
    if basis is None:
        return []
    # Databases that had to be kept byte for byte tell no rows.
    basis = replace(basis, databases={path: tables for path, tables in basis.databases.items() if path in databases})
    files = {name: share["files"] for name, share in summary.components.items()}
    held = Held(files=files, content=basis.content)
    fewer = fewer_in(application, basis, databases)
    losses: list[Loss] = [*find_losses(application, basis, held), *row_losses(application, basis, fewer)]
    if not losses:
        return []
    text = f"it is made of what there is, which is less than before: {losses[0].path}: {losses[0].text}"
    job.ports.progress.note(f"{job.final_name}: {text}")
    return accept(losses, (ALL,))


def _drained(
    job: Job, summary: Summary, fewer: Collection[tuple[str, Fewer]], allowed: Collection[str]
) -> Iterator[str]:
    """Note what was seen to be drained, unless a person has allowed it; what is worth a warning of that."""
    known = {} if job.plan.basis is None else job.plan.basis.drained
    usual: Usual = {path: tables for path, tables in known.items() if path in summary.databases}
    for path, item in fewer:
        if item.lost or is_allowed(job.application, path, item.table, allowed):
            continue
        usual = with_usual(usual, path, item)
        summary.newly_drained = True
        yield item.told(path)
    summary.drained = usual


def _relative(application: Application, path: str) -> str:
    """Of what lies behind a link that is followed, the path itself."""
    relative = os.path.relpath(path, str(application.root))
    return path if relative.startswith("../") else relative


def _plan_lines(plan: BackupPlan, shown: Callable[[Sequence[str]], Sequence[str]] = tuple) -> tuple[str, ...]:
    rows = [[name, str(share["files"]), human_bytes(share["bytes"])] for name, share in sorted(plan.components.items())]
    lines = [*shown([f"{human_bytes(size):>10}  {kind:<6}  {path}" for path, size, kind in plan.paths])]
    lines += ["", *table(["component", "files", "size"], rows)]
    lines += [f"excluded: {pattern}" for pattern in plan.excluded]
    lines += [f"not there yet: {path}" for path in plan.missing]
    lines.append(
        f"would capture {counted(plan.files, 'file')}, {human_bytes(plan.bytes)}, into {plan.directory}"
        + (", encrypted" if plan.encryption.configured else "")
        + "; nothing was written"
    )
    return tuple(lines)


def _made_lines(made: Backup, summary: Summary, plan: BackupPlan, noted: Collection[str]) -> tuple[str, ...]:
    """noted: what was said before the backup was made."""
    warnings = [text for text in summary.told_warnings() if text not in noted]
    lines = [f"warning: {text}" for text in warnings + summary.unfinished]
    said = frozenset() if plan.basis is None else plan.basis.missing  # by the backup before
    lines += [f"not there yet: {path}" for path in plan.missing if path not in said]
    proof = made.sidecar.get("verified", {})
    lines.append(
        f"{made.path}: {counted(summary.files, 'file')}, {human_bytes(summary.bytes)} in {human_bytes(made.size)}, "
        f"verified ({proof.get('level')}), {made.sidecar.get('seconds', 0):.1f} s"
    )
    return tuple(lines)
