# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whom a restored file belongs to, and with which mode: the profile decides, not the archive.

Whoever writes an archive, or feeds a backup, chooses the owners and modes in it. Files of root that anybody may write,
or files of another account, would be his way to that account. So everything belongs to the application's owner, or to
whom a rule of the profile names. A mode comes back as it was, without setuid, setgid (on a file), sticky (on a file),
and the right of others to write, nor what a mode that the profile states does not allow (see ``mended_mode``); and a
file is never more open than the live one that it replaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Optional

from ..application import Application
from ..archive.attributes import FACT, of_facts
from ..archive.manifest import Entry
from ..host.filesystem.attributes import ACCESS_LIST
from ..patterns import classify, classify_directory
from .tree_modes import mended_mode, mode_beside

_FROM_ARCHIVE = {"directory": 0o3775}
_MOST_NOTES = 5
_GROUP = "group::"


@dataclass(frozen=True)
class GrantedRights:
    """What a restored file, directory or symlink gets. from_profile: whether a component of the profile has it."""

    owner: str
    group: str
    mode: int
    from_profile: bool


def granted_rights(
    application: Application, entry: Entry, live: Optional[int] = None, *, listed: bool = False
) -> GrantedRights:
    """The rights of one entry. Reads nothing of the host. live: the mode of the file that it replaces.

    listed: whether it gets an access list, with which the group's bits of a mode are the most that the list gives.
    """
    granted = _granted(application, entry if listed or FACT not in entry.facts else _without_list(entry))
    return granted if live is None or entry.type != "file" else replace(granted, mode=mode_beside(granted.mode, live))


def _without_list(entry: Entry) -> Entry:
    """The mode that an entry has without its access list: what its group had, and not all that the list gives."""
    text = dict(of_facts(entry.facts)).get(ACCESS_LIST)
    if text is None:
        return entry
    words = text.decode("utf-8", "surrogateescape").replace("\n", ",").split(",")
    said = next((word[len(_GROUP) :] for word in words if word.startswith(_GROUP)), "")
    group = sum(bit for letter, bit in (("r", 0o40), ("w", 0o20), ("x", 0o10)) if letter in said[:3])
    return entry._replace(mode=entry.mode & (~0o070 | group))


def _granted(application: Application, entry: Entry) -> GrantedRights:
    directory = entry.type == "directory"
    mode = entry.mode & _FROM_ARCHIVE.get(entry.type, 0o775)
    look_up = classify_directory if entry.type == "directory" else classify
    classified = look_up(application.profile, entry.path)
    if classified is None:
        return GrantedRights(application.owner, application.group, mode, False)
    owner, group = classified.owner or application.owner, classified.group or application.group
    mode |= 0o700 if directory else 0o400
    mode = mended_mode(mode, classified.mode, stated=classified.stated, directory=directory)
    return GrantedRights(owner, group, mode, True)


def unknown_directory(application: Application, path: str) -> Entry:
    """A directory that no archive has an entry for, with the mode of a new one."""
    classified = classify_directory(application.profile, path)
    return Entry(path, "directory", mode=0o700 if classified is None else classified.mode)


def notes_of_refused_rights(application: Application, entries: Iterable[Entry]) -> list[str]:
    """What an archive says of owners and modes, and does not get, where the profile says nothing; a few lines."""
    notes: list[str] = []
    more = 0
    for entry in entries:
        note = _note(application, entry)
        if note and len(notes) < _MOST_NOTES:
            notes.append(note)
        elif note:
            more += 1
    return [*notes, *([f"and {more} more, whose owners or modes in the backup do not count here"] if more else [])]


def _note(application: Application, entry: Entry) -> str:
    granted = granted_rights(application, entry)
    wanted = (entry.owner or granted.owner, entry.group or granted.group)
    other_owner = application.system and wanted != (granted.owner, granted.group)
    other_mode = entry.type != "symlink" and entry.mode != granted.mode
    if granted.from_profile or not (other_owner or other_mode):
        return ""
    given = f"{granted.owner}:{granted.group} with mode {granted.mode:04o}"
    return f"{entry.path}: is given to {given}, not to {':'.join(wanted)} with mode {entry.mode:04o} as the backup says"
