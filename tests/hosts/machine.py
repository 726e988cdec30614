# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What every part of the test hosts shares: where things lie, locks, commands, polling."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence


class HostError(Exception):
    """A foreseeable fault, said in one line."""


def cache_dir() -> Path:
    """Where images and hosts are kept; the same for a person and for the root that works for them."""
    configured = os.environ.get("TRADEKEEP_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "tradekeep-ops"


def images_dir() -> Path:
    """The cached root filesystems."""
    return cache_dir() / "images"


def hosts_dir() -> Path:
    """One directory per host, and the key that opens all of them."""
    return cache_dir() / "hosts"


def run(command: Sequence[str], *, check: bool = True, timeout: Optional[float] = None) -> str:
    """Run a command and return what it printed; its own words make the error when it fails."""
    try:
        done = subprocess.run(list(command), text=True, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise HostError(f"{command[0]}: not found; run tests/hosts/prepare as root") from error
    except subprocess.TimeoutExpired as error:
        if check:
            raise HostError(f"{' '.join(command)}: no end after {timeout:.0f} s") from error
        return ""
    if check and done.returncode != 0:
        reason = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise HostError(f"{' '.join(command)}: {reason}")
    return done.stdout


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel lets go of it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def wait_until(condition: Callable[[], bool], *, seconds: float, interval: float = 0.2) -> bool:
    """Ask again and again; true as soon as the condition holds, false when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def give_to_caller(*paths: Path) -> None:
    """With sudo, leave what a person must read (key, inventory) to that person."""
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if uid and gid:
        for path in paths:
            os.chown(path, int(uid), int(gid))
