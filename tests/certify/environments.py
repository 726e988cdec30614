#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Virtual environments of the checkout, made once and found again by what they hold.

An environment is one file of ``requirements/`` installed into one Python. It lives in ``~/.cache/tradekeep-ops``
(or ``$TRADEKEEP_CACHE``) under a name that carries a digest of both, so that a changed requirement makes a new
environment and an unchanged one costs nothing. A symlink without the digest (``dev``) points to the present one.

    python3 tests/certify/environments.py dev           # makes it when needed, prints its path
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator

TOP = Path(__file__).resolve().parents[2]
COMPLETE = ".complete"


class EnvironmentFailure(Exception):
    """An environment could not be made; the message says why and what to do."""


def cache_directory() -> Path:
    """Where environments live."""
    return Path(os.environ.get("TRADEKEEP_CACHE") or Path.home() / ".cache" / "tradekeep-ops")


def identity(python: Path) -> str:
    """What tells one interpreter from another: where it is and its full version."""
    show = "import os, sys; print(os.path.realpath(sys.executable), sys.version)"
    return subprocess.run([str(python), "-I", "-c", show], check=True, capture_output=True, text=True).stdout


def environment(name: str, *, python: Path | None = None, alias: str | None = None) -> Path:
    """Return the environment of ``requirements/<name>.txt``, made now when it does not exist yet."""
    python = python or Path(sys.executable)
    requirements = TOP / "requirements" / f"{name}.txt"
    _require_python(requirements, python)
    digest = hashlib.sha256(requirements.read_bytes() + identity(python).encode()).hexdigest()[:16]
    directory = cache_directory() / f"{alias or name}-{digest}"
    cache_directory().mkdir(parents=True, exist_ok=True)
    with _lock(cache_directory() / f".{directory.name}.lock"):
        if not (directory / COMPLETE).exists():
            _make(directory, python, requirements)
    _point(cache_directory() / (alias or name), directory.name)
    return directory


def _require_python(requirements: Path, python: Path) -> None:
    """Say which Python is needed, before pip says that there is no such version of a package."""
    wanted = re.search(r"^#.*Python >= (\d+)\.(\d+)", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    show = "import platform; print(platform.python_version())"
    found = subprocess.run([str(python), "-I", "-c", show], check=True, capture_output=True, text=True).stdout.strip()
    present = re.match(r"(\d+)\.(\d+)", found)
    if wanted is None or present is None:
        return
    oldest = tuple(map(int, wanted.groups()))
    if tuple(map(int, present.groups())) >= oldest:
        return
    newer = [f"python{oldest[0]}.{minor}" for minor in range(oldest[1] + 8, oldest[1] - 1, -1)]
    target = requirements.stem if requirements.stem == "demo" else "test"
    here = next((name for name in newer if shutil.which(name)), None)
    way_out = f"make {target} PYTHON={here or newer[-1]}"
    raise EnvironmentFailure(
        f"requirements/{requirements.name} needs Python {oldest[0]}.{oldest[1]} or newer, and {python} is {found} "
        f"({way_out if here else f'install a newer one, then: {way_out}'})"
    )


def _make(directory: Path, python: Path, requirements: Path) -> None:
    """Build in place (scripts carry absolute paths); the marker comes last, so a broken one is built again."""
    shutil.rmtree(directory, ignore_errors=True)
    print(f"making {directory} from {requirements.name}", file=sys.stderr)
    _run([str(python), "-I", "-m", "venv", str(directory)], hint="on Debian: apt-get install python3-venv")
    pip = [str(directory / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "install", "-r", str(requirements)], hint="see the lines above; is the package index reachable?")
    (directory / COMPLETE).touch()


def _run(command: list[str], *, hint: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise EnvironmentFailure(f"{' '.join(command)} ended with {done.returncode} ({hint})")


def _point(link: Path, target: str) -> None:
    """Set the stable symlink in one step; a reader sees the old or the new environment."""
    if link.is_symlink() and os.readlink(link) == target:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: environments.py NAME   (a file of requirements/ without .txt)", file=sys.stderr)
        return 2
    try:
        print(environment(sys.argv[1]))
    except EnvironmentFailure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
