# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Programs of Ansible, run against this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def ansible(place: Path, collections: Path, program: str, *words: Any) -> subprocess.CompletedProcess[str]:
    """Run a program of Ansible against this machine, with nothing but this collection."""
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(place),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_NOCOLOR": "true",
        # Jobs are looked for where the account lives, whatever HOME says.
        "ANSIBLE_ASYNC_DIR": str(place / "jobs"),
    }
    where = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    return subprocess.run(
        [str(BIN / program), *(str(word) for word in words), *where],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
