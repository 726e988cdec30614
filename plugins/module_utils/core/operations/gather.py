# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Small files that can be captured the short way, gathered in batches; everything else passes as it was found."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Callable, Optional, Union

from ..archive.alike import Batch, Pattern, Sealed
from ..archive.manifest import Entry
from ..archive.safety import FILE
from ..host.ownership import name_of_gid, name_of_uid
from ..kinds.reading import DIRECTORY_FLAGS
from ..kinds.small import SHORT_WAYS, SMALL, ShortWay, settled_before
from .scan import Found, Share

BATCH_BYTES = 256 << 10
CaptureShare = Callable[[Share], Iterator[Union[Batch, Sealed, Found]]]


def refuse_share(share: Share) -> Iterator[Union[Batch, Sealed, Found]]:
    """Nobody shares where nobody was given anything."""
    raise ValueError(f"share {share.number} belongs to nobody")


_Shared = tuple[int, int, int, Optional[str], str]


def may_be_short(found: Found) -> bool:
    """Whether the short way is worth a try."""
    return found.kind in SHORT_WAYS and found.size <= SMALL and found.type == "file" and not found.required


class Gatherer:
    """Makes batches of what can be captured the short way."""

    def __init__(self, copy_first: frozenset[str]) -> None:
        self._copy_first = copy_first
        self._patterns: dict[_Shared, Optional[Pattern]] = {}
        self._parent = ""
        self._directory: Optional[int] = None
        # Asked once for each account, as a look-up reads the system's list anew.
        self._owner = lru_cache(maxsize=None)(name_of_uid)
        self._group = lru_cache(maxsize=None)(name_of_gid)

    def gather_with(
        self, things: Iterable[Union[Found, Share]], capture: CaptureShare
    ) -> Iterator[Union[Batch, Sealed, Found]]:
        """The same; shares are captured by who has looked at them."""
        stream = iter(things)
        shares: list[Share] = []

        def up_to_a_share() -> Iterator[Found]:
            for thing in stream:
                if isinstance(thing, Share):
                    shares.append(thing)
                    return
                yield thing

        while True:
            yield from self.gather(up_to_a_share())
            if not shares:
                return
            yield from capture(shares.pop())

    def gather(self, things: Iterable[Found]) -> Iterator[Union[Batch, Found]]:
        """All things in their order: small files in batches, some of them empty, the others as they were found."""
        batch, settled = Batch(""), settled_before()
        try:
            for found in things:
                if batch.size >= BATCH_BYTES or batch.component != found.component:
                    yield batch
                    batch, settled = Batch(found.component), settled_before()
                if not self._take(batch, found, settled):
                    yield batch
                    yield found
                    batch, settled = Batch(found.component), settled_before()
        finally:
            self._leave()
        yield batch

    def _take(self, batch: Batch, found: Found, settled: int) -> bool:
        path, absolute, _type, component, kind, _required, _mode, seen = found
        way = SHORT_WAYS.get(kind)
        if way is None or seen.size > SMALL or path in self._copy_first:
            return False
        parent, _slash, name = absolute.rpartition("/")
        if parent != self._parent:
            self._enter(parent)
        if self._directory is None:
            return False
        read = way.read(name, seen, settled, self._directory)
        if read is None:
            return False
        content, status = read
        shared = status.st_mode, status.st_uid, status.st_gid, kind, component
        try:
            pattern = self._patterns[shared]
        except KeyError:
            pattern = self._patterns[shared] = self._pattern(status, way, found)
        return pattern is not None and batch.add(pattern, path, status.st_mtime_ns, content)

    def _enter(self, parent: str) -> None:
        """Have the directory open for all of its files: looking up each whole path takes as long as reading them."""
        self._leave()
        with contextlib.suppress(OSError):
            self._directory = os.open(parent, DIRECTORY_FLAGS)
            self._parent = parent

    def _leave(self) -> None:
        descriptor, self._directory, self._parent = self._directory, None, ""
        if descriptor is not None:
            os.close(descriptor)

    def _pattern(self, status: os.stat_result, way: ShortWay, found: Found) -> Optional[Pattern]:
        return Pattern.of(
            Entry(
                path="",
                type=FILE,
                mode=stat.S_IMODE(status.st_mode),
                owner=self._owner(status.st_uid),
                group=self._group(status.st_gid),
                kind=found.kind,
                component=found.component,
                facts=way.facts,
            )
        )
