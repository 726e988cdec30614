# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which keys can open an OpenPGP message: read from its first packets, as RFC 4880 and RFC 9580 lay them out."""

from __future__ import annotations

from typing import BinaryIO

PUBLIC_KEY_SESSION = 1
ENCRYPTED_DATA = (18, 20)
# A session key is a few hundred bytes; anything larger is not one.
LARGEST_PACKET = 8192
LARGEST_NUMBER_OF_KEYS = 64


class NotEncrypted(Exception):
    """The file is not a message that is encrypted to public keys, and to nothing else."""


def key_ids(file: BinaryIO) -> set[str]:
    """The key IDs that the message is encrypted to. Raises NotEncrypted for anything else than such a message."""
    found: set[str] = set()
    for _ in range(LARGEST_NUMBER_OF_KEYS):
        tag, length = _header(file)
        if tag in ENCRYPTED_DATA and found:
            return found
        if tag != PUBLIC_KEY_SESSION:
            raise NotEncrypted(f"expected a session key for a public key, found a packet of type {tag}")
        if not 10 <= length <= LARGEST_PACKET:
            raise NotEncrypted("expected a session key, found a packet of another size")
        found.add(_key_id(_exactly(file, length)))
    raise NotEncrypted("encrypted to more keys than anyone has")


def _key_id(body: bytes) -> str:
    if body[0] != 3 or not any(body[1:9]):
        raise NotEncrypted("the session key does not say for which key it is")
    return body[1:9].hex().upper()


def _header(file: BinaryIO) -> tuple[int, int]:
    """Type and length of the next packet. The length of the data itself, which may come in parts, does not matter."""
    first = _exactly(file, 1)[0]
    if not first & 0x80:
        raise NotEncrypted("not an OpenPGP message")
    if first & 0x40:
        return first & 0x3F, _new_length(file)
    size = {0: 1, 1: 2, 2: 4, 3: 0}[first & 0x03]
    return (first >> 2) & 0x0F, int.from_bytes(_exactly(file, size), "big")


def _new_length(file: BinaryIO) -> int:
    first = _exactly(file, 1)[0]
    if first < 192:
        return first
    if first < 224:
        return ((first - 192) << 8) + _exactly(file, 1)[0] + 192
    if first == 255:
        return int.from_bytes(_exactly(file, 4), "big")
    return 0


def _exactly(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) != size:
        raise NotEncrypted("the message ends too early")
    return found
