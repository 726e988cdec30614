# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The fence: a note in the state directory that this application must not run on this host."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ..errors import NeedsPersonError, TradekeepError
from ..host.files import atomic_write, fsync_directory, make_private_directory, os_errors
from ..host.filesystem.identity import with_privileges

FENCE_PATH = "fenced.json"
"""Beneath the application's state directory; there as long as nothing of it may be started."""


@with_privileges
def write_fence(state_dir: Path, fence: Mapping[str, Any]) -> None:
    """Put the fence up, durably."""
    make_private_directory(state_dir)
    text = json.dumps(dict(fence), indent=2, sort_keys=True) + "\n"
    atomic_write(Path(state_dir) / FENCE_PATH, text.encode("ascii"))


@with_privileges
def read_fence(state_dir: Path) -> Optional[dict[str, Any]]:
    """The fence, None where there is none. One that cannot be read is a fence all the same."""
    path = Path(state_dir) / FENCE_PATH
    try:
        fence = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise NeedsPersonError(
            f"the fence cannot be read: {error}",
            path=path,
            hint="make sure that the bot runs nowhere else, unmask its units, then remove the file",
        ) from error
    if not isinstance(fence, dict):
        raise NeedsPersonError("the fence is no object", path=path, hint="see 'systemctl status', then remove the file")
    return fence


@with_privileges
def remove_fence(state_dir: Path) -> None:
    """Take the fence down."""
    path = Path(state_dir) / FENCE_PATH
    with os_errors(path), contextlib.suppress(FileNotFoundError):
        path.unlink()
        fsync_directory(state_dir)


def fence_in_words(fence: Mapping[str, Any]) -> str:
    """One line: since when, and why."""
    reason = f": {fence['reason']}" if fence.get("reason") else ""
    return f"fenced since {str(fence.get('at', ''))[:19]}{reason}"


def refuse_fenced(state_dir: Path, what: str) -> None:
    """Raises TradekeepError where the application is fenced. what: what is not done, as a sentence begins."""
    fence = read_fence(state_dir)
    if fence is not None:
        raise TradekeepError(
            f"{what}: this host is {fence_in_words(fence)}",
            path=Path(state_dir) / FENCE_PATH,
            hint="make sure that the bot runs nowhere else, then: tradekeep unfence",
        )
