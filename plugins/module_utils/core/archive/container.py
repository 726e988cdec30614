# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The file around an archive: compressed, perhaps encrypted, written and read in one pass."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Callable, Optional, Union

from ..application import Encryption
from ..errors import ArchiveError
from ..host.account import Account
from ..host.companion import can_have_companion
from ..host.filesystem.identity import privileged, with_privileges
from ..host.worker import Outlet, Worker
from ..ports import NoProgress, Runner
from .compression import choose_engine, compressing, decompressed, in_process_engine
from .encryption import decrypting, encrypting, is_encrypted
from .follower import Followed, Follower
from .openpgp import HEAD
from .streams import READ_CHUNK, ChunkReader, Chunks, FileStage, Observed, Prefetch, Stage, ThreadStage
from .tar_reader import Readable
from .telling import Span

Observer = Callable[[Readable], Followed]


@dataclass(frozen=True)
class Readers:
    """Who reads an archive back while it is written: processes of an account that has nothing to do with the file.

    account: None leaves them the rights of who writes. observe: whether the observer is one of them as well. forked:
    called when they are there, before anything else is.
    """

    account: Optional[Account] = None
    observe: bool = False
    forked: Callable[[], None] = lambda: None


READ_BY_WRITER = Readers()


def _chunks_of(descriptor: int) -> Chunks:
    while chunk := os.read(descriptor, READ_CHUNK):
        yield chunk


class ContainerWriter:
    """A container in the making; a context manager.

    ``stream`` takes the tar stream. After the block: ``sha256`` and ``size`` of the file, ``observed``: what the
    observer returned, ``followed``: what the following process found, None without one.
    When the block is left by an exception the file is removed.
    """

    def __init__(
        self,
        path: Path,
        *,
        compression: str,
        encryption: Optional[Encryption],
        runner: Runner,
        observer: Optional[Observer],
        engine: Optional[str],
        follow: bool,
        readers: Readers,
    ) -> None:
        self._readers = readers
        self._observing: Optional[Worker] = None
        self._path = path
        self._runner = runner
        self._follow = follow
        self._follower: Optional[Follower] = None
        self._encryption = encryption
        self._observer = observer
        self._resources = contextlib.ExitStack()
        self._observed: Optional[Observed] = None
        self._verdict: Optional[Followed] = None
        self.compressor = choose_engine(compression, runner, engine)
        self.encrypted = encryption is not None and encryption.configured
        self.sha256 = ""
        self.size = 0
        self.observed: Optional[Followed] = None
        self.followed: Optional[Followed] = None

    @with_privileges
    def __enter__(self) -> ContainerWriter:
        self._file = FileStage(self._path)
        chain: Stage = self._file
        try:
            self._fork_readers()
            self._readers.forked()
            chain = ThreadStage(chain)
            if self._encryption is not None and self.encrypted:
                chain = self._resources.enter_context(encrypting(self._encryption, chain, self._runner))
            if self._observer is not None:
                chain = self._observed = Observed(chain, self._observe)
            self.stream = compressing(self.compressor, chain, self._runner)
        except BaseException:
            self._give_up(chain)
            raise
        return self

    def _fork_readers(self) -> None:
        """Before there is any thread."""
        if not can_have_companion():
            return
        account = self._readers.account
        if self._follow and not self.encrypted and self.compressor != "zstd":
            with contextlib.suppress(OSError):
                self._follower = Follower(self._path, self._runner, account)
                self._file.on_written = self._follower.written
        observer, runner = self._observer, self._runner
        if observer is not None and self._readers.observe:

            def observe(_outlet: Outlet, news: int) -> Followed:
                return observer(ChunkReader(decompressed(_chunks_of(news), runner)))

            self._observing = Worker(observe, account=account, progress=NoProgress())

    @with_privileges
    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is not None:
            self._give_up(self.stream)
            return
        try:
            self.stream.close()
        except BaseException:
            self._give_up(self.stream)
            raise
        self._resources.close()
        if self._observing is not None:
            self._observing.end()
        self.sha256, self.size = self._file.sha256, self._file.size
        self.observed = self._verdict
        self.followed = self._follower.finish() if self._follower else None

    @property
    def told(self) -> bool:
        """Whether anybody wants to hear what the manifest is going to say."""
        return self._follower is not None

    def tell(self, what: Union[bytes, Span]) -> None:
        """What the manifest is going to say, for the process that reads the archive back."""
        if self._follower is not None:
            self._follower.told(what)

    def _observe(self, chunks: Chunks) -> object:
        observer = self._observer
        if self._observing is not None:
            with contextlib.suppress(BrokenPipeError):  # then it says why
                for chunk in chunks:
                    self._observing.give(chunk)
            self._observing.close_input()
            self._verdict = Followed(*self._observing.finish())
        elif observer is not None:
            self._verdict = observer(ChunkReader(decompressed(chunks, self._runner)))
        return self._verdict

    def _give_up(self, chain: Stage) -> None:
        with contextlib.suppress(Exception):
            chain.abort()
        self._resources.close()
        if self._observing is not None:
            self._observing.end()
        if self._follower is not None:
            self._follower.abort()
        with contextlib.suppress(OSError):
            self._path.unlink()


def create_container(
    path: Union[str, Path],
    *,
    runner: Runner,
    compression: str = "gzip",
    encryption: Optional[Encryption] = None,
    observer: Optional[Observer] = None,
    engine: Optional[str] = None,
    follow: bool = False,
    readers: Readers = READ_BY_WRITER,
) -> ContainerWriter:
    """A new file at ``path`` (which must not exist), mode 0600, for one archive; use it in a ``with`` block.

    observer: gets the archive's plain tar stream while it is written, in a process of its own, and may refuse it by
    raising; so that what is encrypted to a public key can be verified without the private one. engine: which gzip,
    instead of the fastest at hand. follow: have another process read the file back while it is written (see
    ``follower``), where that is possible; worth its start for large archives. readers: whose processes these are.
    """
    return ContainerWriter(
        Path(path),
        compression=compression,
        encryption=encryption,
        runner=runner,
        observer=observer,
        engine=engine,
        follow=follow,
        readers=readers,
    )


class PlainStream:
    """What is decompressed of the chunks of a container, by a thread that is a little ahead of its reader.

    threads: without them it is slower, and no program is asked where there is a library.
    """

    def __init__(
        self, packed: Chunks, path: object, runner: Runner, engine: Optional[str] = None, *, threads: bool = True
    ) -> None:
        self._path = path
        plain = _decompressed(packed, runner, engine if threads else in_process_engine())
        self._stream = Prefetch(plain) if threads else ChunkReader(plain)

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; nothing only at the end."""
        try:
            return self._stream.read(size)
        except ArchiveError as error:
            error.path = error.path or str(self._path)
            raise

    def close(self) -> None:
        """Stop everything that still runs."""
        self._stream.close()


def _decompressed(packed: Chunks, runner: Runner, engine: Optional[str]) -> Chunks:
    """In the thread that asks for the first of it, where an error is kept for the reader."""
    yield from decompressed(packed, runner, engine)


class ContainerReader:
    """The plain tar stream of a container; ``sha256`` is the file's digest once it was read to its end.

    Where it was opened as packed, ``packed`` gives what a ``PlainStream`` in another process makes the same of.
    """

    def __init__(self, descriptor: int, path: Path, runner: Runner, engine: Optional[str]) -> None:
        self._digest = hashlib.sha256()
        self._complete = False
        self._descriptor = descriptor
        self._path = path
        self._runner = runner
        self._engine = engine
        self.archive_bytes = os.fstat(descriptor).st_size
        self.encrypted = False
        self._stream: Optional[PlainStream] = None
        self.packed: Chunks = self._raw()

    def open(self, passphrase_file: Optional[str], gnupg_home: Optional[str], stack: contextlib.ExitStack) -> None:
        """Have it decrypted where that is needed."""
        first = os.pread(self._descriptor, HEAD, 0)
        self.encrypted = is_encrypted(first)
        if self.encrypted:
            self.packed = stack.enter_context(
                decrypting(self.packed, first, self._runner, passphrase_file=passphrase_file, gnupg_home=gnupg_home)
            )

    def start(self) -> None:
        """Have it decompressed, too."""
        self._stream = PlainStream(self.packed, self._path, self._runner, self._engine)

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; nothing only at the end."""
        return b"" if self._stream is None else self._stream.read(size)

    def close(self) -> None:
        """Stop everything that still runs."""
        if self._stream is not None:
            self._stream.close()

    @property
    def sha256(self) -> Optional[str]:
        """Digest of the file, None until it was read to its end."""
        return self._digest.hexdigest() if self._complete else None

    def _raw(self) -> Chunks:
        while True:
            try:
                data = os.read(self._descriptor, READ_CHUNK)
            except OSError as error:
                raise ArchiveError(f"cannot be read: {error.strerror}", path=self._path) from error
            if not data:
                break
            self._digest.update(data)
            yield data
        self._complete = True


@contextlib.contextmanager
def open_container(
    path: Union[str, Path],
    *,
    runner: Runner,
    passphrase_file: Optional[str] = None,
    gnupg_home: Optional[str] = None,
    engine: Optional[str] = None,
    packed: bool = False,
) -> Iterator[ContainerReader]:
    """The decrypted and decompressed stream of the file at ``path``; what it is shows in its first bytes.

    packed: leave it compressed, for a process that has fewer rights (see ``ContainerReader.packed``).
    """
    stack = contextlib.ExitStack()
    try:
        yield _reader_of(Path(path), runner, passphrase_file, gnupg_home, engine, packed, stack)
    finally:
        # What it needed to read, a gpg home for instance, is ours.
        with privileged():
            stack.close()


@with_privileges
def _reader_of(
    path: Path,
    runner: Runner,
    passphrase_file: Optional[str],
    gnupg_home: Optional[str],
    engine: Optional[str],
    packed: bool,
    stack: contextlib.ExitStack,
) -> ContainerReader:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ArchiveError(f"cannot be opened: {error.strerror}", path=path) from error
    stack.callback(os.close, descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise ArchiveError("is no regular file", path=path)
    reader = ContainerReader(descriptor, path, runner, engine)
    reader.open(passphrase_file, gnupg_home, stack)
    if not packed:
        reader.start()
        # The thread that reads must have ended before what it reads from is taken down.
        stack.callback(reader.close)
    return reader
