# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which paths of a checkout are data, and so never touched by a deploy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Optional

from ...application import Application
from ...errors import ConfigurationError
from ...kinds.sqlite import SIDECAR_SUFFIXES
from ...patterns import matches
from ...vocabulary import RESERVED_PREFIX


class Preserved:
    """Answers for paths relative to the checkout."""

    def __init__(self, application: Application) -> None:
        self._components = dict(component_paths(application))
        self._patterns = application.profile.deploy.preserve
        self._directories: dict[str, Optional[str]] = {"": None}

    def reason(self, path: str) -> Optional[str]:
        """Why a path is left alone, in words; None when it is code."""
        names = path.split("/")
        if any(name.startswith(RESERVED_PREFIX) or name.lower() == ".git" for name in names):
            return "not part of the code"
        for count in range(1, len(names) + 1):
            component = self._components.get("/".join(names[:count]))
            if component is not None:
                return f"component {component}"
        return self._by_pattern(path) or self._by_database(path)

    def holds(self, directory: str) -> bool:
        """Whether a part of the data lies beneath a directory, there now or not."""
        return any(path.startswith(directory + "/") for path in self._components)

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
                return self._by_pattern(path[: -len(suffix)])
        return None


def component_paths(application: Application) -> Iterator[tuple[str, str]]:
    """The components' paths that lie in the checkout, relative to it."""
    checkout = application.checkout
    for component in application.profile.components:
        for path in component.paths if component.preserve else ():
            place = application.root / path
            if place == checkout or place in checkout.parents:
                raise ConfigurationError(
                    f"expected code apart from the data, found {str(checkout)!r} in component {component.name}",
                    path="deploy.directory",
                    hint="name the checkout in deploy.directory, or narrow the component's paths",
                )
            if checkout in place.parents:
                yield _relative(place, checkout), component.name


def _relative(place: PurePosixPath, checkout: PurePosixPath) -> str:
    return place.relative_to(checkout).as_posix()
