# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The last step, whatever became of the others: nothing of the key stays."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

from common import Places, annotate, places, step


def main() -> int:
    """End the connections, remove the key, keep the records."""
    here = places()
    close_connections(here)
    # A file that Ansible removes at the same moment is no failure; a key that stays is.
    for directory in (here.private, here.backups):
        shutil.rmtree(directory, ignore_errors=True)
    if here.private.exists():
        annotate("error", f"{here.private} could not be removed; it holds the key")
        return 1
    return 0


def close_connections(here: Places) -> None:
    """End the ssh processes that wait for the next task; they would be logged in for another minute."""
    with contextlib.suppress(OSError):
        directory = Path((here.private / "sockets").read_text(encoding="utf-8"))
        for socket in directory.iterdir():
            command = ["ssh", "-F", "/dev/null", "-o", f"ControlPath={socket}", "-O", "exit", "host"]
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    step(main)
