# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The code manifest: what a deploy put into the checkout, so that the next one knows what is its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ...errors import TradekeepError
from ...host.files import atomic_write, os_errors

EXECUTABLE = 0o100755
SYMLINK = 0o120000
SUBMODULE = 0o160000


@dataclass(frozen=True)
class CodeEntry:
    """One path of a commit. mode and oid: as git's tree has them.

    sha256: of the content that was put there (of the target, for a symlink); None where it was never exported.
    ours: whether a deploy put it there, so that a later one may replace or remove it.
    """

    path: str
    mode: int
    oid: str
    sha256: Optional[str] = None
    ours: bool = True


@dataclass(frozen=True)
class CodeManifest:
    """What the checkout holds by the last deploy. commit None: nothing was deployed yet."""

    commit: Optional[str] = None
    entries: Mapping[str, CodeEntry] = field(default_factory=dict)


def write_manifest(path: Path, entries: Iterable[CodeEntry]) -> None:
    """Write entries durably, one in each line."""
    rows = (json.dumps([e.path, e.mode, e.oid, e.sha256, int(e.ours)], separators=(",", ":")) for e in entries)
    atomic_write(path, "".join(row + "\n" for row in rows).encode("ascii"))


def read_manifest(path: Path, commit: str) -> CodeManifest:
    """The manifest of a commit that was deployed. Raises TradekeepError when it is damaged."""
    entries: dict[str, CodeEntry] = {}
    with os_errors(path):
        text = path.read_text("ascii")
    try:
        for line in text.splitlines():
            name, mode, oid, sha256, ours = json.loads(line)
            entries[name] = CodeEntry(name, mode, oid, sha256, bool(ours))
    except (ValueError, TypeError) as error:
        raise TradekeepError(
            f"what was deployed cannot be read: {error}", path=path, hint="remove the file to adopt the checkout again"
        ) from error
    return CodeManifest(commit, entries)
