# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""One operation of an application at a time. The kernel's lock dies with its process, so it is never stale."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Callable

from ..errors import LockBusyError
from ..host.files import make_private_directory, os_errors, write_all
from ..host.filesystem.identity import privileged, with_privileges
from ..ports import Clock

_POLL_SECONDS = 0.5
_held: set[str] = set()
"""The lock files that this process holds."""


@contextlib.contextmanager
def application_lock(
    state_dir: Path,
    *,
    operation: str,
    clock: Clock,
    wait_seconds: float = 0.0,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[None]:
    """Hold the application's lock inside the block.

    While another run holds it, waits up to ``wait_seconds`` (saying once who holds it), then raises LockBusyError.
    """
    path = Path(state_dir) / "lock"
    with privileged(), os_errors(path):
        make_private_directory(state_dir)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, clock, wait_seconds, note, path)
        with os_errors(path):
            _describe(descriptor, {"pid": os.getpid(), "operation": operation, "since": clock.now().isoformat()})
        _held.add(str(path))
        try:
            yield
        finally:
            _held.discard(str(path))
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@with_privileges
def held_by_another(state_dir: Path) -> bool:
    """Whether another process is at work on the application now; writes nothing."""
    path = Path(state_dir) / "lock"
    if str(path) in _held:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


@with_privileges
def lock_holder(state_dir: Path) -> str:
    """Who holds the lock, in words, as far as the lock file tells."""
    try:
        holder = json.loads((Path(state_dir) / "lock").read_text("utf-8"))
        since = datetime.fromisoformat(holder["since"]).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"{holder['operation']} (process {holder['pid']}) since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"


def _acquire(descriptor: int, clock: Clock, wait_seconds: float, note: Callable[[str], None], path: Path) -> None:
    deadline = clock.monotonic() + wait_seconds
    told = False
    while not _try_lock(descriptor):
        holder = lock_holder(path.parent)
        if clock.monotonic() >= deadline:
            raise LockBusyError(f"the lock is held by {holder}", path=path, hint="wait for it to end")
        if not told:
            note(f"waiting for {holder}")
            told = True
        clock.sleep(_POLL_SECONDS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe(descriptor: int, holder: dict[str, Any]) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    with contextlib.suppress(OSError):  # a full disk must not stop a prune that would free it
        write_all(descriptor, json.dumps(holder).encode())
