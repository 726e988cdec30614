# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Tar headers as bytes: ustar, extended by pax records where ustar has no room.

Python's ``tarfile`` spends most of its time on one object per entry and accepts much that must be refused, so headers
are packed and parsed here.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple, Optional
from zlib import adler32

from ..errors import HostileArchiveError
from .safety import damaged

BLOCK = 512
NANOSECONDS = 1_000_000_000
LARGEST_USTAR_SIZE = 0o77777777777
LARGEST_USTAR_ID = 0o7777777
MARK = "tradekeep archive, manifest last"
"""Comment of the global pax header at the front: an archive that bears it and lost its manifest is damaged."""

_FIELDS = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12s")
_DEVICE = b"0000000\0" * 2
_zeros = bytes(BLOCK)
_FILLINGS = [bytes(size) for size in range(BLOCK)]
_DECIMAL = re.compile(rb"(-?)([0-9]{1,18})(?:\.([0-9]*))?\Z")


class RawHeader(NamedTuple):
    """One header block, decoded but not judged."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    typeflag: bytes
    linkname: bytes
    uname: bytes
    gname: bytes


def padding(size: int) -> bytes:
    """The zeros that fill the last block of ``size`` bytes."""
    return _FILLINGS[-size % BLOCK]


def split_name(name: bytes) -> Optional[tuple[bytes, bytes]]:
    """(prefix, name) as ustar stores a path, None when it does not fit."""
    if len(name) <= 100:
        return b"", name
    if len(name) > 256:
        return None
    cut = name.find(b"/", len(name) - 101, len(name) - 1)
    return (name[:cut], name[cut + 1 :]) if 0 < cut <= 155 else None


class OwnerFields(NamedTuple):
    """The header fields of one owner and group; an application has few, so they are packed once."""

    numbers: bytes
    names: bytes
    records: tuple[tuple[str, bytes], ...]


def owner_fields(owner: str, group: str) -> OwnerFields:
    """``#1234`` becomes a number without a name; a name leaves the number 0, for it means nothing elsewhere."""
    records: list[tuple[str, bytes]] = []
    numbers, names = b"", b""
    for key, text in (("u", owner), ("g", group)):
        is_number = text[:1] == "#" and text[1:].isdecimal()
        number = int(text[1:]) if is_number else 0
        name = b"" if is_number else text.encode("utf-8", "surrogateescape")
        if number > LARGEST_USTAR_ID:
            records.append((f"{key}id", b"%d" % number))
            number = 0
        if len(name) > 31:
            records.append((f"{key}name", name))
            name = b""
        numbers += b"%07o\0" % number
        names += name.ljust(32, b"\0")
    return OwnerFields(numbers, names, tuple(records))


_MAGIC = b"ustar\x0000"


def sum_of(data: bytes) -> int:
    """The sum of at most 256 bytes, ten times as fast as ``sum``: the lower half of Adler-32, counted from zero."""
    return adler32(data, 0) & 0xFFFF


class HeaderTemplate:
    """What the headers of many entries have in common."""

    def __init__(self, mode: int, owner: OwnerFields, typeflag: bytes, link: bytes = b"", prefix: bytes = b"") -> None:
        self._head = b"%07o\0" % mode + owner.numbers
        self._tail = b"".join(
            (typeflag, link.ljust(100, b"\0"), _MAGIC, owner.names, _DEVICE, prefix.ljust(167, b"\0"))
        )
        # The checksum counts its own field as eight spaces.
        self._sum = sum(self._head) + sum(self._tail) + 8 * 32

    def pack(self, name: bytes, size: int, mtime: int) -> bytes:
        """One 512-byte block."""
        middle = b"%011o\0%011o\0" % (size, mtime)
        checksum = self._sum + (adler32(name + middle, 0) & 0xFFFF)  # as sum_of does; a call costs as much again
        return b"".join((name.ljust(100, b"\0"), self._head, middle, b"%06o\0 " % checksum, self._tail))


def pack_header(
    name: bytes, prefix: bytes, mode: int, owner: OwnerFields, size: int, mtime: int, typeflag: bytes, link: bytes = b""
) -> bytes:
    """One 512-byte block. Everything must fit; the caller has moved what does not into pax records."""
    return HeaderTemplate(mode, owner, typeflag, link, prefix).pack(name, size, mtime)


_NOBODY = owner_fields("#0", "#0")


def pack_pax(records: tuple[tuple[str, bytes], ...], typeflag: bytes = b"x") -> bytes:
    """Header and body of an extended header; values are raw bytes, as GNU tar writes them."""
    body = b"".join(_pax_record(key.encode("utf-8", "surrogateescape"), value) for key, value in records)
    name = b"pax_global_header" if typeflag == b"g" else b"PaxHeaders/entry"
    return pack_header(name, b"", 0o600, _NOBODY, len(body), 0, typeflag) + body + padding(len(body))


def _pax_record(key: bytes, value: bytes) -> bytes:
    length = bare = len(key) + len(value) + 3
    while length != bare + len(str(length)):
        length = bare + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


SPARSE_MAP = "GNU.sparse.map"
_SPARSE_PIECES = ("GNU.sparse.offset", "GNU.sparse.numbytes")


def parse_pax(body: bytes) -> dict[str, bytes]:
    """The records of an extended header.

    The oldest form of sparse files repeats two keys for each piece; they become the map of the next form.
    """
    records: dict[str, bytes] = {}
    pieces: list[bytes] = []
    at = 0
    while at < len(body):
        digits, space, _rest = body[at : at + 20].partition(b" ")
        if not space or not digits.isdigit():
            raise damaged("extended header has no length")
        end = at + int(digits)
        key, equals, value = body[at + len(digits) + 1 : end].partition(b"=")
        if not equals or end > len(body) or value[-1:] != b"\n":
            raise damaged("extended header is malformed")
        name = key.decode("utf-8", "surrogateescape")
        if name in _SPARSE_PIECES:
            pieces.append(value[:-1])
        records[name] = value[:-1]
        at = end
    if pieces:
        records[SPARSE_MAP] = b",".join(pieces)
    return records


def parse_header(block: bytes) -> RawHeader:
    """Decode one block; a wrong checksum or a number that is none is refused."""
    (name, mode, uid, gid, size, mtime, checksum, typeflag, link, magic, uname, gname, _major, _minor, prefix, _pad) = (
        _FIELDS.unpack(block)
    )
    # The checksum counts its own field as eight spaces.
    if number(checksum, name) != sum_of(block[:256]) + sum_of(block[256:]) - sum(checksum) + 256:
        raise damaged("header checksum is wrong", path=_shown(name))
    # Only the filling is taken off: a NUL inside a name stays, to be refused.
    name = name.rstrip(b"\0")
    if magic == _MAGIC and prefix[0]:
        name = prefix.rstrip(b"\0") + b"/" + name
    elif magic[:5] != b"ustar" and magic.strip(b"\0"):
        raise damaged("header has an unknown magic", path=_shown(name))
    return RawHeader(
        name,
        number(mode, name),
        number(uid, name),
        number(gid, name),
        number(size, name),
        number(mtime, name, signed=True),
        typeflag,
        link.rstrip(b"\0"),
        uname.partition(b"\0")[0],
        gname.partition(b"\0")[0],
    )


def begins_as_tar(first: bytes) -> bool:
    """Whether a file that begins so is a tar: its first header carries its own checksum, whatever its name begins with.

    An archive without any entry begins with an empty block.
    """
    block = first[:BLOCK]
    if len(block) < BLOCK:
        return False
    if not block.strip(b"\0"):
        return True
    digits = block[148:156].strip(b"\0 ")
    if not digits or not digits.isdigit() or b"8" in digits or b"9" in digits:
        return False
    return int(digits, 8) == sum(block) - sum(block[148:156]) + 256


class HeaderPattern(NamedTuple):
    """What a plain header of a file says apart from name, size and time, once it was judged in full."""

    mode: int
    owner: str
    group: str
    sum: int

    @staticmethod
    def key_of(block: bytes) -> bytes:
        """What headers of one pattern have in common: all but name, size, time and checksum."""
        return block[100:124] + block[156:]

    @classmethod
    def of(cls, block: bytes, mode: int, owner: str, group: str) -> Optional[HeaderPattern]:
        """The pattern of a judged header; None when part of its name lies elsewhere."""
        if block[257:265] != _MAGIC or block[345:] != _zeros[345:]:
            return None
        return cls(mode, owner, group, sum(block[100:124]) + sum(block[156:]) + 8 * 32)

    def read(self, block: bytes) -> Optional[tuple[bytes, int, int]]:
        """Name, size and time; None when anything about them is not as tradekeep writes it, checksum included."""
        name = block[:100].rstrip(b"\0")
        middle = block[124:148]
        if block[148:156] != b"%06o\0 " % (self.sum + sum_of(name) + sum_of(middle)):
            return None
        if not middle[:11].isdigit() or middle[11::12] != b"\0\0" or not middle[12:23].isdigit():
            return None
        try:
            return name, int(middle[:11], 8), int(middle[12:23], 8)
        except ValueError:
            return None


def apply_records(raw: RawHeader, records: dict[str, bytes]) -> RawHeader:
    """The header with what its extended header says in its place."""
    fields: dict[str, object] = {}
    for key, name in (("path", "name"), ("linkpath", "linkname"), ("uname", "uname"), ("gname", "gname")):
        if key in records:
            fields[name] = records[key]
    for key in ("size", "uid", "gid"):
        if key in records:
            if not records[key].isdigit() or len(records[key]) > 20:
                raise HostileArchiveError(
                    f"extended header has a bad {key}", path=_shown(records.get("path", raw.name))
                )
            fields[key] = int(records[key])
    return raw._replace(**fields)  # type: ignore[arg-type]  # the type of each value is that of its key


def nanoseconds(value: bytes, path: str) -> int:
    """A pax time, seconds with a fraction, as nanoseconds."""
    found = _DECIMAL.match(value)
    if found is None:
        raise damaged("extended header has a bad mtime", path=path)
    sign, seconds, fraction = found.groups()
    nanoseconds = int(seconds) * NANOSECONDS + int((fraction or b"")[:9].ljust(9, b"0"))
    return -nanoseconds if sign else nanoseconds


_LATEST = 10**18
"""Seconds, in both directions; as many as a pax time may have, and a system call takes."""


def number(field: bytes, name: bytes, *, signed: bool = False) -> int:
    """An octal or base-256 number. signed: it may be negative, as the time of a file from before 1970 is."""
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            raise damaged("header has a number with digits that are not octal", path=_shown(name)) from None
    if field[0] == 0x80:
        value = int.from_bytes(field[1:], "big")
        if not signed or value <= _LATEST:
            return value
    if signed and field[0] == 0xFF:
        value = int.from_bytes(field, "big", signed=True)
        if value >= -_LATEST:
            return value
    if not digits and not field.strip(b"\0 "):
        return 0
    raise HostileArchiveError("header has a negative or malformed number", path=_shown(name))


def _shown(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("utf-8", "surrogateescape")
