# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Writing what was found into an archive, each file captured in the way its kind needs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

from ..archive.manifest import MANIFEST_NAME, Entry
from ..archive.safety import storable_mode
from ..archive.tar_writer import ArchiveWriter
from ..errors import CaptureError, ChangedWhileReadError, CheckError
from ..host.ownership import name_of_gid, name_of_uid
from ..kinds import kind_named
from ..kinds.base import CaptureContext, Captured
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..ports import Progress
from .scan import Found


@dataclass
class Account:
    """What went into an archive, gathered on the way."""

    files: int = 0
    bytes: int = 0
    components: dict[str, dict[str, int]] = field(default_factory=dict)
    databases: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Count one entry."""
        if entry.type != "file":
            return
        self.files += 1
        self.bytes += entry.size
        share = self.components.setdefault(entry.component or "", {"files": 0, "bytes": 0})
        share["files"] += 1
        share["bytes"] += entry.size
        if entry.kind == "sqlite":
            self.databases[entry.path] = {"tables": entry.facts.get("tables", {})}
        self.warnings.extend(f"{entry.path}: {text}" for text in entry.facts.get("warnings", ()))


def assemble(
    writer: ArchiveWriter,
    things: Iterable[Found],
    context: CaptureContext,
    progress: Progress,
    *,
    copy_first: frozenset[str] = frozenset(),
    lenient: bool = False,
) -> Account:
    """Write every thing into the archive.

    copy_first: files to be copied before they are read, since they changed under an earlier attempt.
    lenient: a damaged database is kept as it is, byte for byte, instead of failing (for safety copies).
    Raises ChangedWhileReadError (with the path), CaptureError, CheckError.
    """
    account = Account()
    # Asked once for each account, as a look-up reads the system's list anew.
    owner_name, group_name = lru_cache(maxsize=None)(name_of_uid), lru_cache(maxsize=None)(name_of_gid)
    for found in things:
        entry = _entry(found, owner_name(found.uid), group_name(found.gid))
        if found.path == MANIFEST_NAME:
            account.warnings.append(f"{found.path}: has the name of the archive's own manifest, left out")
            continue
        if entry.mode != found.mode:
            account.warnings.append(f"{found.path}: mode {found.mode:04o} is kept as {entry.mode:04o}")
        if found.type == "directory":
            writer.add_directory(entry)
        elif found.type == "symlink":
            writer.add_symlink(entry._replace(target=os.readlink(found.absolute)))
        elif found.type == "special":
            account.warnings.append(f"{found.path}: a socket, FIFO or device, left out")
        else:
            written = _add_file(writer, found, entry, context, found.path in copy_first, lenient, account)
            if written is not None:
                account.add(written)
            progress.advance(found.size)
    return account


def _entry(found: Found, owner: str, group: str) -> Entry:
    return Entry(
        path=found.path,
        type=found.type,
        size=0,
        mode=storable_mode(found.mode, found.type),
        owner=owner,
        group=group,
        mtime_ns=found.mtime_ns,
        component=found.component,
        kind=found.kind,
    )


def _add_file(
    writer: ArchiveWriter,
    found: Found,
    entry: Entry,
    context: CaptureContext,
    copy_first: bool,
    lenient: bool,
    account: Account,
) -> Optional[Entry]:
    """The entry as written; None when the bot removed the file (a rotated log) before it was read."""
    try:
        return _capture(writer, found, entry, replace(context, copy_first=True) if copy_first else context)
    except (CaptureError, CheckError) as error:
        if not os.path.lexists(found.absolute) and not found.required:
            account.warnings.append(f"{found.path}: removed by the application while the backup ran")
            return None
        if not lenient or found.kind == "file" or isinstance(error, ChangedWhileReadError):
            raise
        account.warnings.append(f"{found.path}: kept byte for byte, since {error.message}")
        return _add_raw(writer, found, entry, context, account)


def _capture(writer: ArchiveWriter, found: Found, entry: Entry, context: CaptureContext) -> Entry:
    """One file through its kind. The source is confirmed unchanged after its last byte was read."""
    captured: Captured
    with kind_named(entry.kind or "file").capture(Path(found.absolute), context) as captured:
        with captured.open() as stream:
            written = writer.add_file(entry._replace(facts=captured.facts), stream, captured.size)
        captured.confirm()
    return written


def _add_raw(writer: ArchiveWriter, found: Found, entry: Entry, context: CaptureContext, account: Account) -> Entry:
    """A damaged database and its companions as plain files, all that can be done for it."""
    for suffix in SIDECAR_SUFFIXES:
        if os.path.lexists(found.absolute + suffix):
            status = os.lstat(found.absolute + suffix)
            sidecar = found._replace(path=found.path + suffix, absolute=found.absolute + suffix, kind="file")
            described = entry._replace(path=sidecar.path, kind="file", mtime_ns=status.st_mtime_ns)
            account.add(_capture(writer, sidecar, described, context))
    return _capture(writer, found._replace(kind="file"), entry._replace(kind="file"), context)
