# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Small files captured the short way, in batches; everything else passes as it was found."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Callable, Optional, Union

from ..archive.alike import Batch, Pattern, Sealed
from ..archive.manifest import Entry
from ..archive.safety import FILE
from ..host.ownership import name_of_gid, name_of_uid
from ..kinds.small import SHORT_WAYS, settled_before
from .found import Found, Share, SmallFiles, Thing, opened

BATCH_BYTES = 256 << 10
CaptureShare = Callable[[Share], Iterator[Union[Batch, Sealed, Found]]]


def refuse_share(share: Share) -> Iterator[Union[Batch, Sealed, Found]]:
    """Nobody shares where nobody was given anything."""
    raise ValueError(f"share {share.number} belongs to nobody")


class Gatherer:
    """Makes batches of small files. copy_first: paths that are not to be captured so."""

    def __init__(self, copy_first: frozenset[str] = frozenset()) -> None:
        self._copy_first = copy_first
        self._patterns: dict[tuple[int, int, int, str, str], Optional[Pattern]] = {}
        # Asked once for each account, as a look-up reads the system's list anew.
        self._owner = lru_cache(maxsize=None)(name_of_uid)
        self._group = lru_cache(maxsize=None)(name_of_gid)

    def gather(
        self, things: Iterable[Union[Thing, Share]], capture: CaptureShare = refuse_share
    ) -> Iterator[Union[Batch, Sealed, Found]]:
        """All things in their order: small files in batches, some of them empty, the others as they were found."""
        for thing in things:
            if isinstance(thing, SmallFiles):
                yield from self._capture(thing)
            elif isinstance(thing, Share):
                yield from capture(thing)
            else:
                yield thing

    def _capture(self, files: SmallFiles) -> Iterator[Union[Batch, Found]]:
        directory, component = files.directory, files.component
        batch, settled = Batch(component), settled_before()
        with opened(directory.absolute) as descriptor:
            for name, kind, seen in zip(files.names, files.kinds, files.seen):
                if batch.size >= BATCH_BYTES:
                    yield batch
                    batch, settled = Batch(component), settled_before()
                path = f"{directory.path}/{name}"
                read = None
                if descriptor is not None and not self._copies(directory, path, name):
                    read = SHORT_WAYS[kind].read(name, seen, settled, descriptor)
                if read is None or not self._add(batch, path, kind, *read):
                    yield batch
                    yield Found.of_file(directory, name, component, kind, seen)
                    batch, settled = Batch(component), settled_before()
        yield batch

    def _copies(self, directory: Found, path: str, name: str) -> bool:
        return bool(self._copy_first) and not self._copy_first.isdisjoint((path, f"{directory.absolute}/{name}"))

    def _add(self, batch: Batch, path: str, kind: str, content: bytes, status: os.stat_result) -> bool:
        shared = status.st_mode, status.st_uid, status.st_gid, kind, batch.component
        try:
            pattern = self._patterns[shared]
        except KeyError:
            pattern = self._patterns[shared] = self._pattern(*shared)
        return pattern is not None and batch.add(pattern, path, status.st_mtime_ns, content)

    def _pattern(self, mode: int, uid: int, gid: int, kind: str, component: str) -> Optional[Pattern]:
        return Pattern.of(
            Entry(
                path="",
                type=FILE,
                mode=stat.S_IMODE(mode),
                owner=self._owner(uid),
                group=self._group(gid),
                kind=kind,
                component=component,
                facts=SHORT_WAYS[kind].facts,
            )
        )
