# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Passphrase files: what a person would type, whatever an editor put around it.

gpg takes all bytes of the first line (gpg(1), ``--passphrase-fd``), also the carriage return, the byte order mark and
the blanks that nobody sees and nobody types. New archives are encrypted to what can be typed; older ones may need the
line as it is written.
"""

from __future__ import annotations

import codecs
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import EncryptionError
from ..formatting import pasted
from ..host.trust import open_trusted

_LONGEST_LINE = 4096
_HINT = "write the passphrase into it, as one line, readable by its owner alone"


@dataclass(frozen=True)
class Passphrase:
    """The first line of a file. typed: without what cannot be seen around it. written: every byte of it."""

    typed: bytes
    written: bytes

    @property
    def forms(self) -> tuple[bytes, ...]:
        """What an archive may have been encrypted to, the likeliest first."""
        return (self.typed,) if self.typed == self.written else (self.typed, self.written)

    @property
    def unseen(self) -> str:
        """What stands around the passphrase and is left out, in words; empty where nothing does."""
        rest = _without_mark(self.written)
        found = ["a byte order mark"] if rest != self.written else []
        if rest.endswith(b"\r"):
            found.append("a carriage return")
        if rest.rstrip(b"\r") != self.typed:
            found.append("blanks")
        return " and ".join(found)


def read_passphrase(path: str) -> Passphrase:
    """What a passphrase file holds. Raises EncryptionError when it is not there, not private, or empty."""
    try:
        descriptor = open_trusted(path, what="the passphrase file", error=EncryptionError)
    except OSError as error:
        raise EncryptionError(f"passphrase file cannot be read: {error.strerror}", path=path, hint=_HINT) from error
    try:
        written = os.pread(descriptor, _LONGEST_LINE, 0).partition(b"\n")[0]
        found = Passphrase(_without_mark(written).strip(), written)
        if not found.typed:
            raise EncryptionError("passphrase file is empty", path=path, hint=_HINT)
        if os.fstat(descriptor).st_mode & 0o077:
            raise EncryptionError("passphrase file can be read by others", path=path, hint=f"chmod 600 {pasted(path)}")
        return found
    finally:
        os.close(descriptor)


def _without_mark(line: bytes) -> bytes:
    return line[len(codecs.BOM_UTF8) :] if line.startswith(codecs.BOM_UTF8) else line


@contextlib.contextmanager
def passed_on(passphrase: bytes) -> Iterator[int]:
    """A descriptor from which one program reads a passphrase; it lies in no file and in no list of processes."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as file:
            file.write(passphrase + b"\n")
        yield reading
    finally:
        os.close(reading)
