# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The proof that an archive as it lies on the disk holds what was captured, before it gets its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional

from ..application import Encryption
from ..archive.container import ContainerWriter, open_container
from ..archive.follower import Followed
from ..archive.manifest import Totals
from ..archive.members import Sink
from ..archive.tar_reader import Readable, read_archive
from ..errors import ArchiveError
from ..host.account import Account
from ..host.worker import InputStream, Worker, needs_worker
from ..ports import Ports
from ..signals import answer
from .reading import CHUNK, CountingSink, checksum


def observe(stream: Readable, sink: Optional[Sink] = None) -> Followed:
    """Check a plain archive against its manifest."""
    report = read_archive(stream, sink)
    return Followed("", report.manifest_sha256 or "", report.entries, report.bytes)


def start_prover(ports: Ports, account: Optional[Account]) -> Optional[Worker]:
    """A process that will check the archive read back; None where none can be forked, and it is done in place.

    Forked ahead, while the right to give it another account is still there.
    """
    if not needs_worker(account, ports.workers):
        return None
    return Worker(
        lambda outlet, news: observe(InputStream(news), CountingSink(outlet)), account=account, progress=ports.progress
    )


def prove_sealed(
    sealed: Path,
    container: ContainerWriter,
    totals: Totals,
    encryption: Encryption,
    ports: Ports,
    prover: Optional[Worker] = None,
) -> dict[str, Any]:
    """Read the file back from the disk and compare it with what was written. Raises ArchiveError when it differs.

    To a public key: the archive was checked as a stream on its way into gpg, and the encrypted file by its digest. A
    large archive was read back by another process while it was written; that these are the bytes which lie on the disk
    now that all is synced, their digest proves. prover: the process that reads it otherwise.
    """
    followed = container.followed
    found = container.observed if followed is None else followed
    in_passing = found is not None
    ports.progress.start("verifying", container.size if in_passing else totals.bytes)
    if found is not None:
        report, digest = found, checksum(sealed, ports.progress)
    else:
        with open_container(sealed, runner=ports.runner, passphrase_file=encryption.passphrase_file) as stream:
            report = observe(stream, CountingSink(ports.progress)) if prover is None else _proven(stream, prover)
        digest = stream.sha256 or ""
    ports.progress.finish()
    if digest != container.sha256 or (followed is not None and followed.sha256 != digest):
        raise ArchiveError("what lies on the disk is not what was written", path=sealed, hint="check the disk")
    if report.manifest_sha256 != totals.manifest_sha256:
        raise ArchiveError("the manifest read back is not the one written", path=sealed, hint="check memory and disk")
    return {"level": "stream" if encryption.recipients else "entries", "entries": report.entries, "bytes": report.bytes}


def _proven(stream: Readable, prover: Worker) -> Followed:
    def feed(give: Callable[[bytes], None]) -> None:
        while chunk := stream.read(CHUNK):
            answer()
            give(chunk)

    return Followed(*prover.finish_fed(feed))
