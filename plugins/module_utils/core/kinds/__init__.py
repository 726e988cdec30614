# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""One file for each kind of data: how it is captured, checked and described."""

from __future__ import annotations

from ..errors import ConfigurationError
from .base import CaptureContext, Captured, CheckReport, Kind
from .json_document import JsonDocumentKind
from .jsonl import JsonLinesKind
from .log import LogKind
from .plain_file import PlainFileKind
from .sqlite import SIDECAR_SUFFIXES, SqliteKind

__all__ = [
    "KIND_NAMES",
    "SIDECAR_SUFFIXES",
    "CaptureContext",
    "Captured",
    "CheckReport",
    "Kind",
    "default_kind",
    "kind_named",
]

_KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (SqliteKind(), JsonDocumentKind(), JsonLinesKind(), LogKind(), PlainFileKind())
}

KIND_NAMES: tuple[str, ...] = tuple(_KINDS)

_BY_SUFFIX = (
    ((".db", ".sqlite", ".sqlite3"), "sqlite"),
    ((".json", ".json.bak"), "json"),
    ((".jsonl", ".jsonl.gz"), "jsonl"),
    ((".log",), "log"),
)

_EXTENSIONS = frozenset(suffix.rpartition(".")[2] for suffixes, _name in _BY_SUFFIX for suffix in suffixes)


def kind_named(name: str) -> Kind:
    """The kind of that name. Raises ConfigurationError."""
    try:
        return _KINDS[name]
    except KeyError:
        raise ConfigurationError(f"no such kind: {name}", hint=f"one of {', '.join(KIND_NAMES)}") from None


def default_kind(filename: str) -> str:
    """The kind of a file for which the profile names none."""
    lowered = filename.lower()
    if lowered[lowered.rfind(".") + 1 :] not in _EXTENSIONS:
        return "file"
    for suffixes, name in _BY_SUFFIX:
        if lowered.endswith(suffixes):
            return name
    return "file"
