# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Step 2: ansible-core in a virtual environment of its own, every file checked against the digest it must have."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from common import ACTION, Refused, annotate, places, private_file, required, say, step

REQUIREMENTS = ACTION / "requirements.txt"
OLDEST_PYTHON = (3, 11)


def main() -> int:
    """Make the environment, or find the one that an earlier call of the same job made."""
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:2]))
        annotate("error", f"python-version: expected 3.11 or newer, found {found}")
        return 1
    home = environment_home()
    if not (home / "complete").exists():
        build(home)
    private_file(places().private / "ansible", str(home / "bin"))
    say(f"ansible-core is in {home}")
    return 0


def environment_home() -> Path:
    """Where it belongs: another Python or another list of requirements is another environment."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode() + sys.executable.encode())
    return Path(required("RUNNER_TEMP"), f"tradekeep-ansible-{digest.hexdigest()[:16]}")


def build(home: Path) -> None:
    """Create and fill it; the marker at the end says that it is whole."""
    _call([sys.executable, "-m", "venv", "--clear", str(home)], "the virtual environment cannot be made")
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    options = ["--quiet", "--require-hashes", "--only-binary", ":all:", "--requirement", str(REQUIREMENTS)]
    _call([*pip, *options], "ansible-core cannot be installed; pip says why above")
    (home / "complete").touch()


def _call(command: list[str], failure: str) -> None:
    # pip's own variables stay: where a runner has a mirror of the package index, they name it. The digests decide.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    if subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode:
        raise Refused(failure)


if __name__ == "__main__":
    step(main)
