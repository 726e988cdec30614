# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The digest of a live database's content, to be compared with that of a backup: its WAL belongs to it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from ..application import Application
from ..errors import CaptureError, CheckError
from ..host.account import owner_of
from ..host.filesystem.scratch import scratch_directory
from ..host.worker import needs_worker, run_worker, worker_account
from ..kinds import kind_named
from ..kinds.base import CaptureContext
from ..ports import Ports
from .check_ahead import scratch_place
from .restore_plan import DatabaseDigest, digest_of


def database_digest(application: Application, ports: Ports) -> DatabaseDigest:
    """A function that captures a live database into a private place that is gone afterwards, for its digest.

    It is read in a process of the owner's account.
    """
    reads_as = worker_account(owner_of(application))

    def captured(live: str) -> Optional[str]:
        with scratch_directory(scratch_place(application, reads_as), "compare", account=reads_as) as scratch:

            def capture() -> Optional[str]:
                return _digest_of_capture(live, scratch, ports)

            if not needs_worker(reads_as, ports.workers):
                return capture()
            found = run_worker(lambda _outlet, _news: capture(), account=reads_as, progress=ports.progress)
            return None if found is None else str(found)

    return captured


def _digest_of_capture(live: str, scratch: Path, ports: Ports) -> Optional[str]:
    context = CaptureContext(scratch=scratch, clock=ports.clock, deadline_seconds=30.0)
    try:
        with kind_named("sqlite").capture(Path(live), context) as capture, capture.open() as stream:
            return digest_of(stream)
    except (CaptureError, CheckError):
        return None
