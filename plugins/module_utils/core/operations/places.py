# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the paths of a component name in a tree as it is now; read-only, no symlink is followed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Optional

from ..component_paths import LEFT_OUT_OF_WHOLE, WHOLE, is_open
from ..patterns import Classifier
from .found import Found, names_in


def places(root: str, paths: Iterable[str], lookup: Optional[Classifier] = None) -> list[str]:
    """Relative paths, in order and each once: what is named without a wildcard whether it is there or not.

    lookup: leaves out what is a part of a database beside it.
    """
    found: set[str] = set()
    for path in paths:
        if path == WHOLE:
            found.update(name for name in _matching(root, "", ["*"], lookup) if name not in LEFT_OUT_OF_WHOLE)
        else:
            found.update(_matching(root, "", path.split("/"), lookup) if is_open(path) else (path,))
    return sorted(found)


def _matching(root: str, directory: str, parts: list[str], lookup: Optional[Classifier]) -> Iterator[str]:
    """The paths below a directory that match the parts that are left of a pattern."""
    absolute = os.path.join(root, directory) if directory else root
    if directory and (os.path.islink(absolute) or not os.path.isdir(absolute)):
        return
    for name in names_in(Found.of_directory(directory, absolute), lookup):
        if fnmatchcase(name, parts[0]):
            path = f"{directory}/{name}" if directory else name
            if len(parts) > 1:
                yield from _matching(root, path, parts[1:], lookup)
            else:
                yield path
