# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a migration takes its data from, whatever it is: a directory, an unpacked old backup, or an archive."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional, Protocol

from ...application import Application
from ...archive.manifest import Entry, Header
from ...errors import UsageError
from ...transaction.stage import Stage
from ..links import is_left_out
from ..restore_plan import Item


@dataclass(frozen=True)
class Refused:
    """Something in the source that never arrives on this host."""

    path: str
    why: str


@dataclass(frozen=True)
class SourceFacts:
    """What a source turned out to be.

    root: where the data begins in it. weaker_checks: no manifest says what it must hold. The rest is what a manifest
    tells, where there is one.
    """

    given: str
    kind: str
    root: str
    weaker_checks: bool
    encrypted: bool = False
    host: str = ""
    profile: str = ""
    created: str = ""
    tool: str = ""
    format: Optional[int] = None

    def as_dict(self) -> dict[str, Any]:
        """The facts as records show them."""
        return asdict(self)


@dataclass(frozen=True)
class Held:
    """What a source holds. left: what no component of the profile has; credentials: what is wrong with each, or None.

    Entries are sorted as they were found; directories are among them.
    """

    entries: tuple[Entry, ...]
    refused: tuple[Refused, ...] = ()
    left: tuple[str, ...] = ()
    credentials: Mapping[str, Optional[str]] = field(default_factory=dict)


class Origin(Protocol):
    """A source that has been read once, and found to be one."""

    facts: SourceFacts
    held: Held

    def fill(self, stage: Stage, changes: Sequence[Item]) -> list[Item]:
        """Write the content of the changes into the stage; returns them with the entries that were written."""


def refusal_of(path: str, entry_type: str, mode: int, target: Optional[str]) -> Optional[str]:
    """Why something must not arrive on this host, or None."""
    if entry_type == "special":
        return "a socket, FIFO or device"
    if entry_type == "deep":
        return "a directory below too many others"
    if is_left_out(Entry(path, entry_type, target=target)):
        return "a symlink that leads out of the data"
    if entry_type == "file" and mode & 0o7000:
        return "setuid, setgid or sticky"
    # Bytes that are not UTF-8 are surrogates (Cs): odd, but they cannot forge a line or turn a name around.
    if any(unicodedata.category(character) in ("Cc", "Cf") for character in path):
        return "control characters in its name"
    return None


def refuse_other_profile(application: Application, header: Header, path: object) -> None:
    """Raises UsageError for a backup of another kind of bot."""
    if header.profile != application.profile.name:
        raise UsageError(
            f"is of the profile {header.profile}, and {application.name} has {application.profile.name}",
            path=path,
            hint="name the application it belongs to with --app",
        )


def nothing_of_profile(application: Application, path: object) -> UsageError:
    """The error for a source that has nothing to do with the application."""
    paths = sorted(item for component in application.profile.components for item in component.paths)
    return UsageError(
        f"holds nothing of the profile {application.profile.name}",
        path=path,
        hint=f"it should hold some of: {', '.join(paths[:6])}",
    )
