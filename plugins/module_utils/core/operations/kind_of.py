# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The kind of a file, and what lies beside it as a part of it: the profile's word first, the name's where it has none.

Every operation asks here. A database by a rule may have any name, and what is named like one may be none.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Optional

from ..application import Profile
from ..archive.manifest import Entry
from ..errors import CaptureError
from ..kinds import default_kind
from ..kinds.base import FilePath
from ..kinds.reading import open_regular
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..kinds.sqlite_database import MAGIC
from ..patterns import Classified, Classifier, code_or_data

SQLITE = "sqlite"
_APPLE_DOUBLE = b"\0\5\x16\7"


def kind_at(lookup: Classifier, path: str) -> str:
    """The kind of a file, by its path below the root; also of one that no component has."""
    return kind_in(lookup.file(path), path)


def kind_in(classified: Optional[Classified], path: str) -> str:
    """The same, from what the profile says of the path."""
    return (classified.kind if classified else None) or default_kind(path[path.rfind("/") + 1 :])


def kind_of(profile: Profile, path: str) -> str:
    """The same for few paths, also of what git tracks by now."""
    return kind_in(code_or_data(profile, path), path)


def kind_of_entry(profile: Profile, entry: Entry) -> str:
    """The kind of what an archive holds: as it was captured, where the archive says so."""
    return entry.kind or kind_of(profile, entry.path)


def kind_inside(kind: str, place: FilePath) -> str:
    """The kind of what an archive without a manifest holds, by its first bytes where its name misleads.

    A Mac writes what it knows of a file beside it, under its name with ``._`` before it.
    """
    return "file" if kind == SQLITE and _beginning(place, len(_APPLE_DOUBLE)) == _APPLE_DOUBLE else kind


def kind_by_content(kind: Optional[str], place: FilePath, *, required: bool) -> Optional[str]:
    """The kind of a live file: what is named like a database and begins as something else is one only if required."""
    if kind != SQLITE or required:
        return kind
    return kind if _beginning(place, len(MAGIC)) in (MAGIC, b"") else "file"


def _beginning(place: FilePath, length: int) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        descriptor = open_regular(place)
    except CaptureError:
        return b""
    try:
        return os.pread(descriptor, length, 0)
    finally:
        os.close(descriptor)


def database_beside(name: str) -> Optional[str]:
    """The name, or path, of the file whose ``-wal``, ``-shm`` or ``-journal`` this may be."""
    for suffix in SIDECAR_SUFFIXES:
        if name.endswith(suffix):
            return name[: -len(suffix)] or None
    return None


def is_sidecar(lookup: Classifier, path: str, there: Collection[str]) -> bool:
    """Whether a file is a part of a database beside it, and never a file of its own. there: the names beside it.

    A ``-shm`` beside a WAL is none whatever they belong to: it holds nothing, and is made anew.
    """
    base = database_beside(path)
    if base is None or base[base.rfind("/") + 1 :] not in there:
        return False
    index = path.endswith("-shm") and f"{base[base.rfind('/') + 1 :]}-wal" in there
    return index or kind_at(lookup, base) == SQLITE


def without_sidecars(lookup: Classifier, directory: str, names: list[str]) -> list[str]:
    """The names in a directory that are no part of a database beside them."""
    if not any(suffix in "\0".join(names) for suffix in SIDECAR_SUFFIXES):
        return names
    there = set(names)
    return [
        name
        for name in names
        if not (name.endswith(SIDECAR_SUFFIXES) and is_sidecar(lookup, f"{directory}/{name}".lstrip("/"), there))
    ]


def tied(names: Iterable[str]) -> frozenset[str]:
    """Those of some names that lie side by side as a database and its WAL or journal do, whatever they are.

    Where they are taken as plain files, as an encrypted database is, they are worth something together alone.
    """
    endings = [name for name in names if name.endswith(SIDECAR_SUFFIXES)]
    if not endings:
        return frozenset()
    there = set(names)
    found: set[str] = set()
    for name in endings:
        base = database_beside(name)
        if base is not None and base in there:
            found |= {base, name}
    return frozenset(found)
