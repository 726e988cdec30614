# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Puts compiled code beside the sources in the program: to compile takes longer than most commands.

The very interpreter that the program is for carries this file out, as compiled code belongs to one version of Python.
Any other passes it over and reads the sources. It imports nothing of the engine.
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import struct
import sys
import zipfile

_EPOCH = (1980, 1, 1, 0, 0, 0)
# PEP 552: taken as it is. The times of a zip, to which it would be compared, depend on the time zone.
_UNCHECKED = 1


def add_byte_code(program: bytes, place: str) -> bytes:
    """The program with byte code for each module of its package; ``place`` is what tracebacks call it."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(program)) as given:
        entries = [(name, given.read(name)) for name in given.namelist()]
    made.write(program[: program.index(b"\n") + 1])
    with zipfile.ZipFile(made, "a", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            add_entry(archive, name, content)
        for name, content in entries:
            if "/" in name:
                add_entry(archive, f"{name}c", _compiled(content, f"{place}/{name}"))
    return made.getvalue()


def add_entry(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file in the same way wherever and whenever it is done."""
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.create_system = 3
    entry.external_attr = 0o100644 << 16
    archive.writestr(entry, content)


def _compiled(source: bytes, file: str) -> bytes:
    code = compile(source, file, "exec", dont_inherit=True)
    header = importlib.util.MAGIC_NUMBER + struct.pack("<L", _UNCHECKED) + importlib.util.source_hash(source)
    return header + marshal.dumps(code)


if __name__ == "__main__":
    sys.stdout.buffer.write(add_byte_code(sys.stdin.buffer.read(), sys.argv[1]))
