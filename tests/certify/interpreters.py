# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The Pythons of this machine: on PATH and under pyenv's versions directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SUPPORTED = ("3.9", "3.10", "3.11", "3.12", "3.13")


def find() -> dict[str, Path | None]:
    """Map every supported version to a Python that really starts, or to None."""
    return {version: next(filter(_starts, _candidates(version)), None) for version in SUPPORTED}


def _candidates(version: str) -> list[Path]:
    """The one running this first, then pyenv's newest, then PATH (where pyenv's shims may only pretend)."""
    running = [Path(sys.executable)] if version == f"{sys.version_info[0]}.{sys.version_info[1]}" else []
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    released = [path for path in pyenv.glob(f"{version}.*") if re.fullmatch(r"[\d.]+", path.name)]
    released.sort(key=lambda path: int(path.name.rpartition(".")[2]), reverse=True)
    on_path = shutil.which(f"python{version}")
    return [*running, *(path / "bin" / f"python{version}" for path in released), *([Path(on_path)] if on_path else [])]


def _starts(python: Path) -> bool:
    try:
        done = subprocess.run([str(python), "-c", "import venv, sqlite3"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0
