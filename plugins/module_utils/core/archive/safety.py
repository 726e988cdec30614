# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which names, links and sizes an archive may hold: nothing is ever written outside of where it is unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ..errors import ArchiveError, HostileArchiveError

# A file system allows 4095 from its root on; the application's root and a stage come before the entry's path.
LONGEST_PATH = 3000
LONGEST_NAME = 255
# More than any scan takes in (operations/found.py), and few enough for all that goes level by level.
MOST_LEVELS = 256

DIRECTORY = "directory"
FILE = "file"
SYMLINK = "symlink"
SPECIAL = "special"
"""A device or FIFO of a foreign archive, which is left out."""
IMPLIED = "implied directory"


@dataclass(frozen=True)
class Limits:
    """How much an archive may ask for before it is refused.

    total_bytes: content of all files together, for instance the free space of the stage. ratio: content per byte of
    the archive's file, where its size is known. None means no limit.
    """

    entries: int = 20_000_000
    total_bytes: Optional[int] = None
    ratio: Optional[float] = None
    padding_bytes: int = 16 << 20
    extended_header_bytes: int = 16 << 20


def _is_ordinary(name: str) -> bool:
    """Whether nothing in a name needs a closer look, as in nearly all of them."""
    return (
        name.isascii()
        and len(name) <= LONGEST_NAME
        and name[:1] not in ("", "/", ".")
        and name[-1] != "/"
        and "//" not in name
        and "/." not in name
        and "\0" not in name
    )


def safe_relative(name: str) -> str:
    """Return ``name`` when it is a plain path beneath the archive's root; refuse it otherwise.

    Plain means: relative, no empty, ``.`` or ``..`` components, no NUL, short enough for the file system,
    and of at most ``MOST_LEVELS`` components.
    """
    if _is_ordinary(name):
        return name
    if not name:
        raise HostileArchiveError("entry has an empty name", path="''")
    if name[0] == "/":
        raise HostileArchiveError("entry has an absolute name", path=name)
    if "\0" in name:
        raise HostileArchiveError("entry's name holds a NUL", path=name)
    for part in name.split("/"):
        if part in ("", ".", ".."):
            raise HostileArchiveError(f"entry's name has the component '{part}'", path=name)
        if len(part) > 63 and len(part.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
            raise HostileArchiveError("entry's name is longer than a file system allows", path=name)
    if name.count("/") >= MOST_LEVELS:
        raise HostileArchiveError(f"entry lies more than {MOST_LEVELS} levels deep", path=f"{name[:LONGEST_NAME]}...")
    if len(name) > 1023 and len(name.encode("utf-8", "surrogateescape")) > LONGEST_PATH:
        raise HostileArchiveError(f"entry's path is longer than {LONGEST_PATH} bytes", path=f"{name[:LONGEST_NAME]}...")
    return name


def all_safe_relative(names: Sequence[str]) -> None:
    """Refuse what ``safe_relative`` refuses; one look at all of them is enough where nothing is odd."""
    text = "\n".join(("", *names, ""))
    odd = ("\n/", "\n.", "\n\n", "/\n", "//", "/.", "\0")
    if max(map(len, names), default=0) > LONGEST_NAME or not text.isascii() or any(part in text for part in odd):
        for name in names:
            safe_relative(name)


def link_stays_inside(path: str, target: str) -> bool:
    """Whether a symlink at ``path`` can only ever lead to something beneath the archive's root.

    ``..`` counts only at the front: behind a name it could climb out through another link, although the text of the
    target looks as if it stayed inside.
    """
    if not target or target[0] == "/" or "\0" in target:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    return ".." not in parts[climbs:] and climbs <= path.count("/")


def storable_mode(mode: int, entry_type: str) -> int:
    """The mode without what must not come out of an archive: setuid anywhere, setgid on what is not a directory."""
    return mode & (0o3777 if entry_type == DIRECTORY else 0o1777)


class Names:
    """The names that an archive has used so far, each for one thing only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._types: dict[str, str] = {}
        self._last_parent = ""
        self.count = 0

    def type_of(self, path: str) -> Optional[str]:
        """What the archive holds at ``path``, None when nothing."""
        return self._types.get(path)

    def add(self, path: str, entry_type: str) -> None:
        """Note one more entry; refuse duplicates and entries that lie beneath a symlink or a file."""
        self._count(path)
        before = self._types.get(path)
        if before is not None and not (before == IMPLIED and entry_type == DIRECTORY):
            raise HostileArchiveError(f"entry occurs twice (first as {before}, then as {entry_type})", path=path)
        self._types[path] = entry_type
        parent = path.rpartition("/")[0]
        if parent != self._last_parent:
            self._claim_parents(parent, path)
            self._last_parent = parent

    def add_or_repeat(self, path: str, entry_type: str) -> bool:
        """The same, for archives in which a later entry may take the place of one of its type; whether it does."""
        if self._types.get(path) != entry_type:
            self.add(path, entry_type)
            return False
        self._count(path)
        return True

    def add_files(self, paths: Sequence[str]) -> None:
        """Note files that follow one another, as ``add`` does."""
        new = dict.fromkeys(paths, FILE)
        unheard_of = len(new) == len(paths) and self._types.keys().isdisjoint(new)
        if not unheard_of or self.count + len(paths) > self._limits.entries:
            for path in paths:
                self.add(path, FILE)
            return
        self.count += len(paths)
        self._types.update(new)
        for parent, path in {path.rpartition("/")[0]: path for path in paths}.items():
            if parent != self._last_parent:
                self._claim_parents(parent, path)
                self._last_parent = parent

    def _count(self, path: str) -> None:
        self.count += 1
        if self.count > self._limits.entries:
            raise HostileArchiveError(f"archive holds more than {self._limits.entries} entries", path=path)

    def _claim_parents(self, parent: str, path: str) -> None:
        while parent:
            there = self._types.setdefault(parent, IMPLIED)
            if there in (SYMLINK, FILE, SPECIAL):
                raise HostileArchiveError(f"entry lies beneath the {there} {parent}", path=path)
            if there == DIRECTORY:
                return
            parent = parent.rpartition("/")[0]


def check_mode(mode: int, entry_type: str, path: str) -> None:
    """Refuse setuid and setgid bits (setgid is ordinary on directories)."""
    if storable_mode(mode, entry_type) != mode:
        raise HostileArchiveError(f"entry has the mode {mode:04o}, with setuid or setgid", path=path)


def check_ratio(content_bytes: int, archive_bytes: Optional[int], limits: Limits, path: str) -> None:
    """Refuse content that is out of proportion to the archive's file."""
    if limits.ratio is None or not archive_bytes:
        return
    if content_bytes > limits.ratio * archive_bytes:
        raise HostileArchiveError(
            f"content is more than {limits.ratio:g} times as large as the archive: a decompression bomb", path=path
        )


def check_total(content_bytes: int, limits: Limits, path: str) -> None:
    """Refuse more content than there is room for."""
    if limits.total_bytes is not None and content_bytes > limits.total_bytes:
        raise HostileArchiveError(
            f"archive holds more than the allowed {limits.total_bytes} bytes",
            path=path,
            hint="free some space, or raise the limit if the archive is trusted",
        )


def damaged(what: str, *, path: Optional[str] = None) -> ArchiveError:
    """An error for an archive that is not what was written."""
    return ArchiveError(what, path=path, hint="use another backup; this one is damaged")
