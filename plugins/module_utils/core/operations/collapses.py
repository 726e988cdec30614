# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which backups are the last ones before far less was backed up, so that retention does not remove them unseen.

A backup is one where none that was made later holds nearly as much. What comes back later takes its place, and each
further one has to hold several times as much: there are never many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from ..application import Application
from ..storage.backup import Backup
from .basis import Basis, basis_in
from .losses import ANY, FEW_BYTES, FEW_FILES, watched
from .shrinking import SMALL_TABLE_ROWS, collapsed, table_may_shrink
from .text import counted, human_bytes

BEFORE_LOSS = "last before a loss"
_FILES, _BYTES, _ROWS = "files", "bytes", "rows"


class _Key(NamedTuple):
    """What is counted: files or bytes of a component as it is defined, or rows of a database or of one table of it."""

    sort: str
    name: str
    definition: str = ""


def before_losses(application: Application, backups: Sequence[Backup], kept: Collection[str]) -> dict[str, str]:
    """Why some of these backups (newest first) are to be kept, by name. kept: the names of those that are anyway."""
    most: Optional[dict[_Key, int]] = None
    reasons: dict[str, str] = {}
    drained: set[tuple[str, str]] = set()
    for backup in backups:
        measures = _measures(application, backup, drained)
        if measures is None:
            continue
        lost = [] if most is None else [key for key in measures if _is_loss(application, key, measures[key], most)]
        if lost and not backup.released:
            left = (most or {}).get(lost[0], 0)
            reasons[backup.name] = f"{BEFORE_LOSS}: {_said(lost[0], measures[lost[0]])}, later ones at most {left}"
        if lost or backup.name in kept:
            # Also one that was released: somebody knows of that loss, which older backups would show again.
            most = {key: max(measures.get(key, 0), (most or {}).get(key, 0)) for key in {*measures, *(most or {})}}
    return reasons


def _is_loss(application: Application, key: _Key, held: int, later: Mapping[_Key, int]) -> bool:
    """Whether none that was made later holds nearly as much of something."""
    profile = application.profile
    if key.sort == _ROWS:
        few = held < SMALL_TABLE_ROWS
        return not few and collapsed(held, later.get(key, 0), profile.maximum_row_loss_percent, SMALL_TABLE_ROWS)
    # Where the profile says something else of the component since, only all of it is a loss.
    counts = [count for other, count in later.items() if other[:2] == key[:2]]
    if not counts:
        return False
    if key.sort == _FILES:
        percent, few_left = profile.maximum_file_loss_percent, FEW_FILES
    else:
        percent, few_left = profile.maximum_byte_loss_percent, FEW_BYTES
    return collapsed(held, later.get(key, max(counts)), percent, few_left if key in later else ANY)


def _measures(application: Application, backup: Backup, drained: set[tuple[str, str]]) -> Optional[Mapping[_Key, int]]:
    """What a backup holds of what matters; None where it does not say.

    drained: tables of which a later backup was made although most of their rows had gone; those of this one are added.
    """
    if "components" not in backup.sidecar:
        return None
    basis = basis_in(backup)
    if basis is None:
        return None
    drained |= {(path, table) for path, tables in basis.drained.items() for table in tables}
    return dict(_each(application, basis, drained))


def _each(application: Application, basis: Basis, drained: Collection[tuple[str, str]]) -> Iterator[tuple[_Key, int]]:
    for component in watched(application):
        name, definition = component.name, basis.definitions.get(component.name, "")
        yield _Key(_FILES, name, definition), basis.files.get(name, 0)
        if name in basis.content:
            yield _Key(_BYTES, name, definition), basis.content[name]
    for path, tables in basis.databases.items():
        counts = {table: rows for table, rows in tables.items() if not table_may_shrink(application, path, table)}
        yield _Key(_ROWS, path), sum(counts.values())
        for table in sorted(counts):
            if (path, table) in drained:
                yield _Key(_ROWS, f"{path}:{table}"), counts[table]


def _said(key: _Key, held: int) -> str:
    if key.sort == _BYTES:
        return f"{human_bytes(held)} ({held} bytes) of {key.name}"
    return f"{counted(held, key.sort[:-1])} of {key.name}"
