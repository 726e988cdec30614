# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the paths of a component name: one path, all paths that a pattern matches, or the whole of the root.

A pattern is matched from the root on, part by part: ``*.sqlite`` names files at the top alone. What it names is known
without looking at the disk, so that backup, restore, tree, deploy and migrate agree on it wherever they ask. Of the
whole, what is no data is looked up once (see ``application.NotData``).
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

LEFT_OUT = (".git", "__pycache__", ".venv", "venv", "node_modules", ".tradekeep*")
"""Names of what belongs to code, caches and this program. A pattern leaves them out at any depth, a path does not."""
WHOLE = "."
"""The path of a component that has what lies below the root and is no code, no cache, not ours and not another's."""
CACHES = tuple(
    """.git .hg .svn node_modules __pycache__ site-packages .cache .mypy_cache .pytest_cache .ruff_cache .tox .nox .npm
    .local .vscode .idea lost+found""".split()  # noqa: SIM905 (words, not thirty lines of one each)
)
"""Names of directories that hold nothing which a bot could not get anew."""
LEFT_OUT_OF_WHOLE = tuple(dict.fromkeys((*LEFT_OUT, *CACHES)))
_WILD = frozenset("*?[")


def is_open(path: str) -> bool:
    """Whether it names what it matches, instead of one path."""
    return path == WHOLE or any(character in _WILD for character in path)


def fixed_part(path: str) -> str:
    """The directory above all that is named, as far as it is known: ``""`` for the root."""
    parts: list[str] = []
    for part in path.split("/")[:-1]:
        if is_open(part):
            break
        parts.append(part)
    return "/".join(parts)


def is_named(path: str, relative: str) -> bool:
    """Whether a path of a component names exactly this one."""
    if not is_open(path):
        return path == relative
    parts, names = path.split("/"), relative.split("/")
    return path != WHOLE and len(parts) == len(names) and _match(parts, names)


def covers(path: str, relative: str) -> bool:
    """Whether something lies at or beneath what a path of a component names."""
    if path == WHOLE:
        return True
    if not is_open(path):
        return relative == path or relative.startswith(f"{path}/")
    parts, names = path.split("/"), relative.split("/")
    return len(names) >= len(parts) and _match(parts, names)


def lies_above(directory: str, path: str) -> bool:
    """Whether what a path of a component names can lie beneath a directory."""
    if path == WHOLE:
        return True
    if not is_open(path):
        return path.startswith(f"{directory}/")
    parts, names = path.split("/"), directory.split("/")
    return len(names) < len(parts) and _match(parts, names)


def named_by(paths: Iterable[str], relative: str) -> bool:
    """Whether one of a component's paths names exactly this one."""
    return any(is_named(path, relative) for path in paths)


def _match(parts: list[str], names: list[str]) -> bool:
    """Whether the parts match the names, as far as there are both."""
    return all(fnmatchcase(name, part) for part, name in zip(parts, names))
