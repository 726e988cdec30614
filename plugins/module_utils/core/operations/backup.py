# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Making a backup: plan, capture, verify, and only then give it its name."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Optional

from ..application import Application, CheckLevel, Encryption, Tier
from ..archive.container import create_container
from ..archive.manifest import Header
from ..archive.tar_writer import ArchiveWriter
from ..errors import CaptureError, ChangedWhileReadError, CheckError, ConfigurationError, SpaceError
from ..host.files import make_private_directory, space
from ..kinds.base import CaptureContext
from ..ports import Ports
from ..storage.local import Backup, LocalCatalog
from ..storage.names import backup_name, check_name
from ..transaction.exchange import refuse_pending
from ..transaction.lock import application_lock
from ..version import VERSION
from .assemble import Account, assemble
from .leftovers import sweep_state
from .outcome import Outcome
from .prove import observe, prove_sealed
from .scan import Found, check_root, expected_paths, scan
from .text import human_bytes, table

ATTEMPTS = 4
"""How often an archive is begun again because a large file changed under the reader."""
READ_ATTEMPTS = 20
"""How often a document that is torn while it is read is tried again."""
LENIENT_ATTEMPTS = 2
ASSUMED_RATIO = 0.5
"""Archive bytes per data byte before there is an earlier backup to learn from (the seeds' own figure is 0.2)."""
SMALL_TABLE_ROWS = 20
"""Tables this small may lose any share of their rows without it meaning anything."""


@dataclass(frozen=True)
class BackupPlan:
    """What a backup would capture."""

    tier: Tier
    name: Optional[str]
    encryption: Encryption
    directory: Path
    files: int
    bytes: int
    largest_database: int
    components: dict[str, dict[str, int]]
    missing: tuple[str, ...]
    excluded: tuple[str, ...]
    previous: Optional[Backup]
    space_needed: int
    paths: tuple[tuple[str, int, str], ...] = field(default=(), repr=False)
    """Path, size and kind of each file; only filled for showing."""

    def as_dict(self) -> dict[str, Any]:
        """The plan as ``--json`` shows it."""
        return {
            "tier": self.tier.value,
            "name": self.name,
            "encrypted": self.encryption.configured,
            "directory": str(self.directory),
            "files": self.files,
            "bytes": self.bytes,
            "components": self.components,
            "missing": list(self.missing),
            "excluded": list(self.excluded),
            "space_needed": self.space_needed,
            "entries": [{"path": path, "bytes": size, "kind": kind} for path, size, kind in self.paths],
        }


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
    request = _request(application, ports, tier, name, encrypt, output)
    if dry_run:
        plan = _survey(application, scan(application), request, list_paths=True)
        check_space(plan)
        return Outcome(changed=True, record={"backup": None, "plan": plan.as_dict()}, lines=_plan_lines(plan))
    lock = application_lock(
        Path(application.application_state_dir),
        operation="backup",
        clock=ports.clock,
        wait_seconds=600.0,
        note=ports.progress.note,
    )
    with _as_failure(), lock:
        plan = plan_backup(application, ports, tier=tier, name=name, encrypt=encrypt, output=output)
        made, account = make_backup(
            application, ports, plan, scan_again=lambda: scan(application), allow_row_loss=allow_row_loss
        )
    record = {"backup": made.as_dict(), "warnings": account.warnings, "missing": list(plan.missing)}
    return Outcome(changed=True, record=record, lines=_made_lines(made, account, plan))


@contextmanager
def _as_failure() -> Iterator[None]:
    """Damage found while backing up is no mere finding: the backup was not made."""
    try:
        yield
    except CheckError as error:
        hint = error.hint or "restore it: tradekeep restore latest --path"
        raise CaptureError(error.message, path=error.path, hint=hint) from error


def plan_backup(
    application: Application,
    ports: Ports,
    *,
    tier: str = "manual",
    name: Optional[str] = None,
    encrypt: Optional[bool] = None,
    output: Optional[str] = None,
) -> BackupPlan:
    """Everything that can be known without opening a file. Writes nothing.

    Raises ConfigurationError and CaptureError where the backup itself would.
    """
    request = _request(application, ports, tier, name, encrypt, output)
    return _survey(application, scan(application), request, list_paths=False)


def _request(
    application: Application,
    ports: Ports,
    tier: str,
    name: Optional[str],
    encrypt: Optional[bool],
    output: Optional[str],
) -> BackupPlan:
    """What is wanted, checked as far as it can be without looking through the tree."""
    if name is not None:
        check_name(name)
    check_root(application)
    refuse_pending(Path(application.application_state_dir))
    chosen_tier = _tier(tier)
    return BackupPlan(
        tier=chosen_tier,
        name=name,
        encryption=choose_encryption(application, chosen_tier, encrypt),
        directory=_directory(application, output),
        files=0,
        bytes=0,
        largest_database=0,
        components={},
        missing=(),
        excluded=tuple(pattern for component in application.profile.components for pattern in component.exclude),
        previous=baseline(application, LocalCatalog(application, ports.clock)),
        space_needed=0,
    )


def choose_encryption(application: Application, tier: Tier, wanted: Optional[bool]) -> Encryption:
    """Whether and how to encrypt. Raises ConfigurationError when it is required and cannot be done."""
    required = [item.name for item in application.profile.components if item.backup and item.require_encryption]
    scheduled = any(item.encrypt for item in application.profile.schedules if item.tier is tier)
    if wanted is False and required:
        raise ConfigurationError(
            f"component {required[0]} must be encrypted",
            path=application.config_file,
            hint="leave out the refusal to encrypt",
        )
    if not (wanted or required or (scheduled and wanted is None)):
        return Encryption()
    if not application.encryption.configured:
        raise ConfigurationError(
            "an encrypted backup is wanted, but nothing to encrypt with is configured",
            path=application.config_file,
            hint="set backup_gpg_recipients or backup_passphrase_file and run the site playbook",
        )
    return application.encryption


def check_space(plan: BackupPlan) -> None:
    """Raises SpaceError unless the archive and the largest scratch copy fit."""
    free = space(plan.directory)
    if free.bytes_free < plan.space_needed:
        raise SpaceError(
            f"{human_bytes(plan.space_needed)} needed, {human_bytes(free.bytes_free)} free",
            path=plan.directory,
            hint="free some space, run 'tradekeep prune', or use --output",
        )
    if free.inodes_free is not None and free.inodes_free < 32:
        raise SpaceError("no inodes left", path=plan.directory, hint="remove some small files")


def make_backup(
    application: Application,
    ports: Ports,
    plan: BackupPlan,
    *,
    scan_again: Callable[[], Iterable[Found]],
    allow_row_loss: bool = False,
    lenient: bool = False,
) -> tuple[Backup, Account]:
    """Capture, verify, publish. The caller holds the application's lock.

    scan_again: gives the things to capture; called once for each attempt. Nothing is left behind on failure.
    """
    make_private_directory(plan.directory)
    catalog = LocalCatalog(application, ports.clock, directory=plan.directory)
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
    things: Iterable[Found],
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
    ) as container:
        writer = ArchiveWriter(container.stream, header)
        account = assemble(writer, things, context, ports.progress, copy_first=copy_first, lenient=lenient)
        totals = writer.finish()
    ports.progress.finish()
    if not allow_row_loss and not lenient:
        check_rows(application, plan.previous, account)
    ports.step("verify")
    proof = prove_sealed(temporary, container, totals, plan.encryption, ports)
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
        "databases": account.databases,
        "missing": list(plan.missing),
        "warnings": account.warnings,
        "check_level": level.value,
        "verified": proof,
        "seconds": round(ports.clock.monotonic() - started, 3),
    }
    ports.step("publish")
    made = catalog.publish(temporary, final_name, sidecar)
    catalog.record_verified(made, proof["level"], ports.clock.now(), True, ())
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


def _tier(tier: str) -> Tier:
    try:
        return Tier(tier)
    except ValueError:
        raise ConfigurationError(
            "no such tier", path=tier, hint=f"one of {', '.join(item.value for item in Tier)}"
        ) from None


def _directory(application: Application, output: Optional[str]) -> Path:
    directory = Path(output or application.backup_dir)
    if not directory.is_absolute():
        directory = Path.cwd() / directory
    real = Path(os.path.realpath(directory))
    root = Path(os.path.realpath(application.root))
    for component in application.profile.components:
        for path in component.paths:
            part = root / path
            if real == part or part in real.parents:
                raise ConfigurationError(
                    f"the backup directory lies inside the data (component {component.name})",
                    path=directory,
                    hint="choose a directory outside, better on another disk",
                )
    ancestor = directory
    while not ancestor.exists():
        ancestor = ancestor.parent
    if not ancestor.is_dir():
        raise ConfigurationError("not a directory", path=ancestor, hint="choose another backup directory")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise ConfigurationError(
            "the backup directory is not writable", path=directory, hint="run as its owner or mend its mode"
        )
    return directory


def baseline(application: Application, catalog: LocalCatalog) -> Optional[Backup]:
    """The newest good backup, unless the data was taken back in time since: then less data than it held is right."""
    newest = next((item for item in catalog.list() if item.good and not item.is_safety), None)
    if newest is None:
        return None
    restored = Path(application.application_state_dir) / "restored.json"
    try:
        restored_at = datetime.fromisoformat(json.loads(restored.read_text(encoding="utf-8"))["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return newest
    return newest if newest.moment > restored_at else None


def _survey(application: Application, things: Iterable[Found], plan: BackupPlan, list_paths: bool) -> BackupPlan:
    files = total = largest = 0
    components: dict[str, dict[str, int]] = {}
    paths: list[tuple[str, int, str]] = []
    held = set(plan.previous.sidecar.get("databases", {})) if plan.previous else set()
    wanted = expected_paths(application)
    seen: set[str] = set()
    for found in things:
        if found.type != "file":
            continue
        if found.path in held or found.path in wanted:
            seen.add(found.path)
        if found.size == 0 and found.kind == "sqlite" and (found.required or found.path in held):
            raise CaptureError(
                "the database is empty (0 bytes)", path=found.absolute, hint="restore it, or move it away"
            )
        files += 1
        total += found.size
        if found.kind == "sqlite":
            largest = max(largest, found.size)
        share = components.setdefault(found.component, {"files": 0, "bytes": 0})
        share["files"] += 1
        share["bytes"] += found.size
        if list_paths:
            paths.append((found.path, found.size, found.kind or "file"))
    missing = tuple(sorted(path for path in wanted if path not in seen))
    _refuse_lost(application, plan.previous, sorted(held - seen), missing)
    ratio = ASSUMED_RATIO
    if plan.previous and plan.previous.sidecar.get("bytes"):
        ratio = min(1.0, 1.25 * plan.previous.size / plan.previous.sidecar["bytes"])
    return replace(
        plan,
        files=files,
        bytes=total,
        largest_database=largest,
        components=components,
        missing=missing,
        space_needed=int(total * ratio) + largest + (1 << 20),
        paths=tuple(paths),
    )


def _refuse_lost(
    application: Application, previous: Optional[Backup], lost_databases: list[str], missing: tuple[str, ...]
) -> None:
    """What an earlier backup held and is gone now is a loss, not a fresh tree."""
    if previous is None:
        return
    still_missing = set(previous.sidecar.get("missing", ()))
    for path in [*lost_databases, *(item for item in missing if item not in still_missing)]:
        raise CaptureError(
            f"{previous.path.name} held it, and it is missing now",
            path=Path(application.root) / path,
            hint=f"get it back with: tradekeep restore latest --path '{path}'",
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
    lines = [f"warning: {text}" for text in account.warnings]
    lines += [f"not there yet: {path}" for path in plan.missing]
    proof = made.sidecar.get("verified", {})
    lines.append(
        f"{made.path}: {account.files} files, {human_bytes(account.bytes)} in {human_bytes(made.size)}, "
        f"verified ({proof.get('level')}), {made.sidecar.get('seconds', 0):.1f} s"
    )
    return tuple(lines)
