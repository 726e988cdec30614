# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Compressions that tradekeep reads and does not write: bzip2 and xz, in any number of streams.

Both by the standard library, within bounds of memory. Of all others it is said how to get to something that is read.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from ..errors import ArchiveError
from .safety import damaged
from .streams import CHUNK, Chunks
from .tar_foreign import ARCHIVE, PACK_AGAIN

# An interpreter may have been built without them.
_bz2: Any
_lzma: Any
try:
    import bz2

    _bz2 = bz2
except ImportError:
    _bz2 = None
try:
    import lzma
    from lzma import LZMAError

    _lzma = lzma
except ImportError:
    _lzma = None
    LZMAError = EOFError  # type: ignore[misc,assignment]  # never raised then: one of those that are caught anyway

MOST_MEMORY = 256 << 20
"""What unpacking may take: four times as much as ``xz -9`` asks for."""

_BZ2, _XZ, _LZMA = b"BZh", b"\xfd7zXZ\x00", b"\x5d\x00\x00"
_READ_BY = (
    (b"\x1f\x9d", "compress", "gzip"),
    (b"LZIP", "lzip", "lzip"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4"),
    (b"\x89LZO", "lzop", "lzop"),
)
_OTHERS = (
    (b"PK\x03\x04", "zip", f"unzip {ARCHIVE} -d unpacked"),
    (b"7z\xbc\xaf\x27\x1c", "7z", f"7z x {ARCHIVE} -ounpacked"),
    (b"070701", "cpio", f"(cd unpacked && cpio -idm) < {ARCHIVE}"),
    (b"Rar!", "rar", f"unrar x {ARCHIVE} unpacked/"),
)


def reader_of(first: bytes) -> Optional[Callable[[Chunks], Chunks]]:
    """What unpacks a stream that begins so; None where it is neither bzip2 nor xz."""
    if first.startswith(_BZ2):
        if _bz2 is None:
            raise _cannot("bzip2", "bzip2")
        return lambda chunks: _unpacked(chunks, _bz2.BZ2Decompressor, "bzip2", b"")
    if first.startswith((_XZ, _LZMA)):
        if _lzma is None:
            raise _cannot("xz", "xz")
        return lambda chunks: _unpacked(chunks, lambda: _lzma.LZMADecompressor(memlimit=MOST_MEMORY), "xz", b"\0")
    return None


def no_archive(first: bytes) -> ArchiveError:
    """For what is neither a tar nor compressed in a way that is read here."""
    for magic, name, program in _READ_BY:
        if first.startswith(magic):
            return _cannot(name, program)
    for magic, name, command in _OTHERS:
        if first.startswith(magic):
            hint = f"{PACK_AGAIN}: mkdir unpacked && {command} && tar -czf repacked.tar.gz -C unpacked ."
            return ArchiveError(f"is a {name} archive, no tar", hint=hint)
    return ArchiveError(
        "is no archive: neither gzip, zstd, xz, bzip2 nor tar", hint="name a .tar.gz, .tar.zst or encrypted backup"
    )


def _cannot(name: str, program: str) -> ArchiveError:
    hint = f"{PACK_AGAIN}: {program} -dc < {ARCHIVE} | gzip > repacked.tar.gz"
    return ArchiveError(f"is compressed by {name}, which cannot be read here", hint=hint)


def _unpacked(chunks: Chunks, make: Callable[[], Any], name: str, padding: bytes) -> Chunks:
    """padding: what may lie between and behind the streams."""
    unpacker: Any = None
    try:
        for data in chunks:
            while data:
                if unpacker is None:
                    data = data.lstrip(padding) if padding else data
                    if not data:
                        break
                    unpacker = make()
                yield from _some(unpacker, data)
                data = b""
                if unpacker.eof:
                    data, unpacker = unpacker.unused_data, None
        if unpacker is not None:
            raise damaged("archive is truncated")
    except (OSError, EOFError, MemoryError, LZMAError) as error:
        if "limit" in str(error).lower() or isinstance(error, MemoryError):
            raise _cannot(f"{name} with more memory than is allowed ({MOST_MEMORY >> 20} MiB)", name) from error
        raise damaged(f"archive cannot be decompressed: {error}") from error
    finally:
        chunks.close()


def _some(unpacker: Any, data: bytes) -> Chunks:
    """What comes of a chunk, in pieces of bounded size."""
    while True:
        plain = unpacker.decompress(data, CHUNK)
        if plain:
            yield plain
        data = b""
        if unpacker.eof or unpacker.needs_input:
            return
