# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The least that two processes of Python need for 100,000 small files, in seconds on the clock, without any check.

floor_of_two.py DIRECTORY      (one that dataset.py made: ~/.cache/tradekeep-ops/bench/small-*)

Both look at half of the files, and capture them when both have looked: read, look again, hash, header, line, compress.
The first writes what both have captured, and a thread of it reads that back. No profile, no catalog, no names checked.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from isal import isal_zlib

FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
GZIP = 31
AT_ONCE = 500
HEADER = bytes(380)
Batch = tuple[list[str], str, bytes, bytes]


def look(directories: list[str]) -> list[tuple[str, int, tuple[int, ...]]]:
    """Each file's name, the directory it is opened from, and what it was like."""
    found = []
    for directory in directories:
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        for name in sorted(os.listdir(opened)):
            status = os.stat(name, dir_fd=opened, follow_symlinks=False)
            found.append((name, opened, identity(status)))
    return found


def identity(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file does."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def capture(found: list[tuple[str, int, tuple[int, ...]]]) -> Iterator[Batch]:
    """Names, lines, compressed files, and their digest."""
    for start in range(0, len(found), AT_ONCE):
        names, lines, parts = [], [], []
        for name, directory, seen in found[start : start + AT_ONCE]:
            descriptor = os.open(name, FLAGS, dir_fd=directory)
            content = os.pread(descriptor, seen[2] + 1, 0)
            unchanged = identity(os.fstat(descriptor)) == seen
            os.close(descriptor)
            if not unchanged:
                raise SystemExit(f"{name} has changed")
            size, digest = len(content), hashlib.sha256(content).hexdigest()
            names.append(name)
            lines.append(f'{{"path":"{name}","type":"file","size":{size},"mtime_ns":{seen[3]},"sha256":"{digest}"}}')
            header = name.encode("ascii").ljust(100, b"\0") + b"%011o\0%011o\0" % (size, seen[3] // 10**9)
            parts += (header, HEADER, b"12345678", content, bytes(-size % 512))
        data = b"".join(parts)
        yield names, ",\n".join(lines), isal_zlib.compress(data, 1, GZIP), hashlib.sha256(data).digest()


def second(directories: list[str], ready: int, told: int) -> None:
    """What the other process does."""
    found = look(directories)
    os.write(ready, b"1")
    with os.fdopen(told, "wb") as pipe:
        for batch in capture(found):
            marshal.dump(batch, pipe)
            pipe.flush()


def first(directories: list[str], ready: int, heard: int, out: Path) -> int:
    """Captures its own, writes everything, and has it read back; the number of files."""
    found = look(directories)
    os.read(ready, 1)
    names: set[str] = set()
    lines: list[str] = []
    with (
        open(out, "wb") as file,
        open(out, "rb") as again,
        os.fdopen(heard, "rb") as pipe,
        ThreadPoolExecutor(1) as pool,
    ):

        def keep(batch: Batch) -> Any:
            names.update(batch[0])
            lines.append(batch[1])
            file.write(batch[2])
            file.flush()
            return pool.submit(proven, again.fileno(), file.tell() - len(batch[2]), len(batch[2]), batch[3])

        proofs = []
        for mine in capture(found):
            proofs += [keep(mine), keep(marshal.load(pipe))]  # what the process's own fork says
        file.write(isal_zlib.compress(",\n".join(lines).encode("ascii"), 1, GZIP))
        file.flush()
        os.fsync(file.fileno())
        if not all(proof.result() for proof in proofs):
            raise SystemExit("what was read back is not what was written")
    return len(names)


def proven(descriptor: int, start: int, size: int, digest: bytes) -> bool:
    """Whether what lies in the file has the digest."""
    return hashlib.sha256(isal_zlib.decompress(os.pread(descriptor, size, start), GZIP)).digest() == digest


def main(root: str) -> None:
    """All of it in a process of its own, and on the clock."""
    if os.environ.get("FLOOR") != "1":
        began = time.monotonic()
        subprocess.run([sys.executable, __file__, root], env={**os.environ, "FLOOR": "1"}, check=True)
        print(f"{time.monotonic() - began:5.2f} s on the clock, two processes")
        return
    directories = [directory for directory, _directories, names in os.walk(root) if names]
    (ready, said), (heard, told) = os.pipe(), os.pipe()
    if os.fork() == 0:
        second(directories[1::2], said, told)
        os._exit(0)
    os.close(told)
    with tempfile.TemporaryDirectory() as scratch:
        first(directories[::2], ready, heard, Path(scratch, "out.tar.gz"))


if __name__ == "__main__":
    main(sys.argv[1])
