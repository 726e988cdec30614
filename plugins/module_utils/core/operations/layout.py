# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Where an application's root lies in an archive of another program: the profile says it, not a guess at the names.

Archives hold ``data/fills.db``, ``./data/fills.db``, ``bot/data/fills.db`` or ``opt/bot/data/fills.db``, depending on
the directory in which somebody called tar. The right reading is the one by which the profile has most of the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from ..application import Application
from ..archive.safety import safe_relative
from ..errors import HostileArchiveError, UsageError
from ..patterns import classifier

NONE = "."
_DEEPEST = 8
"""Leading directories that are looked behind."""
_NAMED = 4


@dataclass(frozen=True)
class Layout:
    """How paths of an archive become paths of the application.

    prefix: the leading directories that are left out. into: the directory of the root that the rest belongs in.
    """

    prefix: str = ""
    into: str = ""

    def path(self, archived: str) -> Optional[str]:
        """The application's path; None for what lies beside the data, or leads to it."""
        if not self.prefix:
            rest = archived
        elif archived.startswith(f"{self.prefix}/"):
            rest = archived[len(self.prefix) + 1 :]
        else:
            return None
        return f"{self.into}/{rest}" if self.into and rest else rest

    def unpacked(self, archived: str) -> str:
        """Where it is written: the leading directories are made, and hold what the root holds."""
        path = self.path(archived) if self.into else None
        return archived if path is None else f"{self.prefix}/{path}".lstrip("/")


AS_IT_IS = Layout()


def layout_of(
    application: Application, archive: str, files: Sequence[str], strip: Optional[str], into: Optional[str]
) -> Layout:
    """The layout of an archive without a manifest: as somebody says it, as the profile has it otherwise.

    Raises UsageError where several readings fit equally well, or what is said does not fit the archive.
    """
    if into is None:
        return Layout(data_prefix(application, files, strip, archive=archive))
    try:
        inside = safe_relative(into.rstrip("/"))
    except HostileArchiveError as error:
        raise UsageError("is no directory below the root", path=into, hint="--into data, for instance") from error
    return Layout(_as_said(files, strip or NONE), inside)


def data_prefix(
    application: Application, files: Sequence[str], strip: Optional[str] = None, *, archive: str = ""
) -> str:
    """The leading directories to leave out of the paths of an archive's files, without a slash at the end.

    strip: which, where somebody has said it; ``.`` for none. archive: how errors call it. Raises UsageError where
    several readings fit equally well, or where nothing lies below the directory.
    """
    if strip is not None:
        return _as_said(files, strip)
    known: Counter[str] = Counter()
    lookup = classifier(application.profile)
    for path in files:
        known.update(prefix for prefix, rest in _readings(path) if lookup.file(rest) is not None)
    most = max(known.values(), default=0)
    best = sorted(prefix for prefix, count in known.items() if count == most)
    if len(best) > 1:
        ways = " or ".join(f"--strip {prefix or NONE} for {_example(files, prefix)}" for prefix in best[:_NAMED])
        raise UsageError("the archive can be read in several ways", path=archive or None, hint=f"give {ways}")
    return best[0] if best else ""


def _as_said(files: Sequence[str], strip: str) -> str:
    prefix = "" if strip == NONE else strip.strip("/")
    if prefix and not any(path.startswith(f"{prefix}/") for path in files):
        some = ", ".join(sorted({path.partition("/")[0] for path in files})[:_NAMED])
        raise UsageError("the archive has no such directory", path=strip, hint=f"at its top it has {some}")
    return prefix


def _readings(path: str) -> Iterator[tuple[str, str]]:
    """Each of its leading directories, none at first, and what is left then."""
    yield "", path
    position = path.find("/")
    for _number in range(_DEEPEST):
        if position < 0:
            return
        yield path[:position], path[position + 1 :]
        position = path.find("/", position + 1)


def _example(files: Sequence[str], prefix: str) -> str:
    return next(path[len(prefix) :].lstrip("/") for path in files if not prefix or path.startswith(f"{prefix}/"))
