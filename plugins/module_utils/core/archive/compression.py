# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Compression by the fastest means at hand.

gzip: python-isal, else the programs ``igzip`` and ``pigz``, else zlib; all make, and read, the same format. Reading is
strict whatever the engine: an archive of tradekeep is exactly one whole member, one of another program any number of
them, and nothing behind.
"""

from __future__ import annotations

import contextlib
import zlib
from typing import Any, Optional

from ..errors import CommandError, UsageError
from ..ports import Runner
from .other_compression import no_archive, reader_of
from .safety import damaged
from .streams import CHUNK, Chunks, ProgramStage, Stage, ThreadStage, through_program
from .tar_headers import BLOCK, MARK, begins_as_tar

_isal: Any
try:
    from isal import isal_zlib

    _isal = isal_zlib
except ImportError:
    _isal = None

GZIP_WINDOW = 31
GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_HEAD = 4096
"""Bytes that show what a file is, and whose it is."""

_WRITE_PROGRAMS = {"igzip": ("igzip", "-c", "-1"), "pigz": ("pigz", "-c", "-1"), "zstd": ("zstd", "-q", "-c", "-T0")}
_READ_PROGRAMS = {"igzip": ("igzip", "-d", "-c"), "pigz": ("pigz", "-d", "-c"), "zstd": ("zstd", "-q", "-d", "-c")}
_ERRORS: tuple[type[Exception], ...] = (zlib.error,) if _isal is None else (zlib.error, _isal.error)


def choose_engine(compression: str, runner: Runner, engine: Optional[str] = None) -> str:
    """The name of the engine that will be used: isal, igzip, pigz, zlib or zstd."""
    if compression == "zstd":
        if runner.find("zstd") is None:
            raise CommandError("is not installed", path="zstd", hint="install zstd, or set compression to gzip")
        return "zstd"
    if compression != "gzip":
        raise UsageError(f"unknown compression '{compression}'", hint="use gzip or zstd")
    if engine is not None:
        return engine
    if _isal is not None:
        return "isal"
    return next((name for name in ("igzip", "pigz") if runner.find(name)), "zlib")


def in_process_engine() -> str:
    """The fastest engine for gzip that is no program."""
    return "zlib" if _isal is None else "isal"


def compressing(engine: str, following: Stage, runner: Runner) -> Stage:
    """A stage that compresses in another thread or process and passes on to ``following``."""
    if engine in _WRITE_PROGRAMS:
        return ProgramStage(runner.pipe(_WRITE_PROGRAMS[engine]), following)
    library: Any = _isal if engine == "isal" else zlib
    return ThreadStage(_DeflateStage(library.compressobj(1, zlib.DEFLATED, GZIP_WINDOW), following))


def fast_compressor(window: int) -> Any:
    """A compressor of the fastest engine that is no program; zlib can read what it makes."""
    library: Any = zlib if _isal is None else _isal
    return library.compressobj(1, zlib.DEFLATED, window)


class _DeflateStage:
    def __init__(self, compressor: Any, following: Stage) -> None:
        self._compressor = compressor
        self._following = following

    def write(self, data: bytes) -> None:
        packed = self._compressor.compress(data)
        if packed:
            self._following.write(packed)

    def close(self) -> None:
        self._following.write(self._compressor.flush())
        self._following.close()

    def abort(self) -> None:
        self._following.abort()


def decompressed(chunks: Chunks, runner: Runner, engine: Optional[str] = None) -> Chunks:
    """The plain bytes of a gzip, zstd or uncompressed tar stream, told apart by its first bytes."""
    first = b""
    for data in chunks:
        first += data
        if len(first) >= _HEAD:
            break
    whole = _with_first(first, chunks)
    if first.startswith(GZIP_MAGIC):
        if engine not in _READ_PROGRAMS and not _is_own(first):
            return _inflate_all(whole)
        chosen = choose_engine("gzip", runner, engine)
        # pigz reads more slowly than zlib in a thread: its speed is in writing.
        return _gunzip(whole, runner, "zlib" if engine is None and chosen == "pigz" else chosen)
    if first.startswith(ZSTD_MAGIC):
        choose_engine("zstd", runner)
        return through_program(runner.pipe(_READ_PROGRAMS["zstd"]), whole, _damaged_by)
    other = reader_of(first)
    if other is not None:
        return other(whole)
    if begins_as_tar(first) or first[257:262] == b"ustar":
        return whole
    chunks.close()
    if not first:
        raise damaged("archive is empty")
    raise no_archive(first)


def _is_own(first: bytes) -> bool:
    """Whether what is compressed begins as an archive of tradekeep does."""
    with contextlib.suppress(zlib.error):
        plain = zlib.decompressobj(GZIP_WINDOW).decompress(first, 2 * BLOCK)
        return MARK.encode("ascii") in plain[BLOCK:]
    return False


def _with_first(first: bytes, chunks: Chunks) -> Chunks:
    try:
        yield first
        yield from chunks
    finally:
        chunks.close()


def _damaged_by(error: CommandError) -> Exception:
    return damaged(f"archive cannot be decompressed: {error.message}")


def _gunzip(chunks: Chunks, runner: Runner, engine: str) -> Chunks:
    if engine in _READ_PROGRAMS:
        return _checked_gunzip(chunks, runner, engine)
    library: Any = _isal if engine == "isal" else zlib
    return _inflate(chunks, library.decompressobj(GZIP_WINDOW))


def _inflate_all(chunks: Chunks) -> Chunks:
    """Members that follow one another, as ``cat`` and parallel compressors join them; zeros fill up the last block."""
    library: Any = zlib if _isal is None else _isal
    inflater = None
    try:
        for data in chunks:
            while data:
                if inflater is None:
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    inflater = library.decompressobj(GZIP_WINDOW)
                plain = inflater.decompress(data, CHUNK)
                if plain:
                    yield plain
                data = inflater.unconsumed_tail
                if inflater.eof:
                    data, inflater = inflater.unused_data, None
                elif not data and len(plain) == CHUNK:
                    yield from _pending(inflater)
        if inflater is not None:
            raise damaged("archive is truncated")
    except _ERRORS as error:
        raise damaged(f"archive cannot be decompressed: {error}") from error
    finally:
        chunks.close()


def _pending(inflater: Any) -> Chunks:
    """What an inflater still holds although it has taken all of its input."""
    while plain := inflater.decompress(b"", CHUNK):
        yield plain


def _inflate(chunks: Chunks, inflater: Any) -> Chunks:
    try:
        for data in chunks:
            while data:
                if inflater.eof:
                    raise damaged("archive goes on after its end: several were joined, or garbage was added")
                yield inflater.decompress(data, CHUNK)
                data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        while not inflater.eof:
            data = inflater.decompress(b"", CHUNK)
            if not data:
                break
            yield data
        if not inflater.eof:
            raise damaged("archive is truncated")
    except _ERRORS as error:
        raise damaged(f"archive cannot be decompressed: {error}") from error
    finally:
        chunks.close()


class _LastBytes:
    """Remembers the trailer of a gzip stream: checksum and length of the one member it should be."""

    def __init__(self) -> None:
        self.trailer = b""

    def watch(self, chunks: Chunks) -> Chunks:
        try:
            for data in chunks:
                self.trailer = (self.trailer + data)[-8:] if len(data) < 8 else data[-8:]
                yield data
        finally:
            chunks.close()


def _checked_gunzip(chunks: Chunks, runner: Runner, engine: str) -> Chunks:
    """The programs read joined members and overlook garbage; the trailer at the very end gives both away."""
    last = _LastBytes()
    checksum = size = 0
    plain = through_program(runner.pipe(_READ_PROGRAMS[engine]), last.watch(chunks), _damaged_by)
    try:
        for data in plain:
            checksum = zlib.crc32(data, checksum)
            size += len(data)
            yield data
    finally:
        plain.close()
    if last.trailer != checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little"):
        raise damaged("archive is truncated, or goes on after its end")
