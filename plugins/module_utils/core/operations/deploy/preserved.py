# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which paths of a checkout are data, and so never touched by a deploy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import PurePosixPath
from typing import Optional

from ...application import Application
from ...component_paths import WHOLE, covers, is_open, lies_above
from ...errors import ConfigurationError
from ...kinds.sqlite import SIDECAR_SUFFIXES
from ...patterns import classify, matches
from ...vocabulary import RESERVED_PREFIX


class Preserved:
    """Answers for paths relative to the checkout."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._components = dict(component_paths(application))
        self._open = tuple(component_patterns(application))
        self._patterns = application.profile.deploy.preserve
        self._directories: dict[str, Optional[str]] = {"": None}

    def reason(self, path: str) -> Optional[str]:
        """Why a path is left alone, in words; None when it is code."""
        names = path.split("/")
        if any(name.startswith(RESERVED_PREFIX) or name.lower() == ".git" for name in names):
            return "not part of the code"
        component = self._component(names)
        return f"component {component}" if component else self._by_pattern(path) or self._by_database(path)

    def holds(self, directory: str) -> bool:
        """Whether a part of the data lies beneath a directory, there now or not."""
        if any(path.startswith(directory + "/") for path in self._components):
            return True
        return any(lies_above(directory, pattern) for pattern in self._open)

    def _component(self, names: Sequence[str]) -> Optional[str]:
        """The component that one of its paths gives a path to: the path itself, or a directory above it."""
        for count in range(1, len(names) + 1):
            component = self._components.get("/".join(names[:count]))
            if component is not None:
                return component
        return self._by_open_path("/".join(names)) if self._open else None

    def _by_open_path(self, path: str) -> Optional[str]:
        """The component of which a pattern matches a path or a directory above it; what it excludes is code."""
        place = self._application.checkout / path
        if self._application.root not in place.parents:
            return None
        relative = place.relative_to(self._application.root).as_posix()
        found = classify(self._application.profile, relative)
        if found is None or not found.component.preserve:
            return None
        matching = any(is_open(item) and item != WHOLE and covers(item, relative) for item in found.component.paths)
        return found.component.name if matching else None

    def _by_pattern(self, path: str) -> Optional[str]:
        """As in .gitignore: what holds for a directory holds beneath it, and the last match decides."""
        found = self._of_directory(path.rpartition("/")[0])
        for pattern in self._patterns:
            if matches(pattern[1:] if pattern.startswith("!") else pattern, path):
                found = None if pattern.startswith("!") else f"preserved by {pattern}"
        return found

    def _of_directory(self, directory: str) -> Optional[str]:
        if directory not in self._directories:
            self._directories[directory] = self._by_pattern(directory)
        return self._directories[directory]

    def _by_database(self, path: str) -> Optional[str]:
        for suffix in SIDECAR_SUFFIXES:
            if path.endswith(suffix):
                database = path[: -len(suffix)]
                component = self._component(database.split("/"))
                return f"component {component}" if component else self._by_pattern(database)
        return None


def component_paths(application: Application) -> Iterator[tuple[str, str]]:
    """The components' paths that lie in the checkout, relative to it; those that are patterns apart.

    A component with the whole root has no path of its own in a checkout that lies there: what git tracks is code, and
    what lies in the place of code, and was not deployed, no deploy replaces anyway (see ``code_plan``).
    """
    checkout = application.checkout
    for component in application.profile.components:
        for path in component.paths if component.preserve else ():
            if path == WHOLE and checkout in application.root.parents:
                yield _relative(application.root, checkout), component.name
            if is_open(path):
                continue
            place = application.root / path
            if place == checkout or place in checkout.parents:
                raise _code_in_data(checkout, component.name)
            if checkout in place.parents:
                yield _relative(place, checkout), component.name


def component_patterns(application: Application) -> Iterator[str]:
    """The patterns among the components' paths, as they match in the checkout."""
    checkout, root = application.checkout, application.root
    for component in application.profile.components:
        for path in component.paths if component.preserve else ():
            if not is_open(path) or path == WHOLE:
                continue
            if root == checkout:
                if not path.strip("*/"):
                    raise _code_in_data(checkout, component.name)
                yield path
            elif checkout in root.parents:
                yield f"{escape(_relative(root, checkout))}/{path}"
            elif root in checkout.parents:
                inner = _relative(checkout, root)
                if covers(path, inner):
                    raise _code_in_data(checkout, component.name)
                if lies_above(inner, path):
                    yield "/".join(path.split("/")[inner.count("/") + 1 :])


def _code_in_data(checkout: PurePosixPath, component: str) -> ConfigurationError:
    return ConfigurationError(
        f"expected code apart from the data, found {str(checkout)!r} in component {component}",
        path="deploy.directory",
        hint="name the checkout in deploy.directory, narrow the component's paths, or name . for all that is no code",
    )


def _relative(place: PurePosixPath, checkout: PurePosixPath) -> str:
    return place.relative_to(checkout).as_posix()
