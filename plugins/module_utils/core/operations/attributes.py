# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Extended attributes and access lists of what a restore brings.

Attributes of the namespace ``user`` are content, and come back: the owner could set them as well. An access list gives
rights to other accounts, and whoever writes an archive chooses what is in it. So none is taken from an archive: what is
replaced passes its own on, and of the others it is said who would have had which rights.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from typing import Optional

from ..application import Application
from ..archive.attributes import FACT, of_facts
from ..archive.manifest import Entry
from ..host.filesystem.attributes import ACCESS_LIST, ACCESS_LISTS, DEFAULT_LIST, USER, set_attribute, value_at
from ..host.filesystem.identity import acting_uid

_MOST_NOTES = 5
_LONGEST_LIST = 300
_GIVES_NOTHING = "the access list (ACL) in the backup gives nobody rights here"


def give_attributes(application: Application, entry: Entry, descriptor: int, uid: int) -> None:
    """Give what was staged its own attributes, and the access list of what it replaces.

    uid: whose it is to be, -1 for who acts. A filesystem that has none keeps none.
    """
    for name, value in of_facts(entry.facts) if FACT in entry.facts else ():
        if name.startswith(USER):
            set_attribute(descriptor, name, value)
    if entry.type != "file":
        return
    present = list_of_live(application, entry.path, uid)
    if present is not None:
        set_attribute(descriptor, ACCESS_LIST, present)


def has_list(application: Application, path: str) -> bool:
    """Whether what is there now has an access list."""
    return value_at(os.path.join(str(application.root), path), ACCESS_LIST) is not None


def list_of_live(application: Application, path: str, uid: int) -> Optional[bytes]:
    """The access list of the file that is there now, where it is a file of the same account: that one has given it.

    uid: that account, -1 for who acts.
    """
    uid = acting_uid() if uid < 0 else uid
    live = os.path.join(str(application.root), path)
    try:
        status = os.lstat(live)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_uid != uid:
        return None
    return value_at(live, ACCESS_LIST)


def notes_of_access_lists(application: Application, entries: Iterable[Entry]) -> list[str]:
    """The lists of an archive that are not given back, and how to give them; a few lines."""
    notes: list[str] = []
    more = 0
    for entry in entries:
        for name, text in of_facts(entry.facts) if FACT in entry.facts else ():
            live = os.path.join(str(application.root), entry.path)
            rights = _named_in(text) if name in ACCESS_LISTS else ""
            if not rights or value_at(live, name) is not None:
                continue
            if len(notes) < _MOST_NOTES:
                option = "-d -m" if name == DEFAULT_LIST else "-m"
                command = f"setfacl {option} {shlex.quote(rights)} {shlex.quote(live)}"
                notes.append(f"{entry.path}: {_GIVES_NOTHING}; if it shall: {command}")
            else:
                more += 1
    return [*notes, *([f"and {more} more access lists (ACL) that are not given back"] if more else [])]


def _named_in(text: bytes) -> str:
    """The accounts that a list names, and their rights; the rest of it is the mode."""
    said = text.decode("utf-8", "surrogateescape").replace("\n", ",").split(",")
    return ",".join(item for item in said if item.count(":") >= 2 and item.split(":")[1])[:_LONGEST_LIST]
