# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The source's data on its way: round by round only what the other server does not have yet.

While the application runs every file is captured by the rules of its kind. At rest files are read as they lie. Of each
database a private copy stays here. After the stop the file is compared with it page by page, which is cheaper than
hashing, unless it was made equal to the file just before and nobody has written that since; then what a killed
application left in its WAL is brought into that copy.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Optional

from ...application import Application
from ...archive.manifest import Entry, entry_line
from ...errors import CaptureError, ChangedWhileReadError
from ...kinds import kind_named
from ...kinds.base import NO_FACTS, CaptureContext, ScratchCaptured, Signature
from ...kinds.reading import FLAGS, may_change_unseen, open_regular, signature_of
from ...kinds.sqlite import copy_database
from ...kinds.sqlite_source import sidecar
from ...ports import Ports
from ...signals import result_of, take_no_signals
from ..kind_of import kind_by_content
from ..migrate.entries import EntryMaker
from ..migrate.origin import refusal_of
from ..migrate.origin_directory import left_in
from ..scan import Found, found_at, scan
from .at_rest import bring_in_wal, rows_of, wal_pages
from .blocks import BLOCK, PAGE, Digests, Touched, joined, resized_blocks
from .channel import Channel
from .copies import bring_near, patch

_ATTEMPTS = 4
_MOST_LEFT = 1000
_UNREADABLE = "its owner cannot read it"

Identity = tuple[Any, ...]


class Stand(Enum):
    """What a round may count on: the application works, works for the last moments, or has been stopped."""

    AT_WORK = "at work"
    ALMOST = "almost at rest"
    AT_REST = "at rest"


class _Sidecars(NamedTuple):
    wal: Optional[os.stat_result]
    journal: Optional[os.stat_result]


@dataclass
class _Shipped:
    """What the other server has of a file, and what the file was when it was read for that."""

    digests: Digests
    identity: Optional[Identity] = None
    copy: Optional[Path] = None
    copy_of: Optional[Signature] = None
    """The database's own file to which the copy is equal, as far as that is certain."""
    tables: Optional[dict[str, int]] = None
    target: Optional[str] = None
    size: int = 0
    type: str = "file"

    @property
    def content(self) -> str:
        """What stands for the content in a comparison."""
        return self.digests.tree() if self.target is None else self.target


@dataclass
class Totals:
    """What one round has brought."""

    files: int = 0
    bytes: int = 0
    read: int = 0
    gone: int = 0

    def as_dict(self) -> dict[str, int]:
        """For the wire and for records."""
        return {"files": self.files, "bytes": self.bytes, "read": self.read, "gone": self.gone}


def _nobody_waits(_amount: int) -> None:
    """Nobody does."""


@dataclass
class Shipping:
    """One handover's data. scratch: a private directory on a disk with room for the databases.

    alive: called with the number of bytes that were looked at, for whoever waits.
    """

    application: Application
    ports: Ports
    channel: Channel
    scratch: Path
    alive: Callable[[int], None] = _nobody_waits
    _shipped: dict[str, _Shipped] = field(default_factory=dict)
    _has: dict[str, Digests] = field(default_factory=dict)
    _rows: dict[str, Future[dict[str, int]]] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Prepare."""
        self._context = CaptureContext(scratch=self.scratch, clock=self.ports.clock)
        self._entries = EntryMaker()
        self._counter = ThreadPoolExecutor(max_workers=1, initializer=take_no_signals)
        self._totals = Totals()

    def close(self) -> None:
        """Wait for what still counts."""
        self._counter.shutdown(wait=True)

    def other_has(self, path: str, digests: Digests) -> None:
        """The other server has a file of that name already, from a run before or as live data."""
        self._has[path] = digests

    def round(self, stand: Stand) -> Totals:
        """Send what has changed since the last round."""
        self._totals = Totals()
        seen: set[str] = set()
        for found in self._scanned():
            seen.add(found.path)
            target = _target_of(found)
            why = refusal_of(found.path, found.type, found.mode, target)
            if why is not None:
                self._tell_refused(found.path, why)
            elif found.type == "file":
                self._file(found, stand)
            else:
                self._bare(found, target)
        for path in [path for path in self._shipped if path not in seen]:
            self._gone(path)
        if stand is Stand.AT_WORK:
            self._tell_left(seen)
        return self._totals

    def holds(self) -> dict[str, Any]:
        """What the other server must have by now: one digest over everything, and the rows of each database."""
        tables: dict[str, dict[str, int]] = {}
        for path, item in self._shipped.items():
            if path in self._rows:
                item.tables = result_of(self._rows.pop(path))
            if item.tables is not None:
                tables[path] = item.tables
        # Directories are not counted: they come with what they hold.
        held = {path: item for path, item in self._shipped.items() if item.type != "directory"}
        contents = {path: item.content for path, item in held.items()}
        size = sum(item.size for item in held.values())
        return {**summary_of(contents), "bytes": size, "databases": tables}

    def untouched(self) -> Optional[str]:
        """The first file that is not as it was when it was read at rest, None when all are."""
        seen: set[str] = set()
        for found in self._scanned():
            if found.type == "file":
                item = self._shipped.get(found.path)
                if item is None and self._refused(found):
                    continue
                if item is None or item.identity != _identity(found):
                    return found.path
            seen.add(found.path)
        return next((path for path in self._shipped if path not in seen), None)

    def _scanned(self) -> Iterator[Found]:
        return (_judged(found) for found in scan(self.application))

    def _again(self, found: Found) -> Optional[Found]:
        """The same file as it is by now."""
        now = found_at(self.application, found.path, found.absolute)
        return None if now is None else _judged(now)

    def _refused(self, found: Found) -> bool:
        return refusal_of(found.path, found.type, found.mode, None) is not None or not _may_be_read(found)

    def _file(self, found: Found, stand: Stand) -> None:
        known = self._known(found)
        if known is not None and known.identity is not None and known.identity == _identity(found):
            return
        item = known or _Shipped(self._has.pop(found.path, Digests()))
        self._shipped[found.path] = item
        for attempt in range(_ATTEMPTS):
            try:
                if stand is Stand.AT_REST:
                    self._at_rest(found, item)
                elif stand is Stand.ALMOST and item.copy is not None and found.kind == "sqlite" and found.size:
                    self._almost_at_rest(found, item, item.copy)
                else:
                    self._live(found, item)
                return
            except (CaptureError, PermissionError) as error:
                if not isinstance(error, ChangedWhileReadError):
                    if _may_be_read(found):
                        raise
                    # Of nobody's but somebody else's, or swapped meanwhile.
                    self._gone(found.path)
                    self._tell_refused(found.path, _UNREADABLE)
                    return
                again = self._again(found)
                if again is None:
                    self._gone(found.path)
                    return
                if stand is Stand.AT_REST and attempt == _ATTEMPTS - 1:
                    raise
                found = again
        # It never held still; the last round, at rest, brings it.
        item.identity = None

    def _known(self, found: Found) -> Optional[_Shipped]:
        """What was sent of it before; what has become something else is sent anew."""
        known = self._shipped.get(found.path)
        if known is not None and known.type != found.type:
            self._gone(found.path)
            return None
        return known

    def _live(self, found: Found, item: _Shipped) -> None:
        identity = None if may_change_unseen(found.signature.changed_ns) else _identity(found)
        kind = "file" if found.kind == "sqlite" and found.size == 0 else found.kind or "file"
        with kind_named(kind).capture(Path(found.absolute), self._context, found.signature) as captured:
            if isinstance(captured, ScratchCaptured) and kind == "sqlite":
                self._keep(item, captured.path)
                item.tables = dict(captured.facts.get("tables", {}))
            entry = self._entries.entry(found, captured.status, captured.size, captured.facts)
            if item.copy is None:
                with captured.open() as stream:
                    self._send(entry, item, stream, captured.size)
            else:
                self._send_copy(entry, item)
            captured.confirm()
        # Of a log only the whole lines were taken.
        item.identity = identity if item.copy is not None or item.size == found.size else None

    def _almost_at_rest(self, found: Found, item: _Shipped, copy: Path) -> None:
        """Make the copy the file, once more if it was written while that was sent.

        Nothing is complete without its WAL, so there is no identity yet; that comes after the stop.
        """
        item.identity = item.copy_of = None
        for _reading in range(_ATTEMPTS):
            changed, item.copy_of = bring_near(Path(found.absolute), copy, self._context)
            item.size, status = copy.stat().st_size, os.lstat(found.absolute)
            self._send_pages(self._entries.entry(found, status, item.size, NO_FACTS), item, sorted(changed.items()))
            if item.copy_of == signature_of(os.lstat(found.absolute)):
                return

    def _at_rest(self, found: Found, item: _Shipped) -> None:
        identity = _identity(found)
        if found.kind == "sqlite" and found.size:
            self._database_at_rest(found, item)
        else:
            descriptor = open_regular(found.absolute)
            with os.fdopen(descriptor, "rb", buffering=0) as stream:
                entry = self._entries.entry(found, os.fstat(descriptor), found.size, NO_FACTS)
                self._send(entry, item, stream, found.size)
        again = self._again(found)
        if again is None or _identity(again) != identity:
            raise ChangedWhileReadError("is written although the services are stopped", path=found.absolute)
        item.identity = identity

    def _database_at_rest(self, found: Found, item: _Shipped) -> None:
        live, sidecars = Path(found.absolute), _sidecars(found.absolute)
        status = os.lstat(live)
        if item.copy is None or (sidecars.journal is not None and sidecars.journal.st_size):
            # New, or cut off in the middle of a write: SQLite itself has to look at it.
            copy, _rows = copy_database(live, self._context)
            self._keep(item, copy)
            self._count(found.path, item)
            self._send_copy(self._entries.entry(found, status, item.size, NO_FACTS), item)
            return
        changed = {} if item.copy_of == signature_of(status) else patch(live, item.copy)
        item.copy_of = None
        if sidecars.wal is not None and sidecars.wal.st_size:
            pages = wal_pages(sidecar(live, "-wal"))
            bring_in_wal(sidecar(live, "-wal"), item.copy)
            changed.update(dict.fromkeys(pages, PAGE))
        item.size = item.copy.stat().st_size
        self._count(found.path, item)
        self._send_pages(self._entries.entry(found, status, item.size, NO_FACTS), item, sorted(changed.items()))

    def _keep(self, item: _Shipped, captured: Path) -> None:
        """A captured database stays here as the copy to compare with."""
        kept = item.copy or self.scratch / f"copy-{len(self._shipped)}-{captured.name}"
        os.rename(captured, kept)
        item.copy, item.copy_of, item.size = kept, None, kept.stat().st_size

    def _count(self, path: str, item: _Shipped) -> None:
        """Rows are counted while the pages are on their way."""
        if item.copy is not None:
            self._rows[path] = self._counter.submit(rows_of, item.copy)

    def _send_copy(self, entry: Entry, item: _Shipped) -> None:
        if item.copy is not None:
            with open(item.copy, "rb", buffering=0) as stream:
                self._send(entry, item, stream, item.size)

    def _send(self, entry: Entry, item: _Shipped, stream: BinaryIO, size: int) -> None:
        """All blocks of a stream that the other server does not have."""
        self._begin(entry, item, size)
        for number in range(item.digests.count):
            data = _exactly(stream, min(BLOCK, size - number * BLOCK))
            self.alive(len(data))
            if item.digests.differs(number, data):
                self.channel.send_block(number * BLOCK, data)
                self._totals.bytes += len(data)
        self._totals.read += size
        self._end(item)

    def _send_pages(self, entry: Entry, item: _Shipped, changed: list[tuple[int, int]]) -> None:
        """Pages of the copy, by offset and length; neighbours travel together."""
        if item.copy is None:
            return
        before = item.digests.size
        self._begin(entry, item, item.size)
        descriptor = os.open(item.copy, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        touched = Touched(item.digests, descriptor, resized_blocks(before, item.size))
        try:
            for offset, length in joined(changed, item.size):
                self.channel.send_block(offset, os.pread(descriptor, length, offset))
                self._totals.bytes += length
                touched.changed(offset, length)
            touched.finish()
        finally:
            os.close(descriptor)
        self._totals.read += item.size
        self._end(item)

    def _begin(self, entry: Entry, item: _Shipped, size: int) -> None:
        self.channel.send({"entry": entry_line(entry)})
        item.digests.resize(size)
        item.size = size
        self._totals.files += 1

    def _end(self, item: _Shipped) -> None:
        self.channel.send({"end": item.digests.tree()})

    def _bare(self, found: Found, target: Optional[str]) -> None:
        known = self._known(found)
        if known is not None and known.target == target:
            return
        entry = self._entries.entry(found, os.lstat(found.absolute), 0, NO_FACTS)._replace(target=target)
        self._shipped[found.path] = _Shipped(Digests(), target=target, type=found.type)
        self.channel.send({"entry": entry_line(entry)})

    def _gone(self, path: str) -> None:
        item = self._shipped.pop(path, None)
        if item is not None:
            self._totals.gone += 1
            self.channel.send({"gone": path})
            if item.copy is not None:
                item.copy.unlink(missing_ok=True)

    def _tell_refused(self, path: str, why: str) -> None:
        if path not in self._told:
            self._told.add(path)
            self.channel.send({"refused": path, "why": why})

    def _tell_left(self, seen: set[str]) -> None:
        for count, path in enumerate(left_in(self.application, Path(self.application.root), seen)):
            if count >= _MOST_LEFT:
                return
            if path not in self._told:
                self._told.add(path)
                self.channel.send({"left": path})


def summary_of(contents: dict[str, str]) -> dict[str, Any]:
    """Number of things and one digest over all of them; what both servers must agree on."""
    whole = hashlib.sha256()
    for path in sorted(contents):
        whole.update(f"{path}\0{contents[path]}\n".encode("utf-8", "surrogateescape"))
    return {"files": len(contents), "digest": whole.hexdigest()}


def _target_of(found: Found) -> Optional[str]:
    """Where a symlink leads to; nowhere when it is gone or something else by now."""
    if found.type != "symlink":
        return None
    try:
        return os.readlink(found.absolute)
    except OSError:
        return ""


def _judged(found: Found) -> Found:
    """With the kind that its content has: a stray file with the name of a database is moved as it is."""
    kind = kind_by_content(found.kind, found.absolute, required=found.required) if found.size else found.kind
    return found if kind == found.kind else found._replace(kind=kind)


def _may_be_read(found: Found) -> bool:
    """Whether the account that acts can read a file; what it cannot is no data of the application's."""
    try:
        os.close(os.open(found.absolute, FLAGS))
    except PermissionError:
        return False
    except OSError:
        return True  # whoever reads it finds out
    return True


def _identity(found: Found) -> Identity:
    """What changes when a file is written; with a database, its WAL and journal as well."""
    if found.kind != "sqlite":
        return tuple(found.signature)
    both = (
        None if item is None else (item.st_ino, item.st_size, item.st_mtime_ns) for item in _sidecars(found.absolute)
    )
    return (*found.signature, *both)


def _sidecars(path: str) -> _Sidecars:
    return _Sidecars(_status(f"{path}-wal"), _status(f"{path}-journal"))


def _status(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise ChangedWhileReadError("became shorter while it was read")
        data += more
    return data
