# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What OpenPGP files say without any key: what opens a message, and which keys a file holds (RFC 4880, RFC 9580).

Needs no gpg, so that a controller without it can judge the key files that it is to install.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

HEAD = 65536
"""Bytes of a message that hold all its session keys, unless it has hundreds of recipients."""
LARGEST_KEY_FILE = 4 << 20
_SESSION_KEY, _PASSPHRASE, _DATA = 1, 3, (18, 20)
_PUBLIC, _SECRET = (6, 14), (5, 7)
_ARMOR = re.compile(rb"-----BEGIN PGP [A-Z ]+-----\r?\n(.*?)(?:-----END PGP |\Z)", re.DOTALL)
_HIDDEN = "0" * 16


@dataclass(frozen=True)
class MessageKeys:
    """What opens a message. key_ids: 16 hexadecimal digits for each public key; all 0 where it is not said which."""

    key_ids: tuple[str, ...] = ()
    passphrase: bool = False


@dataclass(frozen=True)
class KeyFile:
    """What a file of keys holds. key_ids: of the primary keys and of their subkeys, as messages name them."""

    key_ids: frozenset[str]
    public: bool
    secret: bool


def message_keys(head: bytes) -> MessageKeys:
    """What opens the message that begins so; nothing where it is no encrypted message."""
    key_ids: list[str] = []
    passphrase = False
    for tag, body in _packets(_dearmored(head)):
        if tag == _SESSION_KEY and len(body) >= 9 and body[0] == 3:
            key_ids.append(body[1:9].hex().upper())
        elif tag == _SESSION_KEY:
            key_ids.append(_HIDDEN)
        elif tag == _PASSPHRASE:
            passphrase = True
        elif tag in _DATA:
            break
    return MessageKeys(tuple(dict.fromkeys(key_ids)), passphrase)


def keys_in(content: bytes) -> KeyFile:
    """The keys in a file, armored or not; none where it holds no keys."""
    key_ids: set[str] = set()
    public = secret = False
    for part in _parts(content):
        for tag, body in _packets(part):
            secret = secret or tag in _SECRET
            if tag in _PUBLIC:
                public = True
                key_ids.add(_key_id(body))
    return KeyFile(frozenset(key_ids - {_HIDDEN}), public, secret or b"PGP PRIVATE KEY BLOCK" in content)


def _key_id(body: bytes) -> str:
    """Of a public key: a part of its fingerprint."""
    version = body[0] if body else 0
    if version == 4:
        # What the standard prescribes, and no protection of anything.
        return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest()[-16:].upper()  # noqa: S324
    if version in (5, 6):
        mark = b"\x9a" if version == 5 else b"\x9b"
        return hashlib.sha256(mark + len(body).to_bytes(4, "big") + body).hexdigest()[:16].upper()
    return _HIDDEN


def _parts(content: bytes) -> Iterator[bytes]:
    if content[:1] and content[0] & 0x80:
        yield content
        return
    for block in _ARMOR.finditer(content):
        yield _decoded(block[1])


def _dearmored(head: bytes) -> bytes:
    return b"".join(_parts(head))


def _decoded(block: bytes) -> bytes:
    """The bytes of an armored block, as far as it is there: headers, an empty line, Base64, a checksum."""
    _headers, _empty, text = block.replace(b"\r\n", b"\n").partition(b"\n\n") if b": " in block else (b"", b"", block)
    encoded = b"".join(line.strip() for line in text.splitlines() if not line.startswith(b"="))
    try:
        return base64.b64decode(encoded[: len(encoded) // 4 * 4], validate=True)
    except binascii.Error:
        return b""


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each packet; of one that comes in parts, or is cut off, what there is of it."""
    position = 0
    while position + 1 < len(data) and data[position] & 0x80:
        first = data[position]
        position += 1
        if first & 0x40:
            tag = first & 0x3F
            length, used = _new_length(data[position : position + 5])
        else:
            tag = first >> 2 & 0x0F
            used = (1, 2, 4, 0)[first & 3]
            length = int.from_bytes(data[position : position + used], "big") if used else len(data)
        position += used
        yield tag, data[position : position + length]
        position += length


def _new_length(octets: bytes) -> tuple[int, int]:
    """The length of a packet and how many octets say so. Parts are of data alone, whose length does not matter here."""
    first = octets[0] if octets else 0
    if first < 192:
        return first, 1
    if first < 224:
        return ((first - 192) << 8) + (octets[1] if len(octets) > 1 else 0) + 192, 2
    if first == 255:
        return int.from_bytes(octets[1:5], "big"), 5
    return 1 << (first & 0x1F), 1
