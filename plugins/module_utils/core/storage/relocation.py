# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Moving a backup to another directory: whole in the new one before it leaves the old one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ..errors import ArchiveError
from ..host.files import atomic_write, fsync_directory, os_errors
from ..host.filesystem.identity import with_privileges
from ..signals import answer
from .backup import Backup, read_backup, read_small
from .local import LocalCatalog
from .names import sidecars_of
from .placing import give_name

_CHUNK = 1 << 20


@with_privileges
def taken_by_another(backup: Backup, target: LocalCatalog) -> bool:
    """Whether the name of a backup is that of another one in the new directory."""
    final = target.directory / backup.name
    if not os.path.lexists(final) or os.path.samestat(os.lstat(final), os.lstat(backup.path)):
        return False
    return backup.sha256 is None or read_backup(final, target.prefix).sha256 != backup.sha256


def on_one_filesystem(source: Path, target: Path) -> bool:
    """Whether a move between two directories, of which the second may be missing yet, copies nothing."""
    while not target.exists():
        target = target.parent
    return not source.exists() or source.stat().st_dev == target.stat().st_dev


@with_privileges
def move_backup(backup: Backup, target: LocalCatalog, sidecar: Mapping[str, Any]) -> None:
    """Move an archive and its sidecars. sidecar: what its ``.json`` says from now on; empty to leave it as it is."""
    target.check_directory()
    final = target.directory / backup.name
    checksum, facts = sidecars_of(backup.name)
    if not os.path.lexists(final):
        temporary = target.temporary(backup.name)
        try:
            _bring(backup, temporary)
            text = (json.dumps(dict(sidecar), indent=1, sort_keys=True) + "\n").encode() if sidecar else None
            _write_beside(backup, target.directory / facts, text)
            _write_beside(backup, target.directory / checksum, None)
            with os_errors(final):
                give_name(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)
    with os_errors(backup.path):
        for name in (backup.name, checksum, facts):
            with contextlib.suppress(FileNotFoundError):
                backup.path.with_name(name).unlink()
        fsync_directory(backup.path.parent)


def _bring(backup: Backup, temporary: Path) -> None:
    """The archive under its temporary name: a second name for it; from another filesystem a copy that is compared."""
    with os_errors(temporary):
        try:
            os.link(backup.path, temporary, follow_symlinks=False)
            return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        hasher = hashlib.sha256()
        source = os.open(backup.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(source, "rb", buffering=0) as stream:
            place = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(place, "wb") as copy:
                while chunk := stream.read(_CHUNK):
                    answer()
                    hasher.update(chunk)
                    copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
    if backup.sha256 not in (None, hasher.hexdigest()):
        raise ArchiveError(
            "the file is not what its .sha256 says: damaged or exchanged, so it stays where it is",
            path=backup.path,
            hint="look at it with tradekeep verify, and move it away",
        )


def _write_beside(backup: Backup, path: Path, text: Optional[bytes]) -> None:
    if text is None:
        try:
            text = read_small(backup.path.with_name(path.name))
        except FileNotFoundError:
            return
    atomic_write(path, text)
