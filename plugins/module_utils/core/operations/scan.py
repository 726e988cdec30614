# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What lies in an application's data tree, in the order in which an archive holds it. Read-only; opens no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Callable, Optional, Union, cast

from ..application import Application, Component
from ..archive.safety import Limits, link_stays_inside
from ..component_paths import WHOLE, named_by
from ..errors import ConfigurationError, UnsafePathError
from ..patterns import classifier, expected_files
from .found import OWN_PREFIX, Found, Share, Thing, found_of, look, names_in, too_many_names
from .links import WAY_OUT, LiveLinks, behind, followed, leading_of
from .listings import Listings
from .places import places

__all__ = ["OWN_PREFIX", "Found", "check_root", "expected_paths", "found_at", "gathered_scan", "scan", "shared_scan"]

MOST_ENTRIES = Limits().entries
_Children = Callable[[Found], Sequence[Union[Thing, Share]]]


def check_root(application: Application) -> Path:
    """The root as a path. Raises ConfigurationError when it is missing or a symlink."""
    root = Path(application.root)
    try:
        status = root.lstat()
    except FileNotFoundError:
        raise ConfigurationError(
            "the data directory does not exist",
            path=root,
            hint="create it with 'tradekeep tree --fix' or the site playbook",
        ) from None
    if stat.S_ISLNK(status.st_mode):
        raise ConfigurationError(
            "the data directory is a symlink", path=root, hint=f"set tradekeep_root to {os.path.realpath(root)}"
        )
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError("the data directory is not a directory", path=root, hint="name a directory")
    return root


def scan(
    application: Application, *, components: Optional[frozenset[str]] = None, refuse_links: bool = True
) -> Iterator[Found]:
    """Everything that a backup holds, by component and path; parents before children.

    Raises UnsafePathError when a component's own path is a symlink, or lies behind one: what it leads to would not be
    captured. refuse_links: False takes such a link for a link, and what lies behind one for nothing.
    """
    lookup = classifier(application.profile)
    runs = _runs(application, components, lambda found: look(lookup, found, names_in(found, lookup)), refuse_links)
    return cast(Iterator[Found], _bounded(application, chain.from_iterable(runs)))  # nothing is gathered here


def gathered_scan(application: Application) -> Iterator[Thing]:
    """The same, with small files gathered."""
    return cast(Iterator[Thing], shared_scan(application, Listings(application, most=0)))  # nothing is shared


def shared_scan(application: Application, listings: Listings) -> Iterator[Union[Thing, Share]]:
    """The same, and small files as somebody else has seen them.

    listings: where to keep what is listed for the next scan, or to find what an earlier one has kept.
    """
    return _bounded(application, chain.from_iterable(_runs(application, None, listings.children)))


def _bounded(application: Application, things: Iterator[Union[Thing, Share]]) -> Iterator[Union[Thing, Share]]:
    """The same things, no more of them than an archive can be read back with."""
    left = MOST_ENTRIES
    for thing in things:
        left -= max(1, thing.files)
        if left < 0:
            raise too_many_names(MOST_ENTRIES, str(application.root))
        yield thing


def _runs(
    application: Application,
    components: Optional[frozenset[str]],
    children_of: _Children,
    refuse_links: bool = True,
) -> Iterator[Sequence[Union[Thing, Share]]]:
    """The same in runs of what lies side by side; one by one, every thing would pass through all directories above."""
    root = check_root(application)
    links = LiveLinks(application)
    for component in sorted(application.profile.components, key=lambda item: item.name):
        if not component.backup or (components is not None and component.name not in components):
            continue
        for path in places(str(root), component.paths, classifier(application.profile)):
            link = links.above(path)
            if link is not None:
                if refuse_links:
                    raise behind(application, path, link)
                continue
            found = found_at(application, path, os.path.join(str(root), path))
            if found is not None:
                yield from _with_contents(application, component, found, children_of, refuse_links)


def found_at(application: Application, path: str, absolute: str, *, looking: bool = True) -> Optional[Found]:
    """What lies at one place, seen as ``path`` of the application; None when absent or not part of any component.

    looking: False for what was data when it was put there, whatever is code now.
    """
    try:
        status = os.lstat(absolute)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found_of(classifier(application.profile, looking=looking), path, absolute, status)


def expected_paths(application: Application) -> frozenset[str]:
    """Files that the profile requires and a backup holds."""
    return frozenset(rule.pattern for component, rule in expected_files(application.profile) if component.backup)


def _with_contents(
    application: Application, component: Component, found: Found, children_of: _Children, refuse_links: bool
) -> Iterator[Sequence[Union[Thing, Share]]]:
    found = followed(application, component, found)
    if refuse_links and _is_missed(application, component, found):
        raise UnsafePathError(
            "a part of the data is a symlink, what it leads to would not be captured",
            path=found.absolute,
            hint=WAY_OUT,
        )
    if found.component == component.name:
        yield (found,)
    if found.type != "directory" or (WHOLE in component.paths and found.component not in ("", component.name)):
        return  # beneath another's directory nothing is of the component that has the rest of the root
    for is_file, run in groupby(children_of(found), key=_is_file):
        if is_file:
            yield [child for child in run if child.component == component.name]
        else:
            for child in run:
                if isinstance(child, Found):
                    yield from _with_contents(application, component, child, children_of, refuse_links)


def _is_missed(application: Application, component: Component, found: Found) -> bool:
    """Whether a component as a whole, or one of the places that it names, lies where no backup looks."""
    if found.type != "symlink" or not (named_by(component.paths, found.path) or _hides_data(component, found)):
        return False
    return not leading_of(application, found.path, found.absolute).captured


def _hides_data(component: Component, found: Found) -> bool:
    """Whether a link at the top of a root that is named as a whole leads to something elsewhere."""
    if found.component != component.name or WHOLE not in component.paths or "/" in found.path:
        return False
    return os.path.exists(found.absolute) and not link_stays_inside(found.path, os.readlink(found.absolute))


def _is_file(found: Union[Thing, Share]) -> bool:
    return found.type == "file"
