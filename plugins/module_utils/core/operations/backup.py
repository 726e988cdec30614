# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Making a backup: plan, capture, verify, and only then give it its name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Callable, Optional, Union

from ..application import Application
from ..errors import CaptureError, ChangedWhileReadError, CheckError, ExitStatus, InterruptedBySignal
from ..host.files import make_private_directory
from ..host.filesystem.identity import privileged
from ..host.memory import many_objects
from ..host.scheduling import batch_work
from ..patterns import classifier
from ..ports import Ports
from ..storage.local import Backup, LocalCatalog
from ..transaction.lock import application_lock
from ..transaction.signals import shielded
from .assemble import Account as Summary
from .backup_plan import ASSUMED_RATIO, BackupPlan, check_space, request_backup
from .found import Share, Thing
from .keys import require_usable_keys
from .leftovers import sweep_state
from .listings import Listings
from .outcome import Outcome
from .scan import scan, shared_scan
from .second_reader import SecondReader
from .text import human_bytes, table
from .tree_reader import Source, TreeReader, tree_reader
from .write_archive import Job, Written, scratch_of, write_archive

Things = Callable[[], Iterable[Union[Thing, Share]]]
"""What is to be captured; called for each pass, in the process that reads it."""
ATTEMPTS = 4
"""How often an archive is begun again because a large file changed under the reader."""
SMALL_TABLE_ROWS = 20
"""Tables this small may lose any share of their rows without it meaning anything."""


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
    host_key: bool = True,
) -> Outcome:
    """Make one backup, verified before it has its name.

    encrypt: None encrypts where there is a key, unless the schedule of the tier says otherwise. output: another
    directory than the catalog's.
    allow_row_loss: accept a table that lost most of its rows since the last backup. host_key: False leaves out the
    host's own key, for an archive that goes elsewhere.
    """
    if not host_key:
        application = replace(application, encryption=replace(application.encryption, host_key=False))
    request = request_backup(application, ports, tier, name, encrypt, output)
    if dry_run:
        with tree_reader(application, ports, lambda: nullcontext(Source(lambda: scan(application))), request) as reader:
            plan = reader.survey(list_paths=True)
        check_space(plan)
        if plan.encryption.configured:
            require_usable_keys(application, ports)
        return Outcome(changed=True, record={"backup": None, "plan": plan.as_dict()}, lines=_plan_lines(plan))
    lock = application_lock(
        Path(application.application_state_dir),
        operation="backup",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.note,
    )
    with _as_failure(), lock, many_objects(), batch_work():
        # Anew, as what ran before may have made a backup.
        request = request_backup(application, ports, tier, name, encrypt, output)
        with tree_reader(application, ports, lambda: _live_data(application), request) as reader:
            plan = reader.survey()
            made, summary = make_backup(application, ports, plan, reader, allow_row_loss=allow_row_loss)
    record = {
        "backup": made.as_dict(),
        "warnings": summary.told_warnings() + summary.unfinished,
        "missing": list(plan.missing),
    }
    status = ExitStatus.FINDINGS if summary.unfinished else ExitStatus.DONE
    return Outcome(changed=True, record=record, lines=_made_lines(made, summary, plan), status=status)


@contextmanager
def _live_data(application: Application) -> Iterator[Source]:
    """The tree with a second process to look at a share of it; small files are remembered between the two passes."""
    with SecondReader(classifier(application.profile)) as second:
        listings = Listings(application, sharing=second)
        yield Source(lambda: shared_scan(application, listings), second.capture)


@contextmanager
def _as_failure() -> Iterator[None]:
    """Damage found while backing up is no mere finding: the backup was not made."""
    try:
        yield
    except CheckError as error:
        hint = error.hint or "restore it: tradekeep restore latest --path"
        raise CaptureError(error.message, path=error.path, hint=hint) from error


def back_up(
    application: Application, ports: Ports, request: BackupPlan, things: Things, *, lenient: bool = False
) -> Backup:
    """A verified backup of what an operation names, beside its own work. The caller holds the application's lock.

    request: how it is to be made; what there is to capture is found here. lenient: keep damaged databases byte for byte
    instead of failing (for safety backups).
    """
    with tree_reader(application, ports, lambda: nullcontext(Source(things)), request) as reader:
        plan = reader.measure()
        if not lenient:
            plan = replace(plan, space_needed=int(plan.bytes * ASSUMED_RATIO) + plan.largest_database + (1 << 20))
        return make_backup(application, ports, plan, reader, lenient=lenient)[0]


def make_backup(
    application: Application,
    ports: Ports,
    plan: BackupPlan,
    reader: TreeReader,
    *,
    allow_row_loss: bool = False,
    lenient: bool = False,
) -> tuple[Backup, Summary]:
    """Capture, verify, publish. The caller holds the application's lock. Nothing is left behind on failure."""
    with privileged():
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
                written = write_archive(job, temporary, scratch, copy_first)
                if not allow_row_loss and not lenient:
                    check_rows(application, plan.previous, written.summary)
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
        "host": job.header.host,
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
        "check_level": job.header.check_level,
        "verified": written.proof,
        "seconds": written.seconds,
    }
    ports.step("publish")
    made: Optional[Backup] = None
    with contextlib.suppress(InterruptedBySignal), shielded():
        # Once it has its name the backup is made: nothing that happens then can say that it was not.
        made = catalog.publish(temporary, job.final_name, sidecar)
        summary.unfinished += catalog.settle(made, written.proof["level"], ports.clock.now())
    if made is None:
        raise InterruptedBySignal("stopped by a signal; what had been begun was undone")
    return catalog.find(str(made.path)), summary


def check_rows(application: Application, previous: Optional[Backup], summary: Summary) -> None:
    """Raises CaptureError when a table lost more than the allowed share of its rows since the last backup."""
    if previous is None:
        return
    limit = application.profile.maximum_row_loss_percent
    for path, facts in previous.sidecar.get("databases", {}).items():
        now = summary.databases.get(path, {}).get("tables", {})
        for table_name, rows_before in facts.get("tables", {}).items():
            rows_now = now.get(table_name, 0)
            if rows_before >= SMALL_TABLE_ROWS and rows_now < rows_before * (1 - limit / 100):
                raise CaptureError(
                    f"table {table_name} had {rows_before} rows in {previous.path.name} and has {rows_now} now",
                    path=Path(application.root) / path,
                    hint="find out why; if it is right, back up once with --allow-row-loss",
                )


def _relative(application: Application, path: str) -> str:
    return os.path.relpath(path, str(application.root))


def _plan_lines(plan: BackupPlan) -> tuple[str, ...]:
    rows = [[name, str(share["files"]), human_bytes(share["bytes"])] for name, share in sorted(plan.components.items())]
    lines = [f"{human_bytes(size):>10}  {kind:<6}  {path}" for path, size, kind in plan.paths]
    lines += ["", *table(["component", "files", "size"], rows)]
    lines += [f"excluded: {pattern}" for pattern in plan.excluded]
    lines += [f"not there yet: {path}" for path in plan.missing]
    lines.append(
        f"would capture {plan.files} files, {human_bytes(plan.bytes)}, into {plan.directory}"
        + (", encrypted" if plan.encryption.configured else "")
        + "; nothing was written"
    )
    return tuple(lines)


def _made_lines(made: Backup, summary: Summary, plan: BackupPlan) -> tuple[str, ...]:
    lines = [f"warning: {text}" for text in summary.told_warnings() + summary.unfinished]
    lines += [f"not there yet: {path}" for path in plan.missing]
    proof = made.sidecar.get("verified", {})
    lines.append(
        f"{made.path}: {summary.files} files, {human_bytes(summary.bytes)} in {human_bytes(made.size)}, "
        f"verified ({proof.get('level')}), {made.sidecar.get('seconds', 0):.1f} s"
    )
    return tuple(lines)
