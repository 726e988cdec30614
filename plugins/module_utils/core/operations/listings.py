# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What directories hold, for who goes through the tree twice: remembered, and small files by the hundred.

Somebody else can look at a share of many names meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Optional, Protocol, Union

from ..application import Application
from ..kinds.base import Signature
from ..kinds.reading import may_change_unseen, signature_of
from ..patterns import classifier
from .found import Found, Share, Thing, look_together, names_in
from .kind_of import tied

MINE, SHARE = 450, 550
"""Names that are looked at here while somebody else looks at more; capturing, there is also writing to be done here."""


class Sharing(Protocol):
    """Somebody who looks at a share of many small files."""

    def give(self, directory: Found, names: Sequence[str]) -> bool:
        """Whether they look at them; then ``take`` waits for what they saw."""

    def take(self, directory: Found, names: Sequence[str]) -> Optional[Share]:
        """What they saw; None when it has to be looked at by who asks."""


class Listings:
    """What directories hold, good as long as a directory has not changed; for so many things at most.

    sharing: who looks at a share of what can be remembered.
    """

    def __init__(self, application: Application, most: int = 100_000, sharing: Optional[Sharing] = None) -> None:
        self._lookup = classifier(application.profile)
        self._left = most
        self._kept: dict[str, tuple[Signature, list[Union[Thing, Share]]]] = {}
        self._sharing = sharing

    def children(self, directory: Found) -> list[Union[Thing, Share]]:
        """What a directory holds, by name; the second time as remembered, if the directory is as it was."""
        kept = self._take(directory)
        if kept is not None:
            return kept
        names = names_in(directory, self._lookup)
        settled = not may_change_unseen(directory.signature.changed_ns)
        # What belongs together is looked at together.
        if len(names) > self._left or not settled or tied(names):
            return list(look_together(self._lookup, directory, names))
        children = list(self._look(directory, names))
        self._left -= len(names)
        self._kept[directory.absolute] = directory.signature, children
        return children

    def _take(self, directory: Found) -> Optional[list[Union[Thing, Share]]]:
        signature, children = self._kept.pop(directory.absolute, (None, []))
        if signature is None:
            return None
        try:
            return children if signature_of(os.lstat(directory.absolute)) == signature else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _look(self, directory: Found, names: Sequence[str]) -> Iterator[Union[Thing, Share]]:
        sharing = self._sharing
        for start in range(0, len(names), MINE + SHARE):
            mine, others = names[start : start + MINE], names[start + MINE : start + MINE + SHARE]
            given = sharing is not None and len(others) > SHARE // 2 and sharing.give(directory, others)
            yield from look_together(self._lookup, directory, mine)
            share = sharing.take(directory, others) if sharing is not None and given else None
            yield from look_together(self._lookup, directory, others) if share is None else (share,)
