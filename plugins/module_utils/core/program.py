# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Builds the on-host program ``tradekeep`` from the very code that runs.

The program is a zip of the engine's sources behind a ``#!`` line. It is the same, byte for byte, whoever builds it from
the same sources: names are sorted, times are fixed, nothing is compressed (zlib's output differs between versions).
The sources are read through the package's loader, so that this works from a checkout, from the zip that Ansible ships
a module in, and from the program itself.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from .errors import UsageError
from .everything import ENGINE

PROGRAM_NAME = "tradekeep"
DEFAULT_INTERPRETER = "/usr/bin/python3"
_PACKAGE = "tradekeep"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_STARTER = """\
import sys

if sys.version_info < (3, 9):
    sys.stderr.write("tradekeep: Python 3.9 or newer is needed, this is %s\\n" % sys.version.split()[0])
    raise SystemExit(2)

from tradekeep.cli import main

raise SystemExit(main(config_dir={config_dir!r}))
"""


def build_program(*, interpreter: str = DEFAULT_INTERPRETER, config_dir: str = "/etc/tradekeep") -> bytes:
    """The program's bytes; ``config_dir`` is where it looks for configurations unless told otherwise."""
    if not interpreter.startswith("/") or len(interpreter.split()) != 1:
        raise UsageError("the interpreter must be an absolute path without spaces", path=interpreter)
    content = io.BytesIO()
    content.write(f"#!{interpreter}\n".encode())
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        _add(archive, "__main__.py", _STARTER.format(config_dir=config_dir).encode())
        for name, source in sorted(engine_sources()):
            _add(archive, f"{_PACKAGE}/{name}", source)
    return content.getvalue()


def engine_sources() -> Iterator[tuple[str, bytes]]:
    """Name below the engine's package, and source, of each of its files."""
    # The module `everything`, from which the name comes, makes Ansible ship all of them.
    return _python_files(files(ENGINE), "")


def _python_files(directory: Any, prefix: str) -> Iterator[tuple[str, bytes]]:
    for item in directory.iterdir():
        if item.is_dir():
            if item.name != "__pycache__":
                yield from _python_files(item, f"{prefix}{item.name}/")
        elif item.name.endswith(".py"):
            yield prefix + item.name, item.read_bytes()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.create_system = 3
    entry.external_attr = 0o100644 << 16
    archive.writestr(entry, content)
