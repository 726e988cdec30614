# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Giving a finished archive its name, in steps that each leave a whole state behind."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ArchiveError, UnsafePathError
from ..host.files import fsync_directory, os_errors, write_all
from .names import TEMPORARY_PREFIX

UNSUPPORTED = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What a filesystem without links, or without modes, answers: exFAT, some network mounts."""


def check_finished(temporary: Path, sidecar: Mapping[str, Any]) -> None:
    """Raises ArchiveError unless the archive is whole and its verification is on record."""
    proof = sidecar.get("verified")
    if not isinstance(proof, dict) or not proof or proof.get("ok") is False:
        raise ArchiveError("was not verified, so it gets no name", path=temporary)
    if not re.fullmatch("[0-9a-f]{64}", str(sidecar.get("sha256"))):
        raise ArchiveError("has no checksum, so it gets no name", path=temporary)
    with os_errors(temporary):
        size = temporary.lstat().st_size
    if size == 0 or sidecar.get("size") != size:
        raise ArchiveError(f"has {size} bytes, {sidecar.get('size')} were written", path=temporary)


def fsync_file(path: Path) -> None:
    """Have the content of a file on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_name(temporary: Path, final: Path, *, claim: bool = False) -> Path:
    """Rename without replacing: a hard link fails where the name exists; raises FileExistsError.

    claim: where the filesystem has no hard links, make the name first as an empty file, which fails as well where it
    exists. For sidecars: an archive is not to be seen before it is whole, and the name of its sidecar is claimed.
    """
    try:
        os.link(temporary, final, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        _rename_to_new(temporary, final, claim=claim)
    try:
        fsync_directory(final.parent)
    except BaseException:
        # A name that a power loss may take away is none, and a failure leaves everything as it was.
        final.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
        fsync_directory(final.parent)
    return final


def write_new(path: Path, data: bytes, temporary: Path) -> None:
    """Write a whole, synced file under a name that nobody has; raises FileExistsError."""
    try:
        _write_synced(temporary, data)
        give_name(temporary, path, claim=True)
    finally:
        temporary.unlink(missing_ok=True)


def _rename_to_new(temporary: Path, final: Path, *, claim: bool) -> None:
    if claim:
        os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    elif os.path.lexists(final):
        raise FileExistsError(str(final))
    try:
        temporary.rename(final)
    except BaseException:
        if claim:
            final.unlink(missing_ok=True)
        raise


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_mode(path: Path, mode: int) -> None:
    """Give a mode, where the filesystem has modes; elsewhere how it is mounted says who may read it."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def point_link(link: Path, target: str) -> bool:
    """Make a relative symlink, replacing an older one in one step; a real file of that name is left alone.

    Returns whether the filesystem has symlinks.
    """
    if link.is_symlink() and os.readlink(link) == target:
        return True
    if os.path.lexists(link) and not link.is_symlink():
        raise UnsafePathError("is not a symlink", path=link, hint="move it away")
    temporary = link.with_name(f"{TEMPORARY_PREFIX}{link.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        temporary.symlink_to(target)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    temporary.replace(link)
    fsync_directory(link.parent)
    return True
