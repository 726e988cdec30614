# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What is gone since the last good backup: a backup that holds far less is none, until a person says that it is right.

Otherwise a disk that is not mounted, or a root that was moved, is backed up as nothing night after night, until
retention has removed the last backup that held something.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ..application import Application, Component
from ..errors import CaptureError, UsageError
from ..host.mounts import Place, other_filesystem
from ..patterns import classify
from ..storage.vanished import NEW_DIRECTORY
from .basis import Basis, Tables, current_places, definition_of, recorded_basis
from .links import WAY_OUT
from .shrinking import Fewer, collapsed, component_of, fewer_rows, file_may_shrink
from .text import counted, human_bytes

FEW_FILES, FEW_BYTES = 3, 64 << 10
"""Fewer files, or bytes, may go whatever their share; but never all of them."""
ANY = sys.maxsize
"""Where any number may go, but not all."""
FILESYSTEM, ALL = "filesystem", "all"
"""Words that allow a loss, beside the names of the components."""
MOST_SHOWN = 4
GET_BACK = "get it back from a backup"
"""Of a file that is gone. Who knows which backups there are says from which."""
_UNTRACK = "untrack it with 'git rm --cached', or name it in the component's paths"


@dataclass(frozen=True)
class Loss:
    """Something that the last good backup held.

    words: what allows it, the widest first: a component's name or one of the words above, a database, a table of it.
    path: where it was. remedy: how to get it back, where there is one thing to do.
    """

    words: tuple[str, ...]
    text: str
    path: str
    remedy: str = ""


@dataclass(frozen=True)
class Held:
    """What there is now, to be compared. lost: databases that the last good backup held, and that are not there.

    places: None where it is not asked where the data lies. links: symlinks to what is not captured, with their targets.
    free: of each component the files that may go, and their bytes; they are not among the others.
    """

    files: Mapping[str, int]
    content: Mapping[str, int]
    lost: Collection[str] = ()
    missing: Collection[str] = ()
    empty: Collection[str] = ()
    places: Optional[Mapping[str, Place]] = None
    links: Mapping[str, str] = field(default_factory=dict)
    free: Mapping[str, Sequence[int]] = field(default_factory=dict)


def check_words(application: Application, words: Collection[str]) -> None:
    """Raises UsageError for a word that allows nothing."""
    known = [*(item.name for item in application.profile.components if item.backup), FILESYSTEM, NEW_DIRECTORY, ALL]
    for word in words:
        if word not in known and component_of(application, word.partition(":")[0]) is None:
            raise UsageError(
                f"no loss is called {word!r}",
                hint=f"one of {', '.join(known)}, or the path of a database, or a table as PATH:TABLE",
            )


def accept(losses: Sequence[Loss], words: Collection[str]) -> list[str]:
    """What the words allow, as warnings. Raises CaptureError for the rest, the first of it in detail."""
    refused = [item for item in losses if not {ALL, *item.words} & set(words)]
    if not refused:
        return [f"allowed: {item.path}: {item.text}" for item in losses]
    first, others = refused[0], refused[1:]
    text = first.text
    if others:
        shown = "; ".join(f"{item.path}: {item.text}" for item in others[:MOST_SHOWN])
        more = len(others) - MOST_SHOWN
        text += f"; and also {shown}"
        text += f"; and {more} more" if more > 0 else ""
    needed = " ".join(f"--allow-loss {word}" for word in sorted({item.words[0] for item in refused}))
    hint = f"{first.remedy or 'find out why'}; if it is right, back up once with {needed}"
    raise CaptureError(text, path=first.path, hint=hint)


def is_allowed(application: Application, path: str, table: str, words: Collection[str]) -> bool:
    """Whether somebody has said that a table may be smaller now."""
    component = component_of(application, path)
    return bool({ALL, component and component.name, path, f"{path}:{table}"} & set(words))


def find_losses(application: Application, basis: Optional[Basis], held: Held) -> list[Loss]:
    """What was there and is not, as far as it shows before anything is read."""
    if basis is None:
        return []
    return [
        *_moved(application, basis, held.places),
        *_gone(application, basis, held),
        *_fewer(application, basis, held),
    ]


def refuse_other_place(application: Application) -> None:
    """Raises CaptureError where the data of this host lies on another filesystem than at the last backup or restore.

    Before anything is made there: where a disk is not mounted that would go to the one beneath. What backups say that
    were made elsewhere, or before this host began, does not count.
    """
    basis = recorded_basis(application)
    for loss in () if basis is None else _moved(application, basis, current_places(application)):
        raise CaptureError(
            f"{loss.text}; nothing was made there",
            path=loss.path,
            hint=f"{loss.remedy}; a new disk is filled by: tradekeep restore",
        )


def unguarded_losses(application: Application, basis: Optional[Basis], held: Held) -> Iterator[str]:
    """Components that are empty now and that may be; worth a warning."""
    if basis is None:
        return
    guarded = {component.name for component in watched(application)}
    for component in application.profile.components:
        name, files = component.name, basis.files.get(component.name, 0)
        free = component.backup and name not in guarded and not component.may_shrink
        if free and files and not held.files.get(name):
            yield f"component {name} is empty: {basis.name} held {counted(files, 'file')} of it"


def fewer_in(
    application: Application, basis: Optional[Basis], databases: Mapping[str, Tables]
) -> list[tuple[str, Fewer]]:
    """Tables that lost more of their rows than usual, each with its database."""
    if basis is None:
        return []
    return [
        (path, item)
        for path, tables in basis.databases.items()
        for item in fewer_rows(application, path, tables, databases.get(path, {}), basis.drained)
    ]


def row_losses(application: Application, basis: Optional[Basis], fewer: Sequence[tuple[str, Fewer]]) -> list[Loss]:
    """Those that were not just drained."""
    return [] if basis is None else list(_fewer_rows(application, basis, fewer))


def _moved(application: Application, basis: Basis, places: Optional[Mapping[str, Place]]) -> Iterator[Loss]:
    """Where the same path leads to another filesystem: a disk is not mounted, or another one is."""
    if places is None or basis.root != str(application.root) or basis.host != socket.gethostname():
        return
    for path, before in sorted(basis.places.items()):
        now = places.get(path)
        if now is not None and other_filesystem(before, now):
            yield Loss(
                (FILESYSTEM,),
                f"it lies on another filesystem than in {basis.name}: on {_shown(now)}, and not on {_shown(before)}",
                _absolute(application, path),
                "mount the disk again",
            )
            return  # whatever lies below it has moved with it


def _shown(place: Place) -> str:
    return f"{place.source or place.filesystem} ({place.filesystem}) at {place.within}"


def _gone(application: Application, basis: Basis, held: Held) -> Iterator[Loss]:
    """Single files: databases, and what the profile requires."""
    required = [path for path in held.missing if path not in basis.missing]
    for path in dict.fromkeys([*sorted(held.lost), *required]):
        component = component_of(application, path)
        if component is None or (path not in required and file_may_shrink(application, path)):
            continue
        became_code = classify(application.profile, path) is None
        text = f"{basis.name} held it, and it {'is code now, as git tracks it' if became_code else 'is missing now'}"
        remedy = _UNTRACK if became_code else GET_BACK
        if path in held.links:
            text = f"{basis.name} held it, and it is a symlink to {held.links[path]} now, which no backup holds"
            remedy = WAY_OUT
        yield Loss((component.name, path), text, _absolute(application, path), remedy)
    for path in sorted(set(held.empty) - (basis.empty if basis.empty is not None else set(held.empty)) - basis.missing):
        component = component_of(application, path)
        if component is not None:
            text = f"{basis.name} held it, and it is empty now (0 bytes)"
            yield Loss((component.name, path), text, _absolute(application, path), GET_BACK)


def _fewer(application: Application, basis: Basis, held: Held) -> Iterator[Loss]:
    """Components that matter and hold far fewer files or bytes."""
    profile = application.profile
    for component in watched(application):
        name = component.name
        before, now = basis.files.get(name, 0), held.files.get(name, 0)
        place = _absolute(application, component.paths[0])
        # Where the profile has come to exclude something, or another version of it, only all of it is a loss.
        same = basis.definitions.get(name) == definition_of(component)
        # Nor does it say which of them might have gone then.
        free_files, free_bytes = (0, 0) if same else held.free.get(name, (0, 0))
        now += free_files
        few_files, few_bytes = (FEW_FILES, FEW_BYTES) if same else (ANY, ANY)
        if collapsed(before, now, profile.maximum_file_loss_percent, few_files):
            text = f"component {name} held {counted(before, 'file')} in {basis.name} and holds {now} now"
            yield Loss((name,), text, place)
            continue
        size, left = basis.content.get(name, 0), held.content.get(name, 0) + free_bytes
        if collapsed(size, left, profile.maximum_byte_loss_percent, few_bytes):
            text = f"component {name} held {human_bytes(size)} beside databases and logs in {basis.name}"
            yield Loss((name,), f"{text} and holds {human_bytes(left)} now", place)


def _fewer_rows(application: Application, basis: Basis, fewer: Sequence[tuple[str, Fewer]]) -> Iterator[Loss]:
    for path, item in fewer:
        component = component_of(application, path)
        if component is not None and item.lost:
            text = f"table {item.table} had {counted(item.before, 'row')} in {basis.name} and has {item.now} now"
            yield Loss((component.name, path, f"{path}:{item.table}"), text, _absolute(application, path))


def watched(application: Application) -> list[Component]:
    """The components without which a backup is none: critical ones, those that require a file, or else all."""
    kept = [item for item in application.profile.components if item.backup]
    chosen = [item for item in kept if item.critical or any(rule.required for rule in item.files)]
    return [item for item in chosen or kept if not item.may_shrink]


def _absolute(application: Application, path: str) -> str:
    return str(Path(application.root) / path)
