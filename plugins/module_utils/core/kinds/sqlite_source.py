# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Reading a live SQLite database without leaving a trace.

The reader holds SQLite's own shared lock on the file. No other connection can then delete the
sidecars, roll back a journal or switch the journal mode, so what is decided here stays true until the end:

- ``-wal`` and ``-shm`` both exist: a read-only connection that may not write to the ``-shm`` either.
- a WAL database without ``-wal``: all is in the main file; opened as immutable, which creates no sidecar. Should
  a writer appear meanwhile it cannot remove its ``-wal`` again, and the copy is thrown away.
- frames in a ``-wal`` without ``-shm``, or a hot journal: the leftovers of a crash. Recovering them is left to
  the application: the files are copied, and SQLite recovers the copy.
- a rollback journal: a read-only connection, whose own shared lock keeps writers out while pages are copied.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from typing import Optional

from ..errors import CaptureError, ChangedWhileReadError
from .base import CaptureContext, Signature
from .reading import copy_bytes, open_regular, signature, signature_of, what_it_is
from .sqlite_database import (
    Deadline,
    connected,
    journal_mode_of,
    locked_error,
    require_database,
    translated,
)
from .sqlite_holder import PENDING_BYTE, SHARED_FIRST, SHARED_SIZE, Holder

SIDECAR_SUFFIXES = ("-wal", "-shm", "-journal")

_WAL_HEADER = 32


class Access(Enum):
    """How the source is opened."""

    LIVE = "mode=ro&readonly_shm=1"
    IMMUTABLE = "mode=ro&immutable=1"
    ROLLBACK = "mode=ro"
    REPLICA = "mode=rw"


def sidecar(path: Path, suffix: str) -> Path:
    """The path of a sidecar."""
    return path.with_name(path.name + suffix)


def unsafe_sidecars(path: Path) -> dict[Path, str]:
    """Sidecars that must not be given to SQLite, and what they are: it waits for the writer of a FIFO, follows
    symlinks, and as root gives a file that it opens as a sidecar to the owner of the database, whoever else has a name
    for it."""
    found = {}
    for suffix in SIDECAR_SUFFIXES:
        beside = sidecar(path, suffix)
        try:
            status = os.lstat(beside)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode):
            found[beside] = what_it_is(status.st_mode)
        elif status.st_nlink != 1:
            found[beside] = f"a file with {status.st_nlink} names"
    return found


def refuse_unsafe_sidecars(path: Path) -> None:
    """Before SQLite opens a database that the bot or an archive brought. Raises CaptureError that names the sidecar.

    The bot can put one there the moment after. Then the deadline holds (see ``bounded``): the process that opened it is
    killed; and where that process has the rights of the database's owner, it did nothing that the bot could not do.
    """
    for beside, what in unsafe_sidecars(path).items():
        raise CaptureError(
            f"is {what}, not a file that SQLite has made",
            path=beside,
            hint="stop the application and move it away; in the place of a WAL with several names put a copy of it",
        )


@contextmanager
def open_source(path: Path, context: CaptureContext, deadline: Deadline) -> Iterator[sqlite3.Connection]:
    """A connection with a read transaction open, whose snapshot stays until the block ends.

    Raises ChangedWhileReadError at the end when the database was replaced or came to life meanwhile.
    """
    refuse_unsafe_sidecars(path)
    descriptor = open_regular(path)
    # The lock dies with the first descriptor that this process closes: the connection must be closed before.
    try:
        require_database(path, os.pread(descriptor, 100, 0))
        if _access(path, descriptor) is not Access.ROLLBACK:
            # With a rollback journal SQLite takes this lock by itself, and could not while a writer waits for ours.
            _lock_shared(path, descriptor, deadline)
        else:
            Holder(path, descriptor, deadline).wait()
        access = _access(path, descriptor)
        before = signature(descriptor)
        with _connected(path, descriptor, access, context, deadline) as connection:
            yield connection
            _require_undisturbed(path, descriptor, access, before)
    finally:
        os.close(descriptor)


def _require_undisturbed(path: Path, descriptor: int, access: Access, before: Signature) -> None:
    """While the lock is still held: nobody took the file's place, and one at rest has stayed so."""
    at_rest = access in (Access.IMMUTABLE, Access.REPLICA)
    if _access(path, descriptor) is not access or (at_rest and signature(descriptor) != before):
        raise ChangedWhileReadError("came to life while it was read", path=path)
    if _present(path) != (before.device, before.inode):
        raise ChangedWhileReadError("was replaced while it was read", path=path)


def _lock_shared(path: Path, descriptor: int, deadline: Deadline) -> None:
    holder = Holder(path, descriptor, deadline)
    while True:
        try:
            # As SQLite does: the pending byte first, so that a waiting writer is not starved by readers.
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, PENDING_BYTE)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, SHARED_SIZE, SHARED_FIRST)
                return
            finally:
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, PENDING_BYTE)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise CaptureError(f"cannot be locked: {error.strerror}", path=path) from error
        if deadline.over:
            raise locked_error(path, deadline)
        holder.look()
        deadline.pause(0.002)


def _access(path: Path, descriptor: int) -> Access:
    if journal_mode_of(os.pread(descriptor, 100, 0)) != "wal":
        return Access.ROLLBACK
    frames = _size(sidecar(path, "-wal"))
    if frames is None:
        return Access.IMMUTABLE
    if _size(sidecar(path, "-shm")) is not None:
        return Access.LIVE
    return Access.REPLICA if frames > _WAL_HEADER else Access.IMMUTABLE


def _size(path: Path) -> Optional[int]:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return None


def _present(path: Path) -> Optional[tuple[int, int]]:
    try:
        status = signature_of(os.lstat(path))
    except FileNotFoundError:
        return None
    return status.device, status.inode


@contextmanager
def _connected(
    path: Path, descriptor: int, access: Access, context: CaptureContext, deadline: Deadline
) -> Iterator[sqlite3.Connection]:
    with ExitStack() as stack:
        if access is Access.REPLICA:
            connection = stack.enter_context(_replica(path, descriptor, context, deadline))
        else:
            connection = stack.enter_context(connected(path, access.value, deadline))
            try:
                with translated(path, deadline):
                    _begin(connection)
            except CaptureError as error:
                if "readonly" not in error.message:
                    raise
                connection.close()
                connection = stack.enter_context(_second_choice(path, descriptor, access, context, deadline))
        with translated(path, deadline):
            yield connection


@contextmanager
def _second_choice(
    path: Path, descriptor: int, access: Access, context: CaptureContext, deadline: Deadline
) -> Iterator[sqlite3.Connection]:
    """Where a strictly read-only connection is refused: a hot journal, or a ``-shm`` that needs a read mark."""
    # Closing the first connection took the lock away.
    _lock_shared(path, descriptor, deadline)
    if _access(path, descriptor) is not access:
        raise ChangedWhileReadError("came to life while it was read", path=path)
    if access is Access.ROLLBACK:
        with _replica(path, descriptor, context, deadline) as connection:
            yield connection
        return
    with connected(path, Access.ROLLBACK.value, deadline) as connection:
        with translated(path, deadline):
            _begin(connection)
        yield connection


def _begin(connection: sqlite3.Connection) -> None:
    """Pin what is read from now on. The schema is not read: it may be one that SQLite cannot read here."""
    connection.execute("BEGIN")
    connection.execute("PRAGMA schema_version").fetchone()


@contextmanager
def _replica(path: Path, descriptor: int, context: CaptureContext, deadline: Deadline) -> Iterator[sqlite3.Connection]:
    """A connection to a copy of the file and its sidecars, in which SQLite has recovered what a crash left."""
    made: list[Path] = []
    try:
        copy = copy_bytes(descriptor, os.fstat(descriptor).st_size, context)
        made += [copy, *(sidecar(copy, suffix) for suffix in SIDECAR_SUFFIXES)]
        for suffix in ("-wal", "-journal"):
            if _size(sidecar(path, suffix)) is not None:
                _copy_sidecar(sidecar(path, suffix), sidecar(copy, suffix), context)
        with connected(copy, Access.REPLICA.value, deadline) as connection:
            with translated(path, deadline):
                _begin(connection)
            yield connection
    finally:
        for leftover in made:
            if _size(leftover) is not None:
                os.unlink(leftover)


def _copy_sidecar(source: Path, target: Path, context: CaptureContext) -> None:
    descriptor = open_regular(source)
    try:
        copy = copy_bytes(descriptor, os.fstat(descriptor).st_size, context)
    finally:
        os.close(descriptor)
    os.rename(copy, target)
