# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a restore says of symlinks: those of the backup that it does not make, and live ones that make way."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from ..application import Application
from ..archive.manifest import Entry
from .links import left_out_line
from .reading import Contents
from .restore_plan import Item, Selection
from .text import counted

_SHOWN = 5


def links_left_out(application: Application, contents: Contents, selection: Selection) -> list[str]:
    """The chosen links of the backup that are not made, but for those that are live as they are there."""
    chosen = selection.chooser(application)
    wanted = (entry for entry in contents.entries if entry.path in contents.unsafe_links and chosen(entry.path))
    return sorted(entry.path for entry in wanted if not _is_there(application, entry))


def _is_there(application: Application, link: Entry) -> bool:
    try:
        return os.readlink(os.path.join(str(application.root), link.path)) == link.target
    except OSError:
        return False


def tell_of_links(note: Callable[[str], None], left_out: Sequence[str], changes: Sequence[Item]) -> None:
    """Name the links that are not made, and those that make way."""
    for path in left_out[:_SHOWN]:
        note(f"{left_out_line(path)}; what lies there stays")
    if len(left_out) > _SHOWN:
        note(f"and {counted(len(left_out) - _SHOWN, 'more symlink')} that lead out of the data, left out")
    going = [item for item in changes if (item.before or {}).get("type") == "symlink"]
    for item in going[:_SHOWN]:
        note(f"{item.path}: {_fate_of(item, changes)}; what it leads to stays as it is")
    if len(going) > _SHOWN:
        note(f"and {counted(len(going) - _SHOWN, 'more symlink')} that make way")


def _fate_of(link: Item, changes: Sequence[Item]) -> str:
    target = (link.before or {}).get("target")
    if link.entry is not None:
        return f"a symlink to {target} makes way for the {link.entry.type} of the backup"
    if any(item.path.startswith(f"{link.path}/") for item in changes):
        return f"a symlink to {target} makes way for the directory of the backup"
    return f"a symlink to {target} is not in the backup, and goes"
