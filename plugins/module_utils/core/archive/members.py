# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a reader of archives hands out: members, sinks that take them, and the report at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Optional, Protocol

from ..host.filesystem.attributes import Attributes
from ..host.filesystem.holes import Extents, data_bytes
from .attributes import NO_ATTRIBUTES
from .manifest import Entry, Header
from .safety import FILE


class Member(NamedTuple):
    """One entry as the tar stream tells it, already found harmless.

    target_stays_inside: false for symlinks that are absolute or can lead out of the archive's root. extents: which
    parts of a sparse file are data; its chunks are these alone. again: takes the place of an earlier entry of this
    name. attributes: extended attributes and access lists, by the names that they have in an extended header.
    """

    path: str
    type: str
    size: int
    mode: int
    owner: str
    group: str
    mtime_ns: int
    target: Optional[str] = None
    target_stays_inside: bool = True
    extents: Optional[Extents] = None
    attributes: Attributes = NO_ATTRIBUTES
    again: bool = False

    @property
    def data_bytes(self) -> int:
        """How much of a file is no hole."""
        return self.size if self.extents is None else data_bytes(self.extents)


class Sink(Protocol):
    """Takes an archive's entries in their order. Whatever it raises ends the reading."""

    def on_directory(self, member: Member) -> None:
        """A directory."""

    def on_symlink(self, member: Member) -> None:
        """A symlink; look at ``target_stays_inside`` before making one."""

    def on_hardlink(self, member: Member) -> None:
        """Another name of an earlier file (``target``); only in foreign archives."""

    def on_file(self, member: Member, chunks: Iterator[bytes]) -> None:
        """A file; chunks that are not taken are read and checked all the same."""

    def on_entry(self, entry: Entry) -> None:
        """An entry of the manifest that agrees with what was read; after all members, in the same order.

        Foreign archives have none: there it comes right after its member, made from the tar header.
        """


class NullSink:
    """Takes nothing: the archive is only checked."""

    def on_directory(self, member: Member) -> None:
        """Nothing."""

    def on_symlink(self, member: Member) -> None:
        """Nothing."""

    def on_hardlink(self, member: Member) -> None:
        """Nothing."""

    def on_file(self, member: Member, chunks: Iterator[bytes]) -> None:
        """Nothing."""

    def on_entry(self, entry: Entry) -> None:
        """Nothing."""


@dataclass(frozen=True)
class ReadReport:
    """What an archive turned out to be.

    layout: ``tradekeep`` or ``foreign`` (no manifest: only weaker checks were possible). stripped_prefix: leading
    directories of a foreign archive that are to be removed to get paths relative to the application's root.
    problems: where archive and manifest disagree. notes: what was tolerated. unsafe_links: symlinks that could lead
    out, the first hundred of each.
    """

    layout: str
    header: Optional[Header]
    entries: int
    files: int
    bytes: int
    stripped_prefix: str = ""
    manifest_sha256: Optional[str] = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unsafe_links: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether archive and manifest agree."""
        return not self.problems


class LayoutOfForeign:
    """Finds out which leading directories the old scripts put around the data: ``NAME`` or ``NAME/user_data``."""

    DATA = "user_data"

    def __init__(self) -> None:
        self._tops: set[str] = set()
        self._has_top_file = False
        self._has_data = False

    def see(self, member: Member) -> None:
        """One more entry."""
        top, slash, rest = member.path.partition("/")
        if len(self._tops) < 2:
            self._tops.add(top)
        if not slash and member.type == FILE:
            self._has_top_file = True
        if rest == self.DATA or rest.startswith(self.DATA + "/"):
            self._has_data = True

    @property
    def prefix(self) -> str:
        """The directories to remove, without a slash at the end."""
        if len(self._tops) != 1 or self._has_top_file:
            return ""
        top = next(iter(self._tops))
        return f"{top}/{self.DATA}" if self._has_data else top
