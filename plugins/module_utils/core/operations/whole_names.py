# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The files of a component that has the whole root, as the last backup held them.

What git tracks is no data there, and git's index is the bot's to write: whatever was in the last backup, still lies
there and is left out now is said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional, Union

from ..application import Application
from ..component_paths import WHOLE
from ..host.account import owner_of
from ..host.files import atomic_write
from ..host.filesystem.identity import acting_as, with_privileges
from ..patterns import classifier
from ..storage.backup import read_small
from .found import Found, Share, Thing
from .text import counted, first_few

MOST_NAMES = 50_000
"""More are not remembered: of so many files a handful says nothing, and many are a loss."""
_LARGEST = 64 << 20
_SHOWN = 5


class WholeNames:
    """Collects the files of the component that has the whole root, where there is one."""

    def __init__(self, application: Application) -> None:
        components = application.profile.components
        self._component = next((item.name for item in components if WHOLE in item.paths), None)
        self._names: list[str] = []

    def add(self, found: Union[Thing, Share]) -> None:
        """One thing, or small files that were gathered."""
        if found.component == self._component and found.type == "file" and len(self._names) <= MOST_NAMES:
            self._names.extend(_paths(found))

    def result(self) -> Optional[tuple[str, ...]]:
        """All of them; None for too many, or where there is no such component."""
        return None if self._component is None or len(self._names) > MOST_NAMES else tuple(self._names)


def _paths(found: Union[Thing, Share]) -> Iterator[str]:
    if isinstance(found, Found):
        yield found.path
    else:
        yield from (f"{found.directory.path}/{name}" for name in found.names)


def left_out_since(application: Application) -> Iterator[str]:
    """A warning of what the last backup held, lies there, and is left out now."""
    if not any(WHOLE in component.paths for component in application.profile.components):
        return
    lookup = classifier(application.profile)
    hidden = [path for path in _recorded(application) if lookup.keeps_out(path)]
    if not hidden:
        return
    with acting_as(owner_of(application)):
        there = [path for path in hidden if os.path.lexists(f"{application.root}/{path}")]
    if there:
        yield (
            "left out since the last backup held it, as git tracks it now or it lies in a virtual environment: "
            f"{counted(len(there), 'file')}: {first_few(there, _SHOWN)} (if it is data, untrack it with "
            "'git rm --cached', or name it in the component's paths)"
        )


@with_privileges
def note_names(application: Application, names: Optional[Sequence[str]]) -> None:
    """From now on the next backup is compared with these, where they are known."""
    if names is not None:
        atomic_write(_file(application), (json.dumps(list(names)) + "\n").encode("ascii"))


@with_privileges
def _recorded(application: Application) -> list[str]:
    try:
        return [str(name) for name in json.loads(read_small(_file(application), _LARGEST))]
    except (OSError, ValueError, TypeError, RecursionError):
        return []  # none yet, or no component had the whole root


def _file(application: Application) -> Path:
    return Path(application.application_state_dir) / "whole.json"
