# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Reads an archive back from the disk while it is still being written, in a process of its own.

It hears how far the file has come, reads that far, and checks every entry against the manifest as any verification
does. The manifest comes last; so that all of it does not remain to be compared then, its lines are told ahead, and what
is read in the end must be what was told. It only ever reports success: whatever else becomes of it, the archive is read
again in the ordinary way, which then says what is wrong.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Optional, Union

from ..host.account import Account
from ..host.companion import Companion, exactly
from ..host.files import write_all
from ..ports import Runner
from ..signals import answer
from .comparison import Told
from .compression import decompressed, in_process_engine
from .streams import READ_CHUNK, ChunkReader, Chunks
from .tar_reader import read_archive
from .telling import Span

_NUMBER = 8
_TEXT = 1 << 62
"""Added to the length of a text that follows."""
_SPAN = struct.Struct("!4Q32s")
_A_SPAN = 1 << 61
"""The number in front of one."""
_END = b"\xff" * _NUMBER


class Followed(NamedTuple):
    """A whole archive that agrees with its manifest; ``sha256`` is of the very bytes that were read for it."""

    sha256: str
    manifest_sha256: str
    entries: int
    bytes: int


class Follower:
    """The writer's side. Raises OSError where there can be no other process.

    account: whose rights the other process has; None leaves it those of the writer.
    """

    def __init__(self, path: Path, runner: Runner, account: Optional[Account] = None) -> None:
        # Opened here: the account that reads it cannot reach it by its name.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._companion = Companion(
                lambda news, answer: _answer(answer, _read(descriptor, runner, news)),
                account=account,
                keep=(descriptor,),
            )
        finally:
            os.close(descriptor)

    def written(self, size: int) -> None:
        """The file has so many bytes now."""
        self._companion.tell(size.to_bytes(_NUMBER, "big"))

    def told(self, what: Union[bytes, Span]) -> None:
        """What comes next in the manifest, which is to be written."""
        if isinstance(what, Span):
            self._companion.tell(_A_SPAN.to_bytes(_NUMBER, "big") + _SPAN.pack(*what))
        else:
            self._companion.tell((_TEXT + len(what)).to_bytes(_NUMBER, "big") + what)

    def finish(self) -> Optional[Followed]:
        """The file is whole. What was found in it; None when it has to be read in the ordinary way."""
        self._companion.tell(_END)
        try:
            return Followed(*json.loads(self._companion.answer()))
        except (ValueError, TypeError):
            return None

    def abort(self) -> None:
        """Nobody wants to know any more; may be called twice."""
        self._companion.end()


def _answer(descriptor: int, found: Followed) -> None:
    write_all(descriptor, json.dumps(found).encode("ascii"))


def _read(descriptor: int, runner: Runner, news: int) -> Followed:
    digest = sha256()
    told = Told()

    def chunks() -> Chunks:
        left = 0
        for grown in _growth(news, told):
            left += grown
            while left:
                answer()
                data = os.read(descriptor, min(left, READ_CHUNK))
                if not data:
                    raise EOFError
                left -= len(data)
                digest.update(data)
                yield data

    report = read_archive(ChunkReader(decompressed(chunks(), runner, in_process_engine())), told=told)
    return Followed(digest.hexdigest(), report.manifest_sha256 or "", report.entries, report.bytes)


def _growth(news: int, told: Told) -> Iterator[int]:
    """By how much the file has grown, until it is whole. Raises EOFError when the writer is gone before."""
    size = 0
    while True:
        message = exactly(news, _NUMBER)
        if message == _END:
            return
        number = int.from_bytes(message, "big")
        if number >= _TEXT:
            told.hear(exactly(news, number - _TEXT))
        elif number == _A_SPAN:
            told.spans.append(Span(*_SPAN.unpack(exactly(news, _SPAN.size))))
        else:
            yield number - size
            size = number
