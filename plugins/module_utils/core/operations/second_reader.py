# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A second process that looks at a share of the many small files of a tree, and later captures it.

It is told names in a directory and says what they come to. When all of the tree was looked at, it captures its shares
one after the other, a little ahead of who writes them. What it does not do, because a file is not as simple as that or
because the process has died, the first process does itself.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import Optional, Union

from ..archive.alike import Batch, Sealed
from ..host.companion import Companion, can_have_companion, exactly
from ..host.files import write_all
from ..patterns import Classifier
from .found import Found, Share, SmallFiles, look, look_together
from .gather import Gatherer

_REQUEST = struct.Struct("!cQ")
_LOOK, _CAPTURE = b"L", b"C"
_LOOKED = struct.Struct("!3Q")
"""Files, bytes, length of the component's name; no files when they are not all alike."""
_ITEM = struct.Struct("!c4Q32s")
"""What it is, bytes of content, lengths of the three parts that follow, digest of the last."""
_SEALED, _FOUND, _END = b"S", b"F", b"E"
_NO_DIGEST = bytes(32)

Captured = Iterator[Union[Batch, Sealed, Found]]


class SecondReader:
    """The first process's side; a context manager. The other process is there once it has something to do."""

    def __init__(self, lookup: Classifier) -> None:
        self._lookup = lookup
        self._companion: Optional[Companion] = None
        self._usable = True
        self._shares = 0
        self._captured = 0

    def __enter__(self) -> SecondReader:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._give_up()

    def give(self, directory: Found, names: Sequence[str]) -> bool:
        """Have it look at things of a directory; whether it does, and ``take`` will tell."""
        if not self._usable or not (self._companion or can_have_companion()):
            return False
        try:
            if self._companion is None:
                self._companion = Companion(lambda news, answer: _Side(self._lookup, news, answer).work())
            self._ask(_LOOK, directory.path, directory.absolute, *names)
        except OSError:
            self._give_up()
        return self._usable

    def take(self, directory: Found, names: Sequence[str]) -> Optional[Share]:
        """What it saw there; None when it is not simple enough to be its own."""
        if self._companion is None:
            return None
        try:
            files, size, length = _LOOKED.unpack(self._companion.hear(_LOOKED.size))
            component = os.fsdecode(self._companion.hear(length))
        except EOFError:
            self._give_up()
            return None
        if not files:
            return None
        self._shares += 1
        return Share(self._shares, directory, names, component, files, size)

    def capture(self, share: Share) -> Captured:
        """What a share holds by now: captured, or as it was found. Shares come in the order of ``take``."""
        done: set[str] = set()
        try:
            for item in self._capture(share):
                done.update(item.paths if isinstance(item, Sealed) else (item.path,))
                yield item
        except EOFError:
            self._give_up()
            rest = [name for name in share.names if f"{share.directory.path}/{name}" not in done]
            yield from Gatherer().gather(look_together(self._lookup, share.directory, rest))

    def _capture(self, share: Share) -> Iterator[Union[Sealed, Found]]:
        companion = self._companion
        if companion is None or share.number <= self._captured:
            raise EOFError
        if self._usable:
            # Nothing more to look at.
            self._usable = False
            self._ask(_CAPTURE)
        while self._captured < share.number:
            what, size, *lengths, digest = _ITEM.unpack(companion.hear(_ITEM.size))
            names, text, data = (companion.hear(length) for length in lengths)
            if what == _END:
                self._captured += 1
            elif self._captured + 1 < share.number:
                continue  # its directory has changed meanwhile, and was listed anew
            elif what == _SEALED:
                yield Sealed(share.component, names.decode("ascii").split("\0"), text, data, digest, size)
            else:
                yield from look(self._lookup, share.directory, [os.fsdecode(names)])

    def _ask(self, what: bytes, *texts: str) -> None:
        message = os.fsencode("\0".join(texts))
        if self._companion is not None:
            self._companion.tell(_REQUEST.pack(what, len(message)) + message)

    def _give_up(self) -> None:
        self._usable = False
        companion, self._companion = self._companion, None
        if companion is not None:
            companion.end()


class _Side:
    """The second process's side. Raises EOFError when the first is gone."""

    def __init__(self, lookup: Classifier, news: int, answer: int) -> None:
        self._lookup = lookup
        self._news = news
        self._answer = answer
        self._shares: list[SmallFiles] = []

    def work(self) -> None:
        """All of it."""
        while True:
            what, length = _REQUEST.unpack(exactly(self._news, _REQUEST.size))
            if what == _CAPTURE:
                break
            self._look_at(*os.fsdecode(exactly(self._news, length)).split("\0"))
        for share in self._shares:
            for item in Gatherer().gather([share]):
                self._say(item)
            self._write(_ITEM.pack(_END, 0, 0, 0, 0, _NO_DIGEST))

    def _look_at(self, path: str, absolute: str, *names: str) -> None:
        things = look_together(self._lookup, Found.of_directory(path, absolute), names)
        share = things[0] if len(things) == 1 else None
        if not isinstance(share, SmallFiles):
            self._write(_LOOKED.pack(0, 0, 0))
            return
        self._shares.append(share)
        component = os.fsencode(share.component)
        self._write(_LOOKED.pack(share.files, share.size, len(component)) + component)

    def _say(self, item: Union[Batch, Sealed, Found]) -> None:
        if isinstance(item, Found):
            name = os.fsencode(item.path.rpartition("/")[2])
            self._write(_ITEM.pack(_FOUND, 0, len(name), 0, 0, _NO_DIGEST) + name)
        elif item.paths:
            sealed = item if isinstance(item, Sealed) else item.sealed()
            paths = "\0".join(sealed.paths).encode("ascii")
            lengths = len(paths), len(sealed.text), len(sealed.data)
            self._write(_ITEM.pack(_SEALED, sealed.bytes, *lengths, sealed.sha256) + paths + sealed.text)
            self._write(sealed.data)

    def _write(self, message: bytes) -> None:
        write_all(self._answer, message)
