# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What every kind of file offers: a consistent capture, a check by the rules of its kind, a description."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Callable, NamedTuple, Optional, Protocol, Union, cast

from ..application import CheckLevel
from ..errors import ChangedWhileReadError
from ..host.filesystem.holes import Extents, pieces_of
from ..ports import Clock

FilePath = Union[str, Path]
"""Text where there are many: a Path for each of a hundred thousand files costs as much as reading them."""
NO_FACTS: Mapping[str, Any] = MappingProxyType({})


class Signature(NamedTuple):
    """What changes in ``stat`` when the content changes."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True)
class CaptureContext:
    """Where and how patiently files are captured.

    scratch: a private directory (0700) for copies. deadline_seconds: for one database, waiting for locks included.
    attempts: how often a file that changes while it is read is tried. copy_first: captures files that are usually
    streamed through a scratch copy, which costs a second read and cannot fail half way.
    """

    scratch: Path
    clock: Clock
    level: CheckLevel = CheckLevel.QUICK
    deadline_seconds: float = 300.0
    attempts: int = 20
    copy_first: bool = False


@dataclass(frozen=True)
class CheckReport:
    """What a check found. problems: the content is damaged. warnings: odd, but usable as it is."""

    kind: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.problems

    @property
    def unfinished(self) -> bool:
        """Whether nothing is known, since the check of a database took too long; a warning says so."""
        return self.kind == "sqlite" and not self.problems and not self.facts


class Captured:
    """A file's content, frozen at one moment. Use as a context manager, or call ``close``.

    status: of the file that was captured, whatever lies at its path by now. content: all of it, where it is small.
    """

    content: Optional[bytes] = None
    extents: Optional[Extents] = None
    """Which parts are data, where it is sparse; ``pieces`` gives these alone."""

    def __init__(self, size: int, facts: Mapping[str, Any], status: os.stat_result) -> None:
        self.size = size
        self.facts = facts
        self.status = status

    def open(self) -> BinaryIO:
        """A reader at the first byte, which ends after exactly ``size`` bytes."""
        raise NotImplementedError

    def pieces(self) -> Iterator[bytes]:
        """The data of a sparse one; nobody asks where ``extents`` says that it is none."""
        raise NotImplementedError

    def confirm(self) -> None:
        """After reading: raise ChangedWhileReadError if what was read may be torn."""

    def close(self) -> None:
        """Give back the descriptor or the scratch copy; may be called twice."""

    def __enter__(self) -> Captured:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()


class MemoryCaptured(Captured):
    """A small file, whole in memory."""

    def __init__(self, content: bytes, facts: Mapping[str, Any], status: os.stat_result) -> None:
        self.size = len(content)
        self.facts = facts
        self.status = status
        self.content = content

    def open(self) -> BinaryIO:
        return io.BytesIO(self.content or b"")

    def close(self) -> None:
        self.content = None


class ScratchCaptured(Captured):
    """A private copy, which is removed by ``close``."""

    def __init__(self, path: Path, facts: Mapping[str, Any], status: os.stat_result) -> None:
        super().__init__(path.stat().st_size, facts, status)
        self.path = path

    def pieces(self) -> Iterator[bytes]:
        with open(self.path, "rb", buffering=0) as copy:
            yield from pieces_of(copy.fileno(), self.extents or ())

    def open(self) -> BinaryIO:
        return cast(BinaryIO, open(self.path, "rb", buffering=0))

    def close(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.path)


class LiveCaptured(Captured):
    """The first ``size`` bytes of an open file; the descriptor pins the inode, so a rotation does no harm."""

    def __init__(
        self,
        path: FilePath,
        descriptor: int,
        size: int,
        facts: Mapping[str, Any],
        unchanged: Callable[[int], bool],
    ) -> None:
        super().__init__(size, facts, os.fstat(descriptor))
        self._path = path
        self.descriptor = descriptor
        self._unchanged = unchanged

    def pieces(self) -> Iterator[bytes]:
        return pieces_of(self.descriptor, self.extents or ())

    def open(self) -> BinaryIO:
        return cast(BinaryIO, _DescriptorReader(self._path, self.descriptor, self.size))

    def confirm(self) -> None:
        if not self._unchanged(self.descriptor):
            raise ChangedWhileReadError("changed while it was read", path=self._path)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class _DescriptorReader(io.RawIOBase):
    """Reads a descriptor by position, so that several readers do not disturb one another."""

    def __init__(self, path: FilePath, descriptor: int, size: int) -> None:
        super().__init__()
        self._path = path
        self._descriptor = descriptor
        self._left = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: Optional[int] = -1) -> bytes:
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        if wanted == 0:
            return b""
        chunk = os.pread(self._descriptor, wanted, self._position)
        if not chunk:
            raise ChangedWhileReadError("became shorter while it was read", path=self._path)
        self._position += len(chunk)
        self._left -= len(chunk)
        return chunk

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(1 << 20), b""))

    def readinto(self, buffer: Any) -> int:
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


class Kind(Protocol):
    """How one kind of file is captured, checked and described."""

    @property
    def name(self) -> str:
        """The word that profiles use."""

    @property
    def append_only(self) -> bool:
        """Whether writers only ever add to the end."""

    def capture(self, path: FilePath, context: CaptureContext, seen: Optional[Signature] = None) -> Captured:
        """A consistent copy of the live file. Raises CaptureError, or CheckError when the content is damaged.

        seen: what was seen at the path, a regular file; spares small files another look.
        """

    def check(self, path: Path, *, level: CheckLevel) -> CheckReport:
        """Judge a private copy or a finished file by the rules of its kind."""

    def describe(self, facts: dict[str, Any]) -> str:
        """The facts of a capture in a few words for people."""
