# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Runs pytest again and again, each time in a fork of a process that has imported it already.

    python warmed.py     (in the directory whose tests are to run)

Reads one JSON line for each run: the arguments, the file for the output, and the seconds that the run may take. Answers
each with one line: the exit status of pytest, or null when the time was over. Ends when its input does.

Only pytest and the standard library are imported before a fork. The collection, the tests and what they share are
imported by each fork anew, so that it runs what the files hold at that moment.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# What tests and the engine import; what is missing here is merely imported by each fork.
IMPORTED_BY_MOST = (
    "_pytest.junitxml", "_pytest.unraisableexception", "argparse", "base64", "bz2", "concurrent.futures", "ctypes",
    "dataclasses", "datetime", "decimal", "difflib", "email.parser", "fcntl", "grp", "gzip", "hashlib", "hmac",
    "http.client", "lzma", "mmap", "multiprocessing", "pwd", "queue", "random", "secrets", "select", "shlex", "socket",
    "sqlite3", "statistics", "subprocess", "tarfile", "tempfile", "threading", "unittest.mock", "urllib.request",
    "uuid", "xml.etree.ElementTree", "zipfile", "zlib", "zoneinfo",
)  # fmt: skip


def stale(directory: Path) -> list[str]:
    """The imported modules that a fork would have from before it was made, although the directory holds them."""
    modules = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if name != "__main__"}
    return [name for name, file in modules.items() if file and Path(file).resolve().is_relative_to(directory)]


def begin(arguments: list[str], log: str) -> int | None:
    """Fork; returns the process number, and None in the fork."""
    number = os.fork()
    if number:
        return number
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for path, flags, target in ((os.devnull, os.O_RDONLY, 0), (log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 1)):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, target)
        os.close(opened)
    os.dup2(1, 2)
    sys.argv = ["pytest", *arguments]
    return None


def ended(number: int, seconds: float | None) -> int | None:
    """Wait for the fork; None when it had to be killed because its time was over."""
    late = []

    def kill(*_: object) -> None:
        late.append(True)
        os.kill(number, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, seconds or 0)
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None if late else status


def requests() -> Iterator[dict]:
    """What is to be run, line by line; without the buffer that every fork would have a copy of."""
    line = b""
    while byte := os.read(0, 1):
        if byte != b"\n":
            line += byte
            continue
        yield json.loads(line)
        line = b""


def main() -> int:
    for name in IMPORTED_BY_MOST:
        importlib.import_module(name)
    # As with `python -m pytest`: the directory of the tests, not the one of this program.
    sys.path[0] = os.getcwd()
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the memory that it shares
    old = stale(Path.cwd())
    if old:
        raise SystemExit(f"imported before the fork: {', '.join(old)}")
    for request in requests():
        number = begin(request["arguments"], request["log"])
        if number is None:
            return int(pytest.main(request["arguments"]))
        answer = json.dumps(ended(number, request["seconds"])) + "\n"
        os.write(1, answer.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
