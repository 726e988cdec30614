# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Writing one archive of what a reader captures, and reading it back, before it gets its name.

Where the engine is root beside an owner of other rights, four processes share the work, each with what it needs: the
reader and those that read the archive back have the owner's account; the writer is root without any capability, and
gets the archive as plain bytes; who started them only learns from them what they found.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Union

from ..application import Application, CheckLevel
from ..archive.container import ContainerWriter, Readers, create_container
from ..archive.manifest import Header, Totals
from ..archive.telling import Span
from ..errors import TradekeepError
from ..host.confinement import drop_capabilities
from ..host.filesystem.identity import stay_privileged
from ..host.filesystem.scratch import scratch_directory, shared_place
from ..host.worker import Outlet, Worker, worker_account
from ..ports import Ports
from ..storage.maker import established
from ..storage.names import backup_name
from ..storage.parts import scratch_purpose
from ..version import VERSION
from .assemble import Account as Summary
from .backup_plan import BackupPlan
from .prove import observe, prove_sealed, start_prover
from .tree_reader import Order, TreeReader, result_of

READ_ATTEMPTS = 20
"""How often a document that is torn while it is read is tried again."""
LENIENT_ATTEMPTS = 2
FOLLOWED_BYTES, FOLLOWED_FILES = 64 << 20, 5000
"""From here on it pays to have a second process read the archive back while it is written."""


@dataclass(frozen=True)
class Job:
    """One backup in the making. lenient: damaged databases are kept byte for byte."""

    application: Application
    ports: Ports
    plan: BackupPlan
    reader: TreeReader
    moment: datetime
    lenient: bool

    @property
    def final_name(self) -> str:
        """What the archive is to be called."""
        profile, plan = self.application.profile, self.plan
        return backup_name(
            profile.archive_prefix, self.moment, plan.name, profile.compression, plan.encryption.configured
        )

    @property
    def level(self) -> CheckLevel:
        """How thoroughly databases are checked."""
        profile = self.application.profile
        return CheckLevel.FULL if self.plan.tier in profile.full_check_tiers else profile.check_level

    @property
    def header(self) -> Header:
        """What the archive says of itself."""
        profile, plan = self.application.profile, self.plan
        return Header(
            application=self.application.name,
            profile=profile.name,
            prefix=profile.archive_prefix,
            created=self.moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            tier=plan.tier.value,
            name=plan.name,
            tool=f"tradekeep {VERSION}",
            host=socket.gethostname(),
            root=str(self.application.root),
            compression=profile.compression,
            encrypted=plan.encryption.configured,
            check_level=self.level.value,
            missing=plan.missing,
            excluded=plan.excluded,
        )


@dataclass(frozen=True)
class Written:
    """An archive that lies on the disk, whole and read back. seconds: from the first byte on."""

    summary: Summary
    totals: Totals
    sha256: str
    size: int
    compressor: str
    proof: dict[str, Any]
    seconds: float


@contextmanager
def scratch_of(job: Job) -> Iterator[Path]:
    """A private directory for copies of databases, of the account that makes them.

    Beside the archive, on the disk whose space was checked, where that account can reach it.
    """
    other = worker_account(job.reader.account)
    if other is None:
        parent, purpose = job.plan.directory, scratch_purpose(established(job.application))
    else:
        parent, purpose = shared_place(job.application.application_state_dir, other), "capture"
    with scratch_directory(parent, purpose, account=other) as scratch:
        yield scratch


def write_archive(job: Job, temporary: Path, scratch: Path, copy_first: frozenset[str]) -> Written:
    """Write it under its temporary name. Raises ChangedWhileReadError (with the path), CaptureError, ArchiveError."""
    plan, ports = job.plan, job.ports
    order = Order(
        job.header,
        scratch,
        job.level,
        LENIENT_ATTEMPTS if job.lenient else READ_ATTEMPTS,
        copy_first,
        job.lenient,
    )
    ports.progress.start("capturing", plan.bytes)
    other = worker_account(job.reader.account)
    if other is None:
        return _written(job, order, temporary, ports, Readers(observe=ports.workers))
    readers = Readers(other, observe=True, forked=drop_capabilities)

    def write(outlet: Outlet, _news: int) -> dict[str, Any]:
        stay_privileged()
        return _as_said(_written(job, order, temporary, replace(ports, progress=outlet), readers))

    with Worker(write, account=None, progress=ports.progress, keep=job.reader.descriptors, memory=False) as writer:
        return _of_said(writer.finish())


def _written(job: Job, order: Order, temporary: Path, ports: Ports, readers: Readers) -> Written:
    plan = job.plan
    started = ports.clock.monotonic()
    prover = None if plan.encryption.recipients else start_prover(ports, readers.account)
    try:
        with create_container(
            temporary,
            compression=job.application.profile.compression,
            encryption=plan.encryption,
            runner=ports.runner,
            observer=observe if plan.encryption.recipients else None,
            follow=plan.bytes >= FOLLOWED_BYTES or plan.files >= FOLLOWED_FILES,
            readers=readers,
        ) as container:
            summary, totals = job.reader.capture(replace(order, told=container.told), _Sink(container))
        ports.progress.finish()
        ports.step("verify")
        proof = prove_sealed(temporary, container, totals, plan.encryption, ports, prover)
    finally:
        if prover is not None:
            prover.end()
    seconds = round(ports.clock.monotonic() - started, 3)
    return Written(summary, totals, container.sha256, container.size, container.compressor, proof, seconds)


class _Sink:
    """Passes a captured archive on to its container."""

    def __init__(self, container: ContainerWriter) -> None:
        self._container = container

    def write(self, data: bytes, /) -> None:
        """See Sink."""
        self._container.stream.write(data)

    def tell(self, what: Union[bytes, Span]) -> None:
        """See Sink."""
        self._container.tell(what)


def _as_said(written: Written) -> dict[str, Any]:
    return {**asdict(written), "summary": asdict(written.summary), "totals": asdict(written.totals)}


def _of_said(said: Any) -> Written:
    try:
        summary, totals = result_of(said)
        return Written(
            summary,
            totals,
            str(said["sha256"]),
            int(said["size"]),
            str(said["compressor"]),
            dict(said["proof"]),
            float(said["seconds"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TradekeepError(f"the process that writes the archive gives no account of it: {error}") from None
