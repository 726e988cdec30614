# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What arrives from the source, file by file beside the live data. Nothing that the source says is trusted.

What has arrived stays where it is when a handover fails before the exchange: the next one brings what is lacking.
All of it is done with the rights of the data's owner, see ``arrivals``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

from ...application import Application
from ...archive.manifest import NO_FACTS, Entry, parse_entry
from ...archive.safety import Limits, Names, safe_relative, storable_mode
from ...errors import HostileArchiveError, SpaceError, TradekeepError, UnsafePathError
from ...host.files import Space, os_errors, space, write_all
from ...host.mounts import device_roots
from ...patterns import classifier
from ...ports import Ports
from ..kind_of import kind_by_content, kind_in
from ..links import is_left_out
from ..migrate.credentials import LARGEST, credential_problem
from ..migrate.origin import Refused, refusal_of
from ..scan import OWN_PREFIX, Found, scan
from .arrivals import DEEPEST, Arrivals
from .blocks import BLOCK, Digests, Touched, digests_of, resized_blocks
from .channel import Block, Channel, ProtocolError, error_of, text_of
from .shipping import summary_of

MOST_MESSAGES = 50_000_000
"""Of one source: several times what a million files take, in all rounds together."""
_MOST_NAMED = 10_000
_LONGEST_TARGET = 4095
_LOOKED_AFTER_FILES = 1000
_LOOKED_AFTER_BYTES = 64 << 20
_SPARE_BYTES = 1 << 20
_SPARE_INODES = 64
_DIGESTS_AT_ONCE = 1 << 19
_COPIED_AT_ONCE = BLOCK * 16


class _Arrival:
    """One file, link or directory that is here."""

    __slots__ = ("digests", "entry", "place")

    def __init__(self, entry: Entry, place: str, digests: Digests) -> None:
        self.entry = entry
        self.place = place
        self.digests = digests


@dataclass
class Round:
    """What one round has brought: the paths, and what the source says of it."""

    changed: dict[str, None] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)
    bytes: int = 0
    totals: dict[str, Any] = field(default_factory=dict)

    def then(self, later: Round) -> Round:
        """Both as one."""
        return Round(
            {**self.changed, **later.changed}, {**self.gone, **later.gone}, self.bytes + later.bytes, later.totals
        )


class Receiving:
    """All that has arrived in one handover."""

    def __init__(self, application: Application, ports: Ports) -> None:
        self._application = application
        self._ports = ports
        self._lookup = classifier(application.profile)
        self._arrivals = Arrivals(device_roots(application.root))
        self._arrived: dict[str, _Arrival] = {}
        self._names: Optional[Names] = None
        self._offered: dict[str, Digests] = {}
        self._messages = 0
        self._sizes = 0
        self._room: Optional[int] = None
        self._unlooked_files = self._unlooked_bytes = 0
        self.refused: list[Refused] = []
        self.left: list[str] = []

    @property
    def entries(self) -> list[Entry]:
        """What the source has, in the order of paths."""
        return [self._arrived[path].entry for path in sorted(self._arrived)]

    def entry(self, path: str) -> Optional[Entry]:
        """What the source has at a path."""
        arrival = self._arrived.get(path)
        if arrival is None or arrival.entry.kind is None:
            return None if arrival is None else arrival.entry
        known = self._lookup.file(path)
        kind = kind_by_content(arrival.entry.kind, arrival.place, required=known is not None and known.required)
        return arrival.entry._replace(kind=kind)

    def replace(self, entry: Entry) -> None:
        """More is known of something that has arrived."""
        self._arrived[entry.path].entry = entry

    def place_of(self, path: str) -> str:
        """Where the content is."""
        return self._arrived[path].place

    def open(self, path: str) -> int:
        """A descriptor of the content."""
        with os_errors(path):
            return self._arrivals.open(self._arrived[path].place)

    def move(self, path: str, place: str) -> None:
        """Put a file into its stage."""
        arrival = self._arrived[path]
        with os_errors(place):
            self._arrivals.rename(arrival.place, place)
        arrival.place = place

    def take_back(self) -> None:
        """Put everything where the next handover looks for it; what cannot be is brought again."""
        for path, arrival in self._arrived.items():
            home = self._arrivals.home_of(path)
            if arrival.place != home and arrival.entry.type == "file":
                with contextlib.suppress(OSError, TradekeepError):
                    self._arrivals.rename(arrival.place, home)
                    arrival.place = home

    def remove(self) -> None:
        """The handover is complete."""
        self._arrivals.remove()

    def close(self) -> None:
        """Nothing more arrives."""
        self._arrivals.close()

    def check_space(self, wanted: int, files: int) -> None:
        """Raises SpaceError unless what is said to come fits."""
        root = str(self._application.root)
        free = space(root)
        self._room = free.bytes_free + self._size_here()
        if wanted + _SPARE_BYTES > self._room:
            raise SpaceError(
                f"{wanted} bytes needed beside the data, {free.bytes_free} free", path=root, hint="free some space"
            )
        self._check_inodes(free, files)

    def _size_here(self) -> int:
        return sum(self._arrivals.size_of(self._arrivals.home_of(path)) for path in self._arrivals.files())

    def _check_inodes(self, free: Space, files: int) -> None:
        if free.inodes_free is not None and free.inodes_free < files + _SPARE_INODES:
            raise SpaceError(
                f"{files} inodes needed, {free.inodes_free} free",
                path=str(self._application.root),
                hint="remove some files",
            )

    def offer(self, channel: Channel) -> None:
        """Tell the source which blocks are here: of a run before, or in live data of the same name."""
        self._copy_live()
        for name in self._arrivals.files():
            try:
                descriptor = self._arrivals.open(self._arrivals.home_of(name))
            except (OSError, UnsafePathError):
                continue  # it has become something else; what it should be is brought
            try:
                digests = self._offered[name] = digests_of(descriptor)
            finally:
                os.close(descriptor)
            channel.send({"do": "have", "path": name, "size": digests.size})
            raw = digests.raw
            for start in range(0, len(raw), _DIGESTS_AT_ONCE):
                channel.send_block(start, raw[start : start + _DIGESTS_AT_ONCE])

    def receive(self, channel: Channel, what: str) -> Round:
        """One round, to its last message."""
        done = Round()
        opened: Optional[_Open] = None
        try:
            while True:
                message = channel.receive()
                self._count()
                if isinstance(message, Block):
                    if opened is None:
                        raise ProtocolError("sent bytes of no file", path="the other server")
                    opened.write(message)
                    done.bytes += len(message.data)
                    self._look_after(0, len(message.data))
                    self._ports.progress.advance(len(message.data))
                elif "end" in message and opened is not None:
                    opened.finish(text_of(message, "end", 64))
                    opened = None
                else:
                    if opened is not None:
                        opened.close()  # it changed while it was read; a later round brings it whole
                        opened = None
                    if what in message:
                        done.totals = dict(message[what]) if isinstance(message[what], dict) else {}
                        return done
                    opened = self._take(message, done)
        finally:
            if opened is not None:
                opened.close()

    def _take(self, message: dict[str, Any], done: Round) -> Optional[_Open]:
        if "error" in message:
            raise error_of(message)
        if "gone" in message:
            path = text_of(message, "gone")
            arrival = self._arrived.pop(path, None)
            if arrival is None:
                return None
            if arrival.entry.type == "file":
                with os_errors(arrival.place):
                    self._arrivals.unlink(arrival.place)
            self._sizes -= arrival.entry.size
            done.gone[path] = None
            self._names = None
        elif "refused" in message:
            if len(self.refused) < _MOST_NAMED:
                self.refused.append(Refused(text_of(message, "refused"), text_of(message, "why")))
        elif "left" in message:
            if len(self.left) < _MOST_NAMED:
                self.left.append(text_of(message, "left"))
        elif "entry" in message:
            return self._entry(text_of(message, "entry", 1 << 20), done)
        else:
            raise ProtocolError("sent a message that nobody knows", path="the other server")
        return None

    def _entry(self, line: str, done: Round) -> Optional[_Open]:
        entry = self._judged(parse_entry(line.encode("ascii", "replace")))
        known = self._arrived.get(entry.path)
        if known is None:
            self._claim(entry)
        elif known.entry.type != entry.type:
            raise HostileArchiveError("changes what it is without being removed", path=entry.path)
        home = self._arrivals.home_of(entry.path)
        arrival = known or _Arrival(entry, home, self._offered.pop(entry.path, Digests()))
        self._limit(entry, arrival, 0 if known is None else known.entry.size)
        arrival.entry = entry
        self._arrived[entry.path] = arrival
        if entry.type != "directory":
            done.changed[entry.path] = None
        return _Open(arrival, self._arrivals, entry.size) if entry.type == "file" else None

    def _count(self) -> None:
        self._messages += 1
        if self._messages > MOST_MESSAGES:
            raise ProtocolError(
                f"has no end: more than {MOST_MESSAGES} messages", path="the other server", hint="see what runs there"
            )

    def _look_after(self, files: int, size: int) -> None:
        """Now and then: raises SpaceError before nothing is left of this server for anybody else."""
        self._unlooked_files += files
        self._unlooked_bytes += size
        if self._unlooked_files < _LOOKED_AFTER_FILES and self._unlooked_bytes < _LOOKED_AFTER_BYTES:
            return
        self._unlooked_files = self._unlooked_bytes = 0
        free = space(str(self._application.root))
        self._check_inodes(free, _LOOKED_AFTER_FILES)
        if free.bytes_free < _SPARE_BYTES:
            raise SpaceError("the disk is full", path=str(self._application.root), hint="free some space")

    def _claim(self, entry: Entry) -> None:
        """Refuse what lies beneath a link or a file."""
        if self._names is None:
            self._names = Names(Limits())
            for path, arrival in self._arrived.items():
                self._names.add(path, arrival.entry.type)
        self._names.add(entry.path, entry.type)

    def _judged(self, entry: Entry) -> Entry:
        """An entry that may come here, with the rights that this server's profile gives it."""
        _require_texts(entry)
        safe_relative(entry.path)
        if entry.path.count("/") > DEEPEST:
            raise HostileArchiveError("lies too deep", path=entry.path)
        if any(part.startswith(OWN_PREFIX) for part in entry.path.split("/")):
            raise HostileArchiveError("has a name that is tradekeep's own", path=entry.path)
        known = self._lookup.holding(entry.path) if entry.type == "directory" else self._lookup.file(entry.path)
        if known is None and self._lookup.keeps_out(entry.path):
            raise TradekeepError(
                "is data on the other server, and code or a cache on this one",
                path=entry.path,
                hint="deploy the same commit on both, or name it in the component's paths",
            )
        if known is None:
            raise HostileArchiveError("is no part of the profile on this server", path=entry.path)
        if is_left_out(entry):
            raise HostileArchiveError("is a symlink that leads out of the data", path=entry.path)
        why = refusal_of(entry.path, "file", 0, None)
        if why is not None:
            raise HostileArchiveError(f"has {why}", path=entry.path)
        if entry.size < 0 or (entry.type != "file" and entry.size):
            raise HostileArchiveError("has a size that cannot be", path=entry.path)
        if not 0 <= entry.mtime_ns < 1 << 62:
            raise HostileArchiveError("has a time that cannot be", path=entry.path)
        kind = kind_in(known, entry.path) if entry.type == "file" else None
        return entry._replace(
            mode=storable_mode(entry.mode & 0o7777, entry.type),
            owner="",
            group="",
            kind=kind,
            component=known.component.name,
            sha256=None,
            facts=NO_FACTS,
        )

    def _limit(self, entry: Entry, arrival: _Arrival, before: int) -> None:
        """What is to come must fit: one by one, and as far as is known all together, however many holes it has."""
        root = str(self._application.root)
        free = space(root).bytes_free + self._arrivals.size_of(arrival.place)
        self._sizes += entry.size - before
        too_much = self._room is not None and self._sizes > self._room
        if entry.size > free or too_much:
            raise SpaceError(
                f"{self._sizes if too_much else entry.size} bytes are to come, {free} free",
                path=f"{root}/{entry.path}",
                hint="free some space on this server and run it again",
            )
        self._look_after(1, 0)

    def _copy_live(self) -> None:
        """Live data is the best guess at what comes: copied, because nothing may touch it before the exchange."""
        self._arrivals.make()
        for found in scan(self._application):
            home = self._arrivals.home_of(found.path)
            if found.type == "file" and found.size and not self._arrivals.exists(home):
                self._copy(found, home)

    def _copy(self, found: Found, home: str) -> None:
        try:
            source = self._arrivals.open_live(found.path)
        except (OSError, UnsafePathError):
            return  # only a guess: gone, not the owner's to read, or something else by now
        with os_errors(home):
            try:
                target, _is_new = self._arrivals.open_for_writing(home)
                try:
                    for offset in range(0, found.size, _COPIED_AT_ONCE):
                        write_all(target, os.pread(source, min(_COPIED_AT_ONCE, found.size - offset), offset))
                finally:
                    os.close(target)
            finally:
                os.close(source)

    def contents(self) -> dict[str, Any]:
        """What is here, as the source sums up its own."""
        held = {path: item for path, item in self._arrived.items() if item.entry.type != "directory"}
        whole = summary_of({path: _content(item) for path, item in held.items()})
        return {**whole, "bytes": sum(item.entry.size for item in held.values())}

    def credentials(self) -> dict[str, Optional[str]]:
        """What is wrong with each credential that has arrived."""
        found: dict[str, Optional[str]] = {}
        for path, item in self._arrived.items():
            known = self._lookup.file(path) if item.entry.type == "file" else None
            if known is not None and known.secret and item.entry.size <= LARGEST:
                found[path] = credential_problem(path, self._beginning(path))
        return found

    def _beginning(self, path: str) -> bytes:
        descriptor = self.open(path)
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(LARGEST)

    def with_facts(self, describe: Callable[[Entry, str], Entry]) -> None:
        """Complete the entries by what only the content tells."""
        for path, item in self._arrived.items():
            if item.entry.type == "file":
                item.entry = describe(self.entry(path) or item.entry, item.place)


class _Open:
    """A file that is being received."""

    def __init__(self, arrival: _Arrival, arrivals: Arrivals, size: int) -> None:
        self._arrival = arrival
        self._size = size
        with os_errors(arrival.place):
            self._descriptor, is_new = arrivals.open_for_writing(arrival.place)
            if is_new:
                # Whatever was said to be here, it is not: then the source does not send all, which shows at the end.
                arrival.digests = Digests()
            os.ftruncate(self._descriptor, size)
        self._touched = Touched(arrival.digests, self._descriptor, resized_blocks(arrival.digests.size, size))
        arrival.digests.resize(size)

    def write(self, block: Block) -> None:
        """Bytes where they belong, never beyond the size that was told."""
        if not block.data or block.offset + len(block.data) > self._size:
            raise ProtocolError("sent bytes beyond the end of a file", path=self._arrival.entry.path)
        with os_errors(self._arrival.place):
            data, offset = memoryview(block.data), block.offset
            while data:
                written = os.pwrite(self._descriptor, data, offset)
                data, offset = data[written:], offset + written
        self._touched.changed(block.offset, len(block.data))

    def finish(self, tree: str) -> None:
        """What lies on the disk must be what the source has."""
        try:
            self._touched.finish()
            if self._arrival.digests.tree() != tree:
                raise TradekeepError(
                    "what has arrived is not what the source has", path=self._arrival.entry.path, hint="run again"
                )
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file; what was touched is read again, so that its digests are those of the disk."""
        if self._descriptor >= 0:
            self._touched.finish()
            os.close(self._descriptor)
            self._descriptor = -1


def _content(item: _Arrival) -> str:
    return item.digests.tree() if item.entry.target is None else item.entry.target


def _require_texts(entry: Entry) -> None:
    """Raises HostileArchiveError for what cannot be the name of a file here."""
    for text, longest in ((entry.path, 4096), (entry.target, _LONGEST_TARGET)):
        if text is None:
            continue
        try:
            possible = len(os.fsencode(text)) <= longest
        except (TypeError, UnicodeEncodeError):
            possible = False
        if not possible or not isinstance(text, str):
            what = "is a symlink to what is no name of a file" if text is entry.target else "is no name of a file"
            raise HostileArchiveError(what, path=str(entry.path))
