# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Builds the on-host program ``tradekeep`` from the very code that runs.

The program is a zip of the engine's sources behind a ``#!`` line, to which its interpreter adds byte code. The line
has Python look for modules in the program and in its own library alone, whatever the environment and the current
directory hold, and take names for UTF-8 whatever the locale says: a bot's ``signal.py`` on PYTHONPATH is not root's to
run, and a name must be archived as the bytes that it is. It is the
same, byte for byte, whoever builds it from the same sources for the same interpreter: names are sorted, times are
fixed, nothing is compressed (zlib's output differs between versions). The sources are read through the package's
loader, so that this works from a checkout, from the zip that Ansible ships a module in, and from the program itself.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from .byte_code import add_entry
from .errors import UsageError

if TYPE_CHECKING:
    # Ansible ships what is imported, wherever the statement stands. To import all of it takes longer than to use it.
    from . import everything  # noqa: F401  # pylint: disable=unused-import

UNREADABLE = (OSError, KeyError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What zipfile raises for a file that is damaged, or no program of ours (an entry that is missing, sealed, unknown)."""

PROGRAM_NAME = "tradekeep"
DEFAULT_INTERPRETER = "/usr/bin/python3"
PYTHON_OPTIONS = "-IXutf8"
"""Isolated mode and UTF-8 mode, in one word: Linux passes on no more than that of a ``#!`` line."""
_PACKAGE = "tradekeep"
# Not __package__: zipimport of Python 3.9 sets it after the module has run.
_ENGINE = __name__.rpartition(".")[0]
_STARTER = """\
import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until the command listens, which has begun nothing: a traceback says nothing to anybody.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

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
    # Isolated: nothing of a HOME or PYTHONPATH that may be somebody else's, whose *.pth would run before all else.
    content.write(f"#!{interpreter} {PYTHON_OPTIONS}\n".encode())
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        add_entry(archive, "__main__.py", _STARTER.format(config_dir=config_dir).encode())
        for name, source in sorted(engine_sources()):
            add_entry(archive, f"{_PACKAGE}/{name}", source)
    return content.getvalue()


def made_before(path: Path, program: bytes, magic: bytes) -> Optional[bytes]:
    """What lies at the path, where it is the program of these very sources with byte code of this very interpreter.

    program: the sources, as ``build_program`` makes them. magic: what byte code of the interpreter begins with. It is
    put together anew of the sources and of the byte code that is there, and has to be the same to the byte.
    """
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(program)) as sources, zipfile.ZipFile(io.BytesIO(content)) as found:
            entries = [(name, sources.read(name)) for name in sources.namelist()]
            for name, _source in tuple(entries):
                if "/" in name:
                    byte_code = found.read(f"{name}c")
                    if not byte_code.startswith(magic) or f"{path}/{name}".encode() not in byte_code:
                        return None
                    entries.append((f"{name}c", byte_code))
    except UNREADABLE:
        return None
    again = io.BytesIO()
    again.write(program[: program.index(b"\n") + 1])
    with zipfile.ZipFile(again, "a", zipfile.ZIP_STORED) as archive:
        for name, entry in entries:
            add_entry(archive, name, entry)
    return content if again.getvalue() == content else None


def compiler_source() -> str:
    """What an interpreter carries out (``-c``) to put its byte code into the program."""
    return dict(engine_sources())["byte_code.py"].decode("utf-8")


def engine_sources() -> Iterator[tuple[str, bytes]]:
    """Name below the engine's package, and source, of each of its files."""
    # The module `everything`, from which the name comes, makes Ansible ship all of them.
    return _python_files(files(_ENGINE), "")


def _python_files(directory: Any, prefix: str) -> Iterator[tuple[str, bytes]]:
    for item in directory.iterdir():
        if item.is_dir():
            if item.name != "__pycache__":
                yield from _python_files(item, f"{prefix}{item.name}/")
        elif item.name.endswith(".py"):
            yield prefix + item.name, item.read_bytes()
