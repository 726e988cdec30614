# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What arrives from the source, file by file beside the live data. Nothing that the source says is trusted.

What has arrived stays where it is when a handover fails before the exchange: the next one brings what is lacking.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...archive.manifest import NO_FACTS, Entry, parse_entry
from ...archive.safety import Limits, Names, link_stays_inside, safe_relative
from ...errors import HostileArchiveError, SpaceError, TradekeepError
from ...host.files import make_private_directory, os_errors, remove_tree, space
from ...host.mounts import DeviceRoot, device_root_of, device_roots
from ...kinds import default_kind
from ...patterns import classifier
from ...ports import Ports
from ..migrate.credentials import LARGEST, credential_problem
from ..migrate.origin import Refused
from ..scan import OWN_PREFIX, scan
from .blocks import BLOCK, Digests, Touched, digests_of, resized_blocks
from .channel import Block, Channel, ProtocolError, error_of, text_of
from .shipping import summary_of

ARRIVING = f"{OWN_PREFIX}-arriving"
_MOST_NAMED = 10_000
_DIGESTS_AT_ONCE = 1 << 19


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

    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    bytes: int = 0
    totals: dict[str, Any] = field(default_factory=dict)

    def then(self, later: Round) -> Round:
        """Both as one."""
        changed, gone = (
            list(dict.fromkeys([*mine, *theirs]))
            for mine, theirs in ((self.changed, later.changed), (self.gone, later.gone))
        )
        return Round(changed, gone, self.bytes + later.bytes, later.totals)


class Receiving:
    """All that has arrived in one handover."""

    def __init__(self, application: Application, ports: Ports) -> None:
        self._application = application
        self._ports = ports
        self._lookup = classifier(application.profile)
        self._roots: tuple[DeviceRoot, ...] = device_roots(application.root)
        self._arrived: dict[str, _Arrival] = {}
        self._names: Optional[Names] = None
        self._offered: dict[str, Digests] = {}
        self.refused: list[Refused] = []
        self.left: list[str] = []

    @property
    def entries(self) -> list[Entry]:
        """What the source has, in the order of paths."""
        return [self._arrived[path].entry for path in sorted(self._arrived)]

    def entry(self, path: str) -> Optional[Entry]:
        """What the source has at a path."""
        arrival = self._arrived.get(path)
        return None if arrival is None else arrival.entry

    def replace(self, entry: Entry) -> None:
        """More is known of something that has arrived."""
        self._arrived[entry.path].entry = entry

    def place_of(self, path: str) -> str:
        """Where the content is."""
        return self._arrived[path].place

    def move(self, path: str, place: str) -> None:
        """Put a file into its stage."""
        arrival = self._arrived[path]
        with os_errors(place):
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
            os.rename(arrival.place, place)
        arrival.place = place

    def take_back(self) -> None:
        """Put everything where the next handover looks for it; what cannot be is brought again."""
        for path, arrival in self._arrived.items():
            home = self._home(path)
            if arrival.place != home and arrival.entry.type == "file":
                with contextlib.suppress(OSError):
                    os.makedirs(os.path.dirname(home), mode=0o700, exist_ok=True)
                    os.rename(arrival.place, home)
                    arrival.place = home

    def remove(self) -> None:
        """The handover is complete."""
        for root in self._roots:
            remove_tree(f"{root.path}/{ARRIVING}")

    def check_space(self, wanted: int, files: int) -> None:
        """Raises SpaceError unless what is said to come fits."""
        root = str(self._application.root)
        free = space(root)
        here = sum(path.stat().st_size for path in self._present())
        if wanted + (1 << 20) > free.bytes_free + here:
            raise SpaceError(
                f"{wanted} bytes needed beside the data, {free.bytes_free} free", path=root, hint="free some space"
            )
        if free.inodes_free is not None and free.inodes_free < files + 64:
            raise SpaceError(f"{files} inodes needed, {free.inodes_free} free", path=root, hint="remove some files")

    def offer(self, channel: Channel) -> None:
        """Tell the source which blocks are here: of a run before, or in live data of the same name."""
        self._copy_live()
        for path in self._present():
            name = str(path.relative_to(self._top_of(path)))
            with open(path, "rb", buffering=0) as stream:
                digests = self._offered[name] = digests_of(stream.fileno())
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
                if isinstance(message, Block):
                    if opened is None:
                        raise ProtocolError("sent bytes of no file", path="the other server")
                    opened.write(message)
                    done.bytes += len(message.data)
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
            if arrival is not None and arrival.entry.type == "file":
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(arrival.place)
            done.gone.append(path)
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
        arrival = known or _Arrival(entry, self._home(entry.path), self._offered.pop(entry.path, Digests()))
        arrival.entry = entry
        self._arrived[entry.path] = arrival
        if entry.type != "directory":
            done.changed.append(entry.path)
        return _Open(arrival, self._limit(entry)) if entry.type == "file" else None

    def _claim(self, entry: Entry) -> None:
        """Refuse what lies beneath a link or a file."""
        if self._names is None:
            self._names = Names(Limits())
            for path, arrival in self._arrived.items():
                self._names.add(path, arrival.entry.type)
        self._names.add(entry.path, entry.type)

    def _judged(self, entry: Entry) -> Entry:
        """An entry that may come here, with the rights that this server's profile gives it."""
        safe_relative(entry.path)
        if any(part.startswith(OWN_PREFIX) for part in entry.path.split("/")):
            raise HostileArchiveError("has a name that is tradekeep's own", path=entry.path)
        known = self._lookup.directory(entry.path) if entry.type == "directory" else self._lookup.file(entry.path)
        if known is None:
            raise HostileArchiveError("is no part of the profile on this server", path=entry.path)
        if entry.type == "symlink" and not link_stays_inside(entry.path, entry.target or ""):
            raise HostileArchiveError("is a symlink that leads out of the data", path=entry.path)
        if entry.size < 0 or (entry.type != "file" and entry.size):
            raise HostileArchiveError("has a size that cannot be", path=entry.path)
        if not 0 <= entry.mtime_ns < 1 << 62:
            raise HostileArchiveError("has a time that cannot be", path=entry.path)
        kind = (known.kind or default_kind(entry.path.rpartition("/")[2])) if entry.type == "file" else None
        return entry._replace(
            mode=known.mode,
            owner="",
            group="",
            kind=kind,
            component=known.component.name,
            sha256=None,
            facts=NO_FACTS,
        )

    def _limit(self, entry: Entry) -> int:
        free = space(str(self._application.root)).bytes_free + _size_at(self._arrived[entry.path].place)
        if entry.size > free:
            raise SpaceError(
                f"{entry.size} bytes are to come, {free} free",
                path=f"{self._application.root}/{entry.path}",
                hint="free some space on this server and run it again",
            )
        return entry.size

    def _home(self, path: str) -> str:
        root = device_root_of(self._roots, path)
        return f"{root.path}/{ARRIVING}/{path}"

    def _top_of(self, path: Path) -> Path:
        return next(parent for parent in path.parents if parent.name == ARRIVING)

    def _present(self) -> Iterator[Path]:
        for root in self._roots:
            top = Path(root.path) / ARRIVING
            for directory, _names, names in os.walk(top):
                for name in names:
                    path = Path(directory, name)
                    if stat.S_ISREG(path.lstat().st_mode):
                        yield path

    def _copy_live(self) -> None:
        """Live data is the best guess at what comes: copied, because nothing may touch it before the exchange."""
        for root in self._roots:
            if root.is_directory:
                make_private_directory(f"{root.path}/{ARRIVING}")
        for found in scan(self._application):
            home = self._home(found.path)
            if found.type == "file" and found.size and not os.path.lexists(home):
                with os_errors(home):
                    os.makedirs(os.path.dirname(home), mode=0o700, exist_ok=True)
                    descriptor = os.open(home, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                    with os.fdopen(descriptor, "wb") as target, open(found.absolute, "rb") as source:
                        shutil.copyfileobj(source, target, BLOCK * 16)

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
                found[path] = credential_problem(path, Path(item.place).read_bytes())
        return found

    def with_facts(self, describe: Callable[[Entry, str], Entry]) -> None:
        """Complete the entries by what only the content tells."""
        for item in self._arrived.values():
            if item.entry.type == "file":
                item.entry = describe(item.entry, item.place)


class _Open:
    """A file that is being received."""

    def __init__(self, arrival: _Arrival, size: int) -> None:
        self._arrival = arrival
        self._size = size
        path = arrival.place
        with os_errors(path):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            self._descriptor = os.open(path, flags, 0o600)
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


def _size_at(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
