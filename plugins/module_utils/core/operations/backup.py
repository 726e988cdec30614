# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Making a backup: plan, capture, verify, and only then give it its name."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Callable, Optional, Union

from ..application import Application, CheckLevel
from ..archive.container import create_container
from ..archive.manifest import Header
from ..archive.tar_writer import ArchiveWriter
from ..errors import CaptureError, ChangedWhileReadError, CheckError, ExitStatus, InterruptedBySignal
from ..host.files import make_private_directory
from ..host.memory import many_objects
from ..host.scheduling import batch_work
from ..kinds.base import CaptureContext
from ..patterns import classifier
from ..ports import Ports
from ..storage.local import Backup, LocalCatalog
from ..storage.names import backup_name
from ..transaction.lock import application_lock
from ..transaction.signals import shielded
from ..version import VERSION
from .assemble import Account, assemble
from .backup_plan import BackupPlan, check_space, plan_backup, request_backup, survey
from .found import Share, Thing
from .gather import CaptureShare, refuse_share
from .leftovers import sweep_state
from .listings import Listings
from .outcome import Outcome
from .prove import observe, prove_sealed
from .scan import scan, shared_scan
from .second_reader import SecondReader
from .text import human_bytes, table

ATTEMPTS = 4
"""How often an archive is begun again because a large file changed under the reader."""
READ_ATTEMPTS = 20
"""How often a document that is torn while it is read is tried again."""
LENIENT_ATTEMPTS = 2
FOLLOWED_BYTES, FOLLOWED_FILES = 64 << 20, 5000
"""From here on it pays to have a second process read the archive back while it is written."""
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
) -> Outcome:
    """Make one backup, verified before it has its name.

    encrypt: None lets the schedule of the tier and the components decide. output: another directory than the catalog's.
    allow_row_loss: accept a table that lost most of its rows since the last backup.
    """
    request = request_backup(application, ports, tier, name, encrypt, output)
    if dry_run:
        plan = survey(application, scan(application), request, list_paths=True)
        check_space(plan)
        return Outcome(changed=True, record={"backup": None, "plan": plan.as_dict()}, lines=_plan_lines(plan))
    lock = application_lock(
        Path(application.application_state_dir),
        operation="backup",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.note,
    )
    with _as_failure(), lock, many_objects(), batch_work(), SecondReader(classifier(application.profile)) as second:
        listings = Listings(application, sharing=second)
        plan = plan_backup(application, ports, tier=tier, name=name, encrypt=encrypt, output=output, listings=listings)
        made, account = make_backup(
            application,
            ports,
            plan,
            scan_again=lambda: shared_scan(application, listings),
            capture=second.capture,
            allow_row_loss=allow_row_loss,
        )
    record = {
        "backup": made.as_dict(),
        "warnings": account.warnings + account.unfinished,
        "missing": list(plan.missing),
    }
    status = ExitStatus.FINDINGS if account.unfinished else ExitStatus.DONE
    return Outcome(changed=True, record=record, lines=_made_lines(made, account, plan), status=status)


@contextmanager
def _as_failure() -> Iterator[None]:
    """Damage found while backing up is no mere finding: the backup was not made."""
    try:
        yield
    except CheckError as error:
        hint = error.hint or "restore it: tradekeep restore latest --path"
        raise CaptureError(error.message, path=error.path, hint=hint) from error


def make_backup(
    application: Application,
    ports: Ports,
    plan: BackupPlan,
    *,
    scan_again: Callable[[], Iterable[Union[Thing, Share]]],
    capture: CaptureShare = refuse_share,
    allow_row_loss: bool = False,
    lenient: bool = False,
) -> tuple[Backup, Account]:
    """Capture, verify, publish. The caller holds the application's lock.

    scan_again: gives the things to capture; called once for each attempt. capture: captures shares of them. Nothing is
    left behind on failure.
    """
    make_private_directory(plan.directory)
    catalog = LocalCatalog(application, ports.clock, directory=plan.directory, note=ports.progress.note)
    catalog.sweep_leftovers()
    sweep_state(application)
    check_space(plan)
    moment = ports.clock.now()
    final_name = backup_name(
        application.profile.archive_prefix,
        moment,
        plan.name,
        application.profile.compression,
        plan.encryption.configured,
    )
    copy_first: frozenset[str] = frozenset()
    with _scratch(plan.directory) as scratch:
        for attempt in range(ATTEMPTS):
            temporary = catalog.temporary(final_name)
            try:
                return _attempt(
                    application,
                    ports,
                    plan,
                    catalog,
                    temporary,
                    final_name,
                    moment,
                    scratch,
                    scan_again(),
                    capture,
                    copy_first,
                    allow_row_loss,
                    lenient,
                )
            except ChangedWhileReadError as error:
                if attempt == ATTEMPTS - 1 or error.path is None:
                    raise
                copy_first |= {_relative(application, error.path)}
                ports.progress.note(f"{error.path} changed while it was read; starting again with a copy of it")
            finally:
                temporary.unlink(missing_ok=True)
    raise CaptureError("the data changes too fast", path=application.root, hint="try again at a quieter moment")


def _attempt(
    application: Application,
    ports: Ports,
    plan: BackupPlan,
    catalog: LocalCatalog,
    temporary: Path,
    final_name: str,
    moment: datetime,
    scratch: Path,
    things: Iterable[Union[Thing, Share]],
    capture: CaptureShare,
    copy_first: frozenset[str],
    allow_row_loss: bool,
    lenient: bool,
) -> tuple[Backup, Account]:
    profile = application.profile
    level = CheckLevel.FULL if plan.tier in profile.full_check_tiers else profile.check_level
    header = Header(
        application=application.name,
        profile=profile.name,
        prefix=profile.archive_prefix,
        created=moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        tier=plan.tier.value,
        name=plan.name,
        tool=f"tradekeep {VERSION}",
        host=socket.gethostname(),
        root=str(application.root),
        compression=profile.compression,
        encrypted=plan.encryption.configured,
        check_level=level.value,
        missing=plan.missing,
        excluded=plan.excluded,
    )
    context = CaptureContext(scratch, ports.clock, level, attempts=LENIENT_ATTEMPTS if lenient else READ_ATTEMPTS)
    ports.progress.start("capturing", plan.bytes)
    started = ports.clock.monotonic()
    with create_container(
        temporary,
        compression=profile.compression,
        encryption=plan.encryption,
        runner=ports.runner,
        observer=observe if plan.encryption.recipients else None,
        follow=plan.bytes >= FOLLOWED_BYTES or plan.files >= FOLLOWED_FILES,
    ) as container:
        writer = ArchiveWriter(container.stream, header, container.tell)
        account = assemble(
            writer, things, context, ports.progress, capture=capture, copy_first=copy_first, lenient=lenient
        )
        totals = writer.finish()
    ports.progress.finish()
    if not allow_row_loss and not lenient:
        check_rows(application, plan.previous, account)
    ports.step("verify")
    proof = prove_sealed(temporary, container, totals, plan.encryption, ports)
    databases = account.told_databases()
    sidecar = {
        "format": 1,
        "application": application.name,
        "profile": profile.name,
        "created": header.created,
        "tier": header.tier,
        "name": plan.name,
        "host": header.host,
        "tool": header.tool,
        "encrypted": header.encrypted,
        "compression": profile.compression,
        "compressor": container.compressor,
        "size": container.size,
        "sha256": container.sha256,
        "manifest_sha256": totals.manifest_sha256,
        "files": account.files,
        "bytes": account.bytes,
        "components": account.components,
        "databases": databases,
        "missing": list(plan.missing),
        "warnings": account.warnings,
        "check_level": level.value,
        "verified": proof,
        "seconds": round(ports.clock.monotonic() - started, 3),
    }
    ports.step("publish")
    made: Optional[Backup] = None
    with contextlib.suppress(InterruptedBySignal), shielded():
        # Once it has its name the backup is made: nothing that happens then can say that it was not.
        made = catalog.publish(temporary, final_name, sidecar)
        account.unfinished += catalog.settle(made, proof["level"], ports.clock.now())
    if made is None:
        raise InterruptedBySignal("stopped by a signal; what had been begun was undone")
    return catalog.find(str(made.path)), account


def check_rows(application: Application, previous: Optional[Backup], account: Account) -> None:
    """Raises CaptureError when a table lost more than the allowed share of its rows since the last backup."""
    if previous is None:
        return
    limit = application.profile.maximum_row_loss_percent
    for path, facts in previous.sidecar.get("databases", {}).items():
        now = account.databases.get(path, {}).get("tables", {})
        for table_name, rows_before in facts.get("tables", {}).items():
            rows_now = now.get(table_name, 0)
            if rows_before >= SMALL_TABLE_ROWS and rows_now < rows_before * (1 - limit / 100):
                raise CaptureError(
                    f"table {table_name} had {rows_before} rows in {previous.path.name} and has {rows_now} now",
                    path=Path(application.root) / path,
                    hint="find out why; if it is right, back up once with --allow-row-loss",
                )


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A private directory for copies of databases, on the disk whose space was checked."""
    path = Path(tempfile.mkdtemp(prefix=f".tradekeep-scratch-{os.getpid()}-", dir=directory))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


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


def _made_lines(made: Backup, account: Account, plan: BackupPlan) -> tuple[str, ...]:
    lines = [f"warning: {text}" for text in account.warnings + account.unfinished]
    lines += [f"not there yet: {path}" for path in plan.missing]
    proof = made.sidecar.get("verified", {})
    lines.append(
        f"{made.path}: {account.files} files, {human_bytes(account.bytes)} in {human_bytes(made.size)}, "
        f"verified ({proof.get('level')}), {made.sidecar.get('seconds', 0):.1f} s"
    )
    return tuple(lines)
