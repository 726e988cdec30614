# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The least that Python needs for 100,000 small files, in CPU seconds, without any of the engine's checks.

floor.py DIRECTORY      (one that dataset.py made: ~/.cache/tradekeep-ops/bench/small-*)
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from isal import isal_zlib

FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read(path: str) -> bytes:
    """Open, read, make sure that it is what was looked at, close."""
    descriptor = os.open(path, FLAGS)
    content = os.pread(descriptor, 4096, 0)
    os.fstat(descriptor)
    os.close(descriptor)
    return content


def timed(what: str, work: Callable[[], Any]) -> Any:
    """Do it, and say how long it took."""
    began = time.process_time()
    result = work()
    print(f"{time.process_time() - began:5.2f} s  {what}")
    return result


def main(root: str) -> None:
    """Every step by itself."""
    began = time.process_time()
    walked = timed("list directories", lambda: list(os.walk(root)))
    paths = [f"{directory}/{name}" for directory, _directories, names in walked for name in names]
    timed("look at each file (size, owner, mode, time)", lambda: [os.lstat(path).st_size for path in paths])
    contents = timed("open, read, look again, close", lambda: [read(path) for path in paths])
    digests = timed("SHA-256", lambda: [hashlib.sha256(content).hexdigest() for content in contents])
    decode = json.JSONDecoder().raw_decode
    timed("parse as JSON", lambda: sum(decode(content.decode())[1] for content in contents))
    timed("a line of the manifest", lambda: [f'{{"path":"{p}","sha256":"{d}"}}' for p, d in zip(paths, digests)])
    tar = b"".join(bytes(512) + content + bytes(-len(content) % 512) for content in contents)
    packed = timed("compress", lambda: isal_zlib.compress(tar, 1))
    timed("decompress", lambda: isal_zlib.decompress(packed))
    timed("SHA-256 again, of what was read back", lambda: [hashlib.sha256(content).digest() for content in contents])
    print(f"{time.process_time() - began:5.2f} s  all")


if __name__ == "__main__":
    main(sys.argv[1])
