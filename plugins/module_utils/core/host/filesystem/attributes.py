# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Extended attributes and POSIX access lists of files: those of the namespace ``user``, and the two lists.

Nothing else is read or set. A capability (``security.capability``) or an attribute that root trusts (``trusted.*``) is
a right that no owner has to give.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Optional, Union

from ..ownership import name_of_gid, name_of_uid

Attributes = tuple[tuple[str, bytes], ...]
"""Name and value, by name. The value of an access list is its text."""
Place = Union[str, int]

USER = "user."
ACCESS_LIST, DEFAULT_LIST = "system.posix_acl_access", "system.posix_acl_default"
ACCESS_LISTS = (ACCESS_LIST, DEFAULT_LIST)
_VERSION = 2
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_TAGS = {0x01: "user", 0x02: "user", 0x04: "group", 0x08: "group", 0x10: "mask", 0x20: "other"}
_NAMED_USER, _NAMED_GROUP = 0x02, 0x08


def is_kept(name: str) -> bool:
    """Whether an attribute of that name is one of those."""
    return name.startswith(USER) or name in ACCESS_LISTS


def names_at(place: Place) -> list[str]:
    """The names of a file's attributes that are kept; none where its filesystem has none."""
    try:
        return [name for name in _listed(place) if is_kept(name)]
    except OSError:
        return []


def _listed(place: Place) -> list[str]:
    return os.listxattr(place) if isinstance(place, int) else os.listxattr(place, follow_symlinks=False)


def attributes_at(place: Place) -> Attributes:
    """The attributes of a file, directory or symlink that are kept; what is gone meanwhile, or odd, is left out."""
    return tuple(sorted(_read(place)))


def _read(place: Place) -> Iterator[tuple[str, bytes]]:
    for name in names_at(place):
        value = value_at(place, name)
        if value is None:
            continue
        text = value if name not in ACCESS_LISTS else as_text(value)
        if text is not None:
            yield name, text


def value_at(place: Place, name: str) -> Optional[bytes]:
    """One attribute as the kernel has it; None where there is none."""
    try:
        return os.getxattr(place, name) if isinstance(place, int) else os.getxattr(place, name, follow_symlinks=False)
    except OSError:
        return None


@lru_cache(maxsize=256)
def _user(number: int) -> str:
    return name_of_uid(number).lstrip("#")


@lru_cache(maxsize=256)
def _group(number: int) -> str:
    return name_of_gid(number).lstrip("#")


def set_attribute(descriptor: int, name: str, value: bytes) -> None:
    """Set one on an open file or directory; a filesystem that has none, or no room, keeps none."""
    with contextlib.suppress(OSError):
        os.setxattr(descriptor, name, value)


def as_text(value: bytes) -> Optional[bytes]:
    """An access list as ``getfacl`` and tar write it, its entries joined by commas; None for what is none."""
    if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
        return None
    if _HEADER.unpack_from(value)[0] != _VERSION:
        return None
    entries = []
    for tag, permissions, number in _ENTRY.iter_unpack(value[_HEADER.size :]):
        if tag not in _TAGS:
            return None
        name = ""
        if tag in (_NAMED_USER, _NAMED_GROUP):
            name = (_user if tag == _NAMED_USER else _group)(number)
        rights = "".join(letter if permissions & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
        entries.append(f"{_TAGS[tag]}:{name}:{rights}")
    return ",".join(entries).encode("utf-8", "surrogateescape")
