# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The proof that an archive as it lies on the disk holds what was captured, before it gets its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..application import Encryption
from ..archive.container import ContainerWriter, open_container
from ..archive.follower import Followed
from ..archive.manifest import Totals
from ..archive.members import ReadReport
from ..archive.tar_reader import Readable, read_archive
from ..errors import ArchiveError
from ..ports import Ports
from .reading import CountingSink, checksum


def observe(stream: Readable) -> ReadReport:
    """Check the plain archive while it is written, for what this host cannot decrypt afterwards."""
    return read_archive(stream)


def prove_sealed(
    sealed: Path, container: ContainerWriter, totals: Totals, encryption: Encryption, ports: Ports
) -> dict[str, Any]:
    """Read the file back from the disk and compare it with what was written. Raises ArchiveError when it differs.

    To a public key: the archive was checked as a stream on its way into gpg, and the encrypted file by its digest. A
    large archive was read back by another process while it was written; that these are the bytes which lie on the disk
    now that all is synced, their digest proves.
    """
    followed = container.followed
    in_passing = encryption.recipients or followed is not None
    ports.progress.start("verifying", container.size if in_passing else totals.bytes)
    if in_passing:
        report = container.observed if followed is None else followed
        digest = checksum(sealed, ports.progress)
    else:
        with open_container(sealed, runner=ports.runner, passphrase_file=encryption.passphrase_file) as stream:
            report = read_archive(stream, CountingSink(ports.progress))
        digest = stream.sha256 or ""
    ports.progress.finish()
    if digest != container.sha256 or (followed is not None and followed.sha256 != digest):
        raise ArchiveError("what lies on the disk is not what was written", path=sealed, hint="check the disk")
    if not isinstance(report, (ReadReport, Followed)) or report.manifest_sha256 != totals.manifest_sha256:
        raise ArchiveError("the manifest read back is not the one written", path=sealed, hint="check memory and disk")
    return {"level": "stream" if encryption.recipients else "entries", "entries": report.entries, "bytes": report.bytes}
