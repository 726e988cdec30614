# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The rule for symlinks in the data, which every operation asks for here.

- A symlink is an entry of its own. It is captured, compared and restored as a link; nothing is read or written through
  it, at the end of a path or above it.
- What it leads to is in a backup where a component has it under its own path, or where the link ends below a place that
  the component names in ``follow_links``: then what lies there is captured as if it lay at the link's path. Of any
  other link the backup says that what it leads to is missing, and where the profile requires that, it fails.
- A link that could lead out of the root is made from no archive. Restore, drill and verification leave it out, and say
  so; what lies in its place stays.
- A live link in the place of a directory or file of a backup is replaced itself, and kept in the safety backup. What it
  leads to is left alone.
- A link above all that a component names is somebody else's: operations refuse to look through it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional

from ..application import Application, Component
from ..archive.manifest import Entry
from ..archive.safety import SYMLINK, link_stays_inside
from ..component_paths import lies_above
from ..errors import CaptureError, UnsafePathError
from ..patterns import classifier
from .found import Found, found_of
from .text import counted, shorten

MOST_NAMED = 20
_LONGEST_NAME = 200
WAY_OUT = "use a bind mount, name the place it leads to in the component's follow_links, or exclude it in the profile"


@dataclass(frozen=True)
class Leading:
    """Where a symlink leads. target: as it is written. inside: the path below the root that it ends at, None elsewhere.

    captured: whether a backup holds what lies there under a path of its own. size: of a file there, None for anything
    else.
    """

    target: str
    inside: Optional[str]
    captured: bool
    size: Optional[int] = None

    @property
    def leads_to_nothing(self) -> bool:
        """Whether there is nothing to miss. What lies outside of the root may be out of sight here, and counts."""
        return self.inside is not None and not self.captured and self.size is None


def leading_of(application: Application, path: str, absolute: str) -> Leading:
    """Where a link of the data leads now. It is looked at with the rights of whoever asks, for a message or a count."""
    target = os.readlink(absolute)
    root, real = os.path.realpath(application.root), os.path.realpath(absolute)
    if real != root and not real.startswith(f"{root}/"):
        return Leading(target, None, False)
    inside = real[len(root) + 1 :]
    try:
        status = os.stat(real)
    except OSError:
        return Leading(target, inside, False)
    if stat.S_ISDIR(status.st_mode):
        return Leading(target, inside, _holds_data(application, inside), None if _is_empty(real) else 0)
    found = classifier(application.profile).file(inside)
    captured = found is not None and found.component.backup
    # Code and caches are not data, wherever a link to them lies.
    captured = captured or classifier(application.profile).keeps_out(inside)
    return Leading(target, inside, captured, status.st_size)


def _is_empty(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def _holds_data(application: Application, directory: str) -> bool:
    """Whether a backup holds what lies in a directory, as far as components have any of it."""
    lookup = classifier(application.profile)
    found = lookup.directory(directory) if directory else None
    if found is not None:
        return found.component.backup
    paths = [path for component in application.profile.components if component.backup for path in component.paths]
    return not directory or lookup.keeps_out(directory) or any(lies_above(directory, path) for path in paths)


class MissedLinks:
    """Collects the links of a tree that lead to what no backup holds."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self.named: dict[str, str] = {}
        """Path and target of the first."""
        self.more = 0

    def see(self, found: Found) -> Optional[Leading]:
        """One link; where it leads, if a backup holds that. Raises CaptureError where the profile requires what is
        not."""
        try:
            leading = leading_of(self._application, found.path, found.absolute)
        except OSError:
            return None  # removed by the bot since it was listed
        if leading.captured:
            return leading
        if leading.leads_to_nothing:
            return None
        if found.required:
            raise CaptureError(
                f"the profile requires it, and it is a symlink to {shorten(leading.target, _LONGEST_NAME)}, which no "
                "backup holds",
                path=found.absolute,
                hint=WAY_OUT,
            )
        if len(self.named) < MOST_NAMED:
            self.named[found.path] = shorten(leading.target, _LONGEST_NAME)
        else:
            self.more += 1
        return None


def links_from(said: Any) -> dict[str, str]:
    """Links and targets, as another process has named them. Raises AttributeError or TypeError for anything else."""
    named = list(said.items())[:MOST_NAMED]
    return {str(path): shorten(str(target), _LONGEST_NAME) for path, target in named}


def missed_lines(named: dict[str, str], more: int) -> list[str]:
    """What a backup says of links whose data it does not hold."""
    lines = [f"{path}: a symlink; what it leads to, {target}, is not in the backup" for path, target in named.items()]
    if lines:
        lines[0] += f" ({WAY_OUT})"
    return [*lines, *([f"and {counted(more, 'more symlink')} to what is not in the backup"] if more else [])]


def required_behind_links(application: Application, required: Iterable[str]) -> frozenset[str]:
    """The paths of what stands for a required file that is a link."""
    found = set()
    for path in required:
        absolute = os.path.join(str(application.root), path)
        if os.path.islink(absolute):
            leading = leading_of(application, path, absolute)
            if leading.captured and leading.inside is not None:
                found.add(leading.inside)
    return frozenset(found)


def is_left_out(entry: Entry) -> bool:
    """Whether an entry is a link that no restore makes."""
    return entry.type == SYMLINK and not link_stays_inside(entry.path, entry.target or "")


def left_out_line(path: str) -> str:
    """What is said of such a link."""
    return f"{path}: a symlink that leads out of the data, left out"


def followed(application: Application, component: Component, found: Found) -> Found:
    """What a link leads to, seen as if it lay at the link's path, where the component follows it; the link else."""
    if found.type != SYMLINK or not component.follow_links:
        return found
    place = _place_behind(application, component, found.path, found.absolute)
    if place is None:
        return found
    try:
        status = os.lstat(place)
    except OSError:
        return found
    return found_of(classifier(application.profile), found.path, place, status) or found


def _place_behind(application: Application, component: Component, path: str, absolute: str) -> Optional[str]:
    """The real path that a link ends at, where the component follows it.

    Never of a link that is itself behind a link, so that nothing goes round in circles; and not where a backup holds
    what lies there under its own path.
    """
    if absolute != os.path.join(str(application.root), path):
        return None
    real = os.path.realpath(absolute)
    tops = [os.path.realpath(place) for place in component.follow_links]
    if not os.path.lexists(real) or not any(real == top or real.startswith(f"{top}/") for top in tops):
        return None
    return None if leading_of(application, path, absolute).captured else real


class LiveLinks:
    """The links of a live tree that stand above other paths; each directory is looked at once."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._root = str(application.root)
        self._above: dict[str, Optional[str]] = {"": None}
        self._places: dict[str, Optional[str]] = {}

    def above(self, path: str) -> Optional[str]:
        """The highest link above a path: nothing of the tree lies there."""
        return self._at(path.rpartition("/")[0])

    def is_link(self, path: str) -> bool:
        """Whether a link lies at a path."""
        return os.path.islink(f"{self._root}/{path}")

    def is_data(self, link: str) -> bool:
        """Whether a component has a link, so that it may make way for what a backup has in its place."""
        return classifier(self._application.profile).file(link) is not None

    def place(self, path: str, *, at_end: bool = True) -> Optional[str]:
        """Where a path of the tree lies, behind a link that is followed too; None behind any other.

        at_end: whether a link at the path itself is followed.
        """
        link = self.above(path)
        if link is None:
            live = f"{self._root}/{path}"
            return (self._behind(path) or live) if at_end and os.path.islink(live) else live
        behind_it = self._behind(link)
        if behind_it is None:
            return None
        place = behind_it + path[len(link) :]
        # A link that lies behind a link is not followed.
        above = os.path.dirname(place)
        return place if os.path.realpath(above) == above else None

    def _behind(self, link: str) -> Optional[str]:
        if link not in self._places:
            classified = classifier(self._application.profile).file(link)
            component = None if classified is None else classified.component
            absolute = f"{self._root}/{link}"
            follows = component is not None and bool(component.follow_links)
            self._places[link] = (
                _place_behind(self._application, component, link, absolute) if component and follows else None
            )
        return self._places[link]

    def _at(self, directory: str) -> Optional[str]:
        if directory not in self._above:
            found = self._at(directory.rpartition("/")[0])
            if found is None and os.path.islink(f"{self._root}/{directory}"):
                found = directory
            self._above[directory] = found
        return self._above[directory]


def place_of_data(application: Application, path: str) -> str:
    """Where the data of a path of the tree lies: behind a link that the profile follows, or in another component.

    Of a link to anywhere else it is the link itself.
    """
    live = os.path.join(str(application.root), path)
    place = LiveLinks(application).place(path) or live
    if place != live or not os.path.islink(live):
        return place
    return os.path.realpath(live) if leading_of(application, path, live).captured else live


def behind(application: Application, path: str, link: str) -> UnsafePathError:
    """The error for a link above all that a component names."""
    return UnsafePathError(
        f"is a symlink, and {path} lies behind it",
        path=os.path.join(str(application.root), link),
        hint="use a bind mount, or make the real directory the root of an application",
    )
