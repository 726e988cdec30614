# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Runs a command with its temporary files on a filesystem in memory, where root may mount one; else on the disk.

    python3 tests/certify/in_memory.py DIRECTORY COMMAND...

The engine syncs each file that it writes, and tests of it wait for the disk for most of their time. It is an ext4 in a
file that lies in memory, not a tmpfs, which drills refuse for good reason. Nothing is left: the file has no name any
more when the command starts, and the mount is in a namespace of the command's own, which ends with it, however it ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
IMAGE_BYTES = 6 << 30
SPARE_BYTES = 2 << 30
"""What the machine has to have left beside it."""
_MOUNT = 'mount -o loop,noatime "$1" "$2" && rm "$1" && chmod 1777 "$2" && shift 2 && exec "$@"'


def available_bytes() -> int:
    """Memory that can be had without swapping (proc(5))."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def image() -> Path | None:
    """A file in memory with an empty filesystem in it; None where that cannot be."""
    if os.geteuid() != 0 or not MEMORY.is_dir() or available_bytes() < IMAGE_BYTES + SPARE_BYTES:
        return None
    descriptor, name = tempfile.mkstemp(prefix="tradekeep-test-", dir=MEMORY)
    try:
        os.ftruncate(descriptor, IMAGE_BYTES)
    finally:
        os.close(descriptor)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", name], capture_output=True, check=False)
    if made.returncode == 0:
        return Path(name)
    Path(name).unlink()
    return None


def can_mount(file: Path, directory: Path) -> bool:
    """Whether this machine mounts such a file: a container often may not."""
    trial = ["unshare", "--mount", "--propagation", "private", "mount", "-o", "loop", str(file), str(directory)]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


def main() -> int:
    directory, command = Path(sys.argv[1]), sys.argv[2:]
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    if "pytest" in command:
        # The sockets of gpg's agents lie in homes whose path must be short.
        command.append(f"--basetemp={directory}/p")
    environment = {**os.environ, "TMPDIR": str(directory)}
    try:
        file = image()
    except OSError:
        file = None
    if file is not None and not can_mount(file, directory):
        file.unlink()
        file = None
    if file is None:
        print("temporary files are on the disk: no memory, or no right, to mount a filesystem in", flush=True)
        directory.chmod(0o1777)
        os.execvpe(command[0], command, environment)
    mounting = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNT, "sh", str(file), str(directory)]
    os.execvpe(mounting[0], [*mounting, *command], environment)
    return 1


if __name__ == "__main__":
    sys.exit(main())
