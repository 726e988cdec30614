# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Extended attributes and access lists in an archive, in the records that GNU tar and bsdtar read and write.

Only those of the namespace ``user``, which an owner may set, and POSIX access lists: a capability or an attribute that
root trusts is taken from no archive and put into none.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from ..host.filesystem.attributes import ACCESS_LIST, DEFAULT_LIST, USER, Attributes, is_kept

NO_ATTRIBUTES: Attributes = ()
FACT = "attributes"
MOST_OF_ONE = 64 << 10
"""Bytes of names and values of one entry; the kernel's own limit for one value."""
MOST_OF_ALL = 32 << 20
"""The same of all entries of an archive: they are held in memory."""

_XATTR = "SCHILY.xattr."
_LISTS = {ACCESS_LIST: "SCHILY.acl.access", DEFAULT_LIST: "SCHILY.acl.default"}
_NAMES = {record: name for name, record in _LISTS.items()}


def is_record(key: str) -> bool:
    """Whether an extended header's key names such an attribute."""
    return key in _NAMES or key.startswith(_XATTR + USER)


def records_of(attributes: Attributes) -> tuple[tuple[str, bytes], ...]:
    """As records of an extended header."""
    return tuple((_LISTS.get(name) or _XATTR + _escaped(name), value) for name, value in attributes)


def attributes_in(records: Mapping[str, bytes]) -> Attributes:
    """What the records of an extended header say."""
    found = {_NAMES.get(key) or _plain(key[len(_XATTR) :]): records[key] for key in records if is_record(key)}
    return tuple(sorted(found.items()))


def _escaped(name: str) -> str:
    """A key ends at the first ``=``; GNU tar writes the name so."""
    return name.replace("%", "%25").replace("=", "%3D")


def _plain(name: str) -> str:
    return name.replace("%3D", "=").replace("%25", "%")


def size_of(attributes: Iterable[tuple[str, bytes]]) -> int:
    """Bytes of names and values."""
    return sum(len(name) + len(value) for name, value in attributes)


class Allowance:
    """How many attributes an archive may still have."""

    def __init__(self) -> None:
        self._left = MOST_OF_ALL

    def has_room_for(self, attributes: Attributes) -> bool:
        """Whether these are not too many; then they are counted."""
        size = size_of(attributes)
        if size > min(MOST_OF_ONE, self._left):
            return False
        self._left -= size
        return True


def as_fact(attributes: Attributes) -> dict[str, str]:
    """As a manifest says it."""
    return {name: base64.b64encode(value).decode("ascii") for name, value in attributes}


def of_facts(facts: Mapping[str, Any]) -> Attributes:
    """What the facts of an entry say. What is malformed, or has no place here, is left out."""
    said = facts.get(FACT)
    found: dict[str, bytes] = {}
    for name, text in said.items() if isinstance(said, dict) else ():
        if isinstance(name, str) and isinstance(text, str) and is_kept(name):
            try:
                found[name] = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                continue
    return tuple(sorted(found.items()))
