# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What lies at the paths of a checkout now; no symlink is followed, neither at the path nor above it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Optional

from ...host.files import failure_of, os_errors
from ...signals import answer
from ..found import lies_too_deep

_CHUNK = 1 << 20


class Thing(str, Enum):
    """What a path is."""

    ABSENT = "absent"
    FILE = "file"
    SYMLINK = "symlink"
    DIRECTORY = "directory"
    SPECIAL = "special"


@dataclass(frozen=True)
class Look:
    """One path. above: the nearest directory over it that is none (a file or symlink), which hides the path."""

    path: str
    thing: Thing
    executable: bool = False
    mode: int = 0
    uid: int = -1
    gid: int = -1
    size: int = 0
    oid: Optional[str] = None
    sha256: Optional[str] = None
    above: Optional[str] = None
    mtime: int = 0
    """In whole seconds, as compiled Python remembers it of its source."""


class Looker:
    """Looks at many paths of one checkout; directories are looked at once."""

    def __init__(self, checkout: Path, *, oid_digits: int = 40) -> None:
        self._top = os.fspath(checkout)
        self._algorithm = "sha256" if oid_digits == 64 else "sha1"
        self._directories: dict[str, Optional[str]] = {"": None}
        self._names: dict[str, frozenset[str]] = {}

    def at(self, path: str, *, digest: bool = True) -> Look:
        """What lies at a path; digests are those of a file's bytes or of a symlink's target."""
        above = self._above(path.rpartition("/")[0])
        if above is not None:
            return Look(path, Thing.ABSENT, above=above)
        absolute = f"{self._top}/{path}"
        try:
            facts = os.lstat(absolute)
        except (FileNotFoundError, NotADirectoryError):
            return Look(path, Thing.ABSENT)
        except OSError as error:
            raise failure_of(error, absolute) from error
        thing = _thing(facts.st_mode)
        oid, sha256 = self._digests(absolute, thing, facts.st_size) if digest else (None, None)
        return Look(
            path,
            thing,
            bool(facts.st_mode & stat.S_IXUSR),
            stat.S_IMODE(facts.st_mode),
            facts.st_uid,
            facts.st_gid,
            facts.st_size,
            oid,
            sha256,
            mtime=int(facts.st_mtime),
        )

    def other_case(self, path: str) -> Optional[str]:
        """A present path that differs from this absent one in upper and lower case alone; None when there is none."""
        parent, name = "", ""
        for name in path.split("/"):
            level = f"{parent}/{name}" if parent else name
            names = self._listed(parent)
            if name not in names:
                alike = sorted(other for other in names if other.lower() == name.lower())
                return (f"{parent}/{alike[0]}" if parent else alike[0]) if alike else None
            parent = level
        return None

    def files_below(self, directory: str) -> Iterable[str]:
        """Every path beneath a directory that is not a directory itself."""
        for below, names, files in self._walk(directory):
            yield from (f"{below}/{name}" for name in files)
            yield from (f"{below}/{name}" for name in names if os.path.islink(f"{self._top}/{below}/{name}"))

    def directories_below(self, directory: str) -> list[str]:
        """A directory and those in it, the deepest first."""
        found = [below for below, _names, _files in self._walk(directory)]
        return [path for path in reversed(found) if not os.path.islink(f"{self._top}/{path}")]

    def _walk(self, directory: str) -> Iterator[tuple[str, list[str], list[str]]]:
        """As os.walk, parents first. A directory below too many others, or that cannot be read, counts as a file, so
        that nobody takes what is above it for empty.
        """
        closed: list[OSError] = []
        for parent, names, files in os.walk(f"{self._top}/{directory}", onerror=closed.append):
            answer()
            below = parent[len(self._top) + 1 :]
            deep = {name for name in names if lies_too_deep(f"{below}/{name}")}
            names[:] = [name for name in names if name not in deep]
            yield below, names, [*files, *sorted(deep)]
        for error in closed:
            if isinstance(error, PermissionError):
                parent, name = os.path.split(os.fspath(error.filename))
                yield parent[len(self._top) + 1 :], [], [name]

    def _above(self, directory: str) -> Optional[str]:
        if directory not in self._directories:
            parent = directory.rpartition("/")[0]
            found = self._above(parent)
            if found is None:
                try:
                    mode = os.lstat(f"{self._top}/{directory}").st_mode
                    found = None if stat.S_ISDIR(mode) else directory
                except FileNotFoundError:
                    found = None
                except OSError as error:
                    raise failure_of(error, f"{self._top}/{directory}") from error
            self._directories[directory] = found
        return self._directories[directory]

    def _listed(self, directory: str) -> frozenset[str]:
        if directory not in self._names:
            try:
                self._names[directory] = frozenset(os.listdir(f"{self._top}/{directory}"))
            except OSError:
                self._names[directory] = frozenset()
        return self._names[directory]

    def _digests(self, absolute: str, thing: Thing, size: int) -> tuple[Optional[str], Optional[str]]:
        with os_errors(absolute):
            if thing is Thing.SYMLINK:
                target = os.fsencode(os.readlink(absolute))
                return digests_of(target, self._algorithm)
            if thing is Thing.FILE:
                return self._file_digests(absolute, size)
        return None, None

    def _file_digests(self, absolute: str, size: int) -> tuple[str, str]:
        # Git names a blob by the digest of its length and its bytes (gitformat-loose-object).
        named = hashlib.new(self._algorithm, b"blob %d\0" % size)
        plain = hashlib.sha256()
        descriptor = os.open(absolute, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as content:
            while chunk := content.read(_CHUNK):
                answer()
                named.update(chunk)
                plain.update(chunk)
        return named.hexdigest(), plain.hexdigest()


def digests_of(content: bytes, algorithm: str = "sha1") -> tuple[str, str]:
    """Git's name of a blob, and the plain SHA-256."""
    named = hashlib.new(algorithm, b"blob %d\0" % len(content) + content)
    return named.hexdigest(), hashlib.sha256(content).hexdigest()


def _thing(mode: int) -> Thing:
    if stat.S_ISREG(mode):
        return Thing.FILE
    if stat.S_ISLNK(mode):
        return Thing.SYMLINK
    return Thing.DIRECTORY if stat.S_ISDIR(mode) else Thing.SPECIAL
