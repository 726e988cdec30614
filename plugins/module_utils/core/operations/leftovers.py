# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What killed processes leave in the state directory, such as a copy of a database or the export of a commit."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ..application import Application
from ..host.files import os_errors, process_lives, remove_tree
from ..host.filesystem.identity import with_privileges

COMPARE_PREFIX = ".tradekeep-compare-"
_OWNED = re.compile(r"\.tradekeep-[a-z]+-(\d+)-\w+")


@with_privileges
def sweep_state(application: Application) -> tuple[str, ...]:
    """Remove temporary files and directories whose process is gone; returns their names."""
    state = Path(application.application_state_dir)
    below = (Path(place) for place, _directories, _files in os.walk(state / "deploy"))
    directories = (state, state / "migrations", Path(application.state_dir) / "mirrors", *below)
    return tuple(name for directory in directories for name in _sweep(directory))


def _sweep(directory: Path) -> list[str]:
    removed: list[str] = []
    with os_errors(directory):
        names = sorted(os.listdir(directory)) if directory.is_dir() else []
        for name in names:
            owner = _OWNED.fullmatch(name)
            if owner is None or process_lives(int(owner[1])):
                continue
            path = directory / name
            if stat.S_ISDIR(path.lstat().st_mode):
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)
            removed.append(name)
    return removed
