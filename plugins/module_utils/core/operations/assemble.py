# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Writing what was found into an archive, each file captured in the way its kind needs."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional, Union

from ..archive.alike import Batch, Sealed
from ..archive.attributes import FACT, Allowance, as_fact
from ..archive.manifest import MANIFEST_NAME, Entry
from ..archive.safety import storable_mode
from ..archive.tar_writer import ArchiveWriter
from ..errors import (
    CaptureError,
    ChangedWhileReadError,
    CheckError,
    EmptyError,
    OtherContentError,
    TradekeepError,
    UnreadableError,
)
from ..host.filesystem.attributes import attributes_at
from ..host.ownership import name_of_gid, name_of_uid
from ..kinds import kind_named
from ..kinds.base import NO_FACTS, CaptureContext, Captured
from ..kinds.reading import signature_of, status_of
from ..kinds.sqlite import SIDECAR_SUFFIXES, unsafe_sidecars
from ..kinds.together import BESIDE, capture_together, has_companion
from ..patterns import Classifier
from ..ports import Progress
from .damage import fault_of_required
from .found import Found, Share, Thing, found_of, is_of_filesystem, left_out_as_too_deep
from .gather import CaptureShare, Gatherer, refuse_share
from .shrinking import Usual
from .text import counted

MOST_WARNINGS = 200
LONGEST_WARNING = 1000
MOST_DATABASE_BYTES = 4 << 20
"""Of the tables of all databases in a sidecar, and of the names of those databases."""


@dataclass
class Account:
    """What went into an archive, gathered on the way."""

    files: int = 0
    bytes: int = 0
    components: dict[str, dict[str, int]] = field(default_factory=dict)
    databases: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    """What could not be done any more once the backup was made."""
    untold: int = 0
    """Warnings beyond those that are kept."""
    as_it_is: list[str] = field(default_factory=list)
    """Damaged databases that nothing speaks for: the profile does not require them, and no backup held them good."""
    damaged: list[str] = field(default_factory=list)
    """What the profile requires and is damaged, with what is wrong."""
    drained: Usual = field(default_factory=dict)
    """Tables that are known to lose most of their rows in the course of things."""
    newly_drained: bool = False
    """Whether there is one of which that was not known."""

    def add(self, entry: Entry) -> None:
        """Count one file."""
        self.count(entry.component or "", 1, entry.data_bytes)
        if entry.kind == "sqlite":
            self.databases[entry.path] = {"tables": entry.facts.get("tables", {})}
        for text in (*entry.facts.get("warnings", ()), *entry.facts.get("notes", ())):
            self.warn(f"{entry.path}: {text}")

    def warn(self, text: str) -> None:
        """Something worth reading. The bot can have any number of odd files; those beyond the first are counted."""
        if len(self.warnings) < MOST_WARNINGS:
            self.warnings.append(text if len(text) <= LONGEST_WARNING else f"{text[:LONGEST_WARNING]}...")
            return
        self.untold += 1

    def told_warnings(self) -> list[str]:
        """The warnings, and how many more there were."""
        return self.warnings + ([f"and {counted(self.untold, 'more warning')}"] if self.untold else [])

    def told_databases(self) -> dict[str, dict[str, Any]]:
        """The databases for a sidecar, which has to be read back: tables, or whole databases, beyond its size are left
        out, those of the largest databases first."""
        sizes = {path: len(json.dumps([path, facts])) for path, facts in self.databases.items()}
        told, room = {}, MOST_DATABASE_BYTES
        for path in sorted(self.databases, key=lambda item: sizes[item]):
            bare = len(json.dumps([path, _NO_TABLES]))
            if room >= sizes[path]:
                told[path], room = self.databases[path], room - sizes[path]
            elif room >= bare:
                told[path], room = _NO_TABLES, room - bare
        if len(told) < len(self.databases) or any(facts is _NO_TABLES for facts in told.values()):
            self.warn(
                "so many tables that the sidecar does not name all of them: their rows are not compared next time"
            )
        return told

    def count(self, component: str, files: int, size: int) -> None:
        """Count files of which nothing else is to be said."""
        share = self.components.setdefault(component, {"files": 0, "bytes": 0})
        share["files"] += files
        share["bytes"] += size
        self.files += files
        self.bytes += size


_NO_TABLES: dict[str, Any] = {"tables": {}}


def assemble(
    writer: ArchiveWriter,
    things: Iterable[Union[Thing, Share]],
    context: CaptureContext,
    progress: Progress,
    *,
    capture: CaptureShare = refuse_share,
    copy_first: frozenset[str] = frozenset(),
    lenient: bool = False,
    critical: frozenset[str] = frozenset(),
    held: Collection[str] = (),
    lookup: Optional[Classifier] = None,
) -> Account:
    """Write every thing into the archive.

    capture: captures what somebody else has looked at.
    copy_first: files to be copied before they are read, since they changed under an earlier attempt.
    lenient: a damaged database is kept as it is, byte for byte, instead of failing (for safety copies).
    critical: components of which everything has to be readable.
    held: databases that the last good backup held.
    lookup: says of what lies beside a database that is taken as bytes whether it is taken too.
    Raises ChangedWhileReadError (with the path), CaptureError, CheckError.
    """
    account = Account()
    assembly = _Assembly(writer, context, account, copy_first, lenient, critical, held, lookup)
    for found in Gatherer(copy_first).gather(things, capture):
        if isinstance(found, (Batch, Sealed)):
            progress.advance(assembly.add_batch(found))
        elif found.path == MANIFEST_NAME:
            account.warn(f"{found.path}: has the name of the archive's own manifest, left out")
        elif found.type == "file":
            progress.advance(assembly.add_file(found))
        elif found.type == "special":
            account.warn(f"{found.path}: a socket, FIFO or device, left out")
        elif found.type == "deep":
            account.warn(left_out_as_too_deep(found.path))
        else:
            assembly.add_bare(found)
    return account


def _is_readable(directory: str) -> bool:
    try:
        os.scandir(directory).close()
    except OSError:
        return False
    return True


def _said_of(error: TradekeepError) -> str:
    """What was found, as it goes on after 'since it'."""
    if isinstance(error, EmptyError):
        return error.message
    return f"is {error.message}"


class _Assembly:
    """One run of ``assemble``."""

    def __init__(
        self,
        writer: ArchiveWriter,
        context: CaptureContext,
        account: Account,
        copy_first: frozenset[str],
        lenient: bool,
        critical: frozenset[str],
        held: Collection[str],
        lookup: Optional[Classifier],
    ) -> None:
        self._critical = critical
        self._held = held
        self._writer = writer
        self._context = context
        self._account = account
        self._copy_first = copy_first
        self._lenient = lenient
        self._lookup = lookup
        self._ready: dict[str, Captured] = {}
        self._taken: set[str] = set()
        self._allowance = Allowance()
        # Asked once for each account, as a look-up reads the system's list anew.
        self._owner = lru_cache(maxsize=None)(name_of_uid)
        self._group = lru_cache(maxsize=None)(name_of_gid)

    def add_batch(self, batch: Union[Batch, Sealed]) -> int:
        """Small files that are captured already; returns their size."""
        if batch.paths:
            self._writer.add_batch(batch if isinstance(batch, Sealed) else batch.sealed())
            self._account.count(batch.component, len(batch.paths), batch.bytes)
        return batch.bytes

    def add_bare(self, found: Found) -> None:
        """A directory or symlink; nothing when the bot has removed it since it was listed."""
        writer = self._writer
        try:
            status = os.lstat(found.absolute)
            target = os.readlink(found.absolute) if found.type == "symlink" else None
        except (FileNotFoundError, NotADirectoryError):
            return
        if found.type == "directory" and is_of_filesystem(found.path) and not _is_readable(found.absolute):
            self._account.warn(f"{found.path}: the filesystem's own, and may not be read, left out")
            return
        entry = self._entry(found, status, 0, NO_FACTS)
        if found.type == "symlink":
            writer.add_symlink(entry._replace(target=target))
        else:
            writer.add_directory(entry)

    def add_file(self, found: Found) -> int:
        """One file; returns its size. Nothing when the bot removed it (a rotated log) before it was read."""
        if found.absolute in self._taken:
            return 0
        context = replace(self._context, copy_first=True) if self._copies(found) else self._context
        try:
            return self._capture(found, context) + self._capture_companions(found, context)
        except (CaptureError, CheckError) as error:
            if isinstance(error, UnreadableError) and self._may_be_left_out(found):
                self._account.warn(f"{found.path}: {error.message}, left out")
                return 0
            if not os.path.lexists(found.absolute) and not found.required:
                self._account.warn(f"{found.path}: removed by the application while the backup ran")
                return 0
            if not self._is_kept_as_it_is(found, error):
                raise
            self._account.warn(f"{found.path}: kept byte for byte, since it {_said_of(error)}")
            if not self._lenient and not isinstance(error, (EmptyError, OtherContentError)):
                self._account.as_it_is.append(found.path)
            return self._add_raw(found, context)

    def _copies(self, found: Found) -> bool:
        """Whether it changed while it was read; what lies behind a link is known by its real path."""
        return not self._copy_first.isdisjoint((found.path, found.absolute))

    def _is_kept_as_it_is(self, found: Found, error: TradekeepError) -> bool:
        """Whether a file is taken as bytes where its kind cannot take it.

        A database is worth a failure where the profile requires it, or where the last backup held it as one; any other
        file with such a name may be what it likes.
        """
        if self._lenient:
            return found.kind != "file" and not isinstance(error, ChangedWhileReadError)
        if found.kind != "sqlite" or found.required or found.path in self._held:
            return False
        return isinstance(error, (CheckError, EmptyError))

    def _may_be_left_out(self, found: Found) -> bool:
        """Whether a backup is one without it; of a database, or where the profile says that it matters, it is not."""
        return not (found.required or found.kind == "sqlite" or found.component in self._critical)

    def _capture(self, found: Found, context: CaptureContext) -> int:
        """One file through its kind. The source is confirmed unchanged after its last byte was read."""
        captured: Captured
        with self._captured(found, context) as captured:
            entry = self._entry(found, captured.status, captured.size, captured.facts)
            fault = None
            if found.required:
                fault = fault_of_required(found.path, entry.kind or "file", captured.content, captured.facts)
            if captured.content is not None:
                self._writer.add_content(entry, captured.content)
            elif captured.extents is not None:
                entry = self._writer.add_sparse(entry, captured.pieces(), captured.size, captured.extents)
            else:
                with captured.open() as stream:
                    self._writer.add_file(entry, stream, captured.size)
            captured.confirm()
        if fault is not None:
            self._account.damaged.append(f"{found.path}: {fault}")
        self._account.add(entry)
        return entry.data_bytes

    def _captured(self, found: Found, context: CaptureContext) -> Captured:
        """What its kind makes of a file. What is taken as bytes is taken with its WAL, which waits for its turn."""
        kind = found.kind or "file"
        ready = self._ready.pop(found.absolute, None)
        if ready is None and kind == "file" and has_companion(found.absolute):
            self._ready.update(
                {found.absolute + s: item for s, item in capture_together(found.absolute, context).items()}
            )
            ready = self._ready.pop(found.absolute)
        return ready or kind_named(kind).capture(found.absolute, context, found.signature)

    def _capture_companions(self, found: Found, context: CaptureContext) -> int:
        """What was captured together with a file, as far as the profile keeps it; not again when its turn comes."""
        size = 0
        for suffix in BESIDE:
            captured = self._ready.get(found.absolute + suffix)
            if captured is None:
                continue
            path, absolute = found.path + suffix, found.absolute + suffix
            beside = found_of(self._lookup, path, absolute, captured.status) if self._lookup else None
            if beside is None:
                self._ready.pop(absolute).close()
            else:
                size += self._capture(beside._replace(kind="file"), context)
                self._taken.add(absolute)
        return size

    def _add_raw(self, found: Found, context: CaptureContext) -> int:
        """A damaged database and its companions as plain files, all that can be done for it."""
        size = 0
        unsafe = unsafe_sidecars(Path(found.absolute))
        for suffix in ("", *SIDECAR_SUFFIXES):
            path, absolute = found.path + suffix, found.absolute + suffix
            if suffix and Path(absolute) in unsafe:
                self._account.warn(f"{path}: {unsafe[Path(absolute)]}, left out")
            elif not suffix or absolute in self._ready or os.path.lexists(absolute):
                seen = found.signature if absolute in self._ready else signature_of(status_of(absolute))
                raw = found._replace(path=path, absolute=absolute, kind="file", signature=seen)
                size += self._capture(raw, context)
        return size

    def _entry(self, found: Found, status: os.stat_result, size: int, facts: Mapping[str, Any]) -> Entry:
        mode = stat.S_IMODE(status.st_mode)
        stored = storable_mode(mode, found.type)
        if stored != mode:
            self._account.warn(f"{found.path}: mode {mode:04o} is kept as {stored:04o}")
        attributes = attributes_at(found.absolute)
        if attributes:
            if self._allowance.has_room_for(attributes):
                facts = {**facts, FACT: as_fact(attributes)}
            else:
                self._account.warn(f"{found.path}: its extended attributes are too many or too large, left out")
        return Entry(
            found.path,
            found.type,
            size,
            stored,
            self._owner(status.st_uid),
            self._group(status.st_gid),
            status.st_mtime_ns,
            None,
            None,
            found.kind,
            found.component,
            facts,
        )
