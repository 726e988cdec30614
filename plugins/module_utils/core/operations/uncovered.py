# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What lies below the root and belongs to no component, although it looks like data: nobody backs it up.

Only what no component covers is walked through, which is little where the profile is right, and never more than so many
names and seconds of it. Opens no file but the index of git.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ..application import Application
from ..component_paths import CACHES, WHOLE, covers
from ..errors import CaptureError, TradekeepError
from ..git.index_names import index_names
from ..kinds import SIDECAR_SUFFIXES, default_kind
from ..patterns import classifier, look_up, matches
from ..ports import Clock, Ports
from ..signals import answer
from ..storage.backup import read_small
from .apart import work_apart
from .found import OWN_PREFIX, lies_too_deep
from .leftovers import reader_account
from .text import counted, shorten

MOST_LOOKED_AT, MOST_IN_DIRECTORY = 20_000, 5_000
MOST_SECONDS = 2.0
MOST_NAMED = 5
LONGEST_NAME = 120
RECENT_SECONDS = 7 * 86_400
_LARGEST_INDEX = 64 << 20

_DATABASES = (".duckdb", ".db3", ".mdb")
_KEYS = (".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".env")
_KEY_NAMES = frozenset((".env", "id_rsa", "id_ecdsa", "id_ed25519", "credentials.json", "secrets.json"))
_SAMPLES = (".example", ".sample", ".template", ".dist")
_CODE = tuple(
    """.py .pyi .pyc .so .js .mjs .ts .css .html .sh .go .rs .c .h .md .rst .ipynb .service .timer .toml .cfg .ini
    .j2 .lock .in .gitignore .gitattributes .gitmodules .gitkeep""".split()  # noqa: SIM905 (words, not thirty lines of one each)
)
_PASSING = (".pid", ".lock", ".sock", ".tmp", ".swp", ".part")
_NO_DATA = frozenset(CACHES)


@dataclass
class Uncovered:
    """The first names of each sort, and how many there are. whole: whether everything was looked at."""

    databases: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    recent: list[str] = field(default_factory=list)
    tracked: list[str] = field(default_factory=list)
    """Databases and keys that are code, as git tracks them, below a root that a component has as a whole."""
    counts: dict[str, int] = field(default_factory=dict)
    whole: bool = True

    def add(self, sort: str, path: str) -> None:
        """Count one file."""
        self.counts[sort] = self.counts.get(sort, 0) + 1
        names: list[str] = getattr(self, sort)
        if len(names) < MOST_NAMED:
            names.append(shorten(path, LONGEST_NAME))

    def as_dict(self) -> dict[str, Any]:
        """As another process says it."""
        return asdict(self)

    @classmethod
    def of(cls, said: Any) -> Uncovered:
        """What another process said. Raises CaptureError for anything else."""
        try:
            names = {
                sort: [shorten(str(name), LONGEST_NAME) for name in said[sort][:MOST_NAMED]]
                for sort in ("databases", "keys", "recent", "tracked")
            }
            return cls(**names, counts={str(k): int(v) for k, v in said["counts"].items()}, whole=bool(said["whole"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CaptureError("the process that looks at the data does not say what no component covers") from None

    @property
    def warnings(self) -> list[str]:
        """What is surely missed in a backup."""
        return [*self._said("databases", "database"), *self._said("keys", "key"), *self._said_of_tracked()]

    @property
    def notes(self) -> list[str]:
        """What may be data."""
        found = self._said("recent", "file that was written within a week", "files that were written within a week")
        limit = "no component covers so much below the root that not all of it was looked at"
        return [*found, *([] if self.whole else [limit])]

    @property
    def lines(self) -> list[str]:
        """All of it."""
        return [*self.warnings, *self.notes]

    def _said_of_tracked(self) -> Iterator[str]:
        count, names = self.counts.get("tracked", 0), self.tracked
        more = f" and {count - len(names)} more" if count > len(names) else ""
        if count:
            yield (
                f"not backed up, as git tracks it: {counted(count, 'database or key', 'databases or keys')}: "
                f"{', '.join(names)}{more} (if the bot writes it, untrack it with 'git rm --cached' or name it in a "
                "component's paths; else in ignore_uncovered)"
            )

    def _said(self, sort: str, what: str, plural: str = "") -> Iterator[str]:
        count, names = self.counts.get(sort, 0), getattr(self, sort)
        if not count:
            return
        noun = f"{count} {plural}" if plural and count != 1 else counted(count, what)
        more = f" and {count - len(names)} more" if count > len(names) else ""
        yield (
            f"not backed up, as no component covers it: {noun}: {', '.join(names)}{more} "
            "(add it to a component's paths, or to ignore_uncovered in the profile)"
        )


def uncovered(application: Application, ports: Ports) -> Uncovered:
    """What no component covers, looked for in the reader's rights."""
    look_up(application.profile)
    said = work_apart(
        lambda _telling: find_uncovered(application, ports.clock).as_dict(), ports, reader_account(application)
    )
    return Uncovered.of(said)


def uncovered_in_words(application: Application, ports: Ports) -> tuple[list[str], list[str]]:
    """The same as warnings and notes; where it could not be looked for, that is a warning, and no reason to fail."""
    try:
        found = uncovered(application, ports)
    except TradekeepError as error:
        return [f"it was not looked for what no component covers, and so is not backed up: {error}"], []
    return found.warnings, found.notes


class _Repository(NamedTuple):
    """top: its path below the root. tracked: the names in its index."""

    top: str
    tracked: frozenset[str]

    def tracks(self, path: str) -> bool:
        """Whether git has a file, or a submodule, at a path below the root."""
        return (path[len(self.top) + 1 :] if self.top else path) in self.tracked


def find_uncovered(application: Application, clock: Clock) -> Uncovered:
    """The same in place."""
    found = Uncovered()
    _Walk(application, clock, found).run()
    return found


def _is_database(lowered: str) -> bool:
    return default_kind(lowered) == "sqlite" or lowered.endswith(_DATABASES)


def _is_key(lowered: str) -> bool:
    return lowered.endswith(_KEYS) or lowered in _KEY_NAMES or lowered.startswith(".env.")


def _is_surely_data(lowered: str) -> bool:
    return not lowered.endswith((*SIDECAR_SUFFIXES, *_SAMPLES)) and (_is_database(lowered) or _is_key(lowered))


class _Walk:
    """One run of ``find_uncovered``."""

    def __init__(self, application: Application, clock: Clock, found: Uncovered) -> None:
        self._root = str(application.root)
        self._listed = [path for component in application.profile.components for path in component.paths]
        self._whole = classifier(application.profile) if WHOLE in self._listed else None
        self._ignored = application.profile.ignore_uncovered
        ours = (application.backup_dir, application.state_dir, application.config_dir, application.bin_dir)
        self._ours = {str(place) for place in ours}
        self._clock = clock
        self._found = found
        self._left = MOST_LOOKED_AT
        self._since = clock.now().timestamp() - RECENT_SECONDS

    def run(self) -> None:
        """Look at everything, as far as it may go."""
        until = self._clock.monotonic() + MOST_SECONDS
        # What lies near the root first: that is where a new version puts its data.
        waiting: deque[tuple[str, Optional[_Repository]]] = deque([("", None)])
        while waiting:
            path, repository = waiting.popleft()
            if self._left <= 0 or self._clock.monotonic() > until:
                self._found.whole = False
                return
            entries = self._entries(path)
            names = {entry.name for entry in entries}
            if "pyvenv.cfg" in names:
                continue
            if ".git" in names:
                repository = self._repository(path) or repository
            for entry in entries:
                if self._is_walked(path, entry, repository):
                    waiting.append((f"{path}/{entry.name}" if path else entry.name, repository))

    def _entries(self, path: str) -> list[os.DirEntry[str]]:
        answer()
        try:
            with os.scandir(os.path.join(self._root, path)) as listing:
                entries = list(islice(listing, min(self._left, MOST_IN_DIRECTORY)))
                self._found.whole &= next(listing, None) is None
        except OSError:
            return []  # gone, or not for the reader to look at
        self._left -= len(entries)
        return sorted(entries, key=lambda entry: entry.name)

    def _is_walked(self, above: str, entry: os.DirEntry[str], repository: Optional[_Repository]) -> bool:
        """Count a file; whether it is a directory to look into."""
        name, path = entry.name, f"{above}/{entry.name}" if above else entry.name
        if name.startswith(OWN_PREFIX) or name in _NO_DATA:
            return False
        if any(matches(pattern, path) for pattern in self._ignored):
            return False
        if repository and repository.tracks(path):
            self._see_tracked(path, entry)
            return False
        try:
            if entry.is_dir(follow_symlinks=False):
                ours = os.path.join(self._root, path) in self._ours
                code = self._whole is not None and self._whole.leads_on(path)
                return not (ours or (self._is_covered(path) and not code) or lies_too_deep(path))
            if entry.is_file(follow_symlinks=False) and not self._is_covered(path):
                self._count(name, path, entry.stat(follow_symlinks=False), repository)
        except OSError:
            pass  # removed by the bot
        return False

    def _is_covered(self, path: str) -> bool:
        """Whether a component has it, or leaves it out on purpose."""
        return any(covers(named, path) for named in self._listed)

    def _see_tracked(self, path: str, entry: os.DirEntry[str]) -> None:
        """Where the rest of the root is a component's, a database or a key that is code is worth a word."""
        if self._whole is None or not _is_surely_data(entry.name.lower()) or not self._whole.keeps_out(path):
            return
        with contextlib.suppress(OSError):
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_size:
                self._found.add("tracked", path)

    def _count(self, name: str, path: str, status: os.stat_result, repository: Optional[_Repository]) -> None:
        lowered = name.lower()
        if status.st_size == 0 or lowered.endswith((*SIDECAR_SUFFIXES, *_SAMPLES, *_PASSING)):
            return
        if _is_database(lowered):
            self._found.add("databases", path)
        elif _is_key(lowered):
            self._found.add("keys", path)
        elif status.st_mtime >= self._since and (repository is not None or not lowered.endswith(_CODE)):
            self._found.add("recent", path)

    def _repository(self, path: str) -> Optional[_Repository]:
        index = Path(self._root, path, ".git", "index")
        try:
            return _Repository(path, index_names(read_small(index, _LARGEST_INDEX)))
        except (OSError, ValueError):
            return None
