# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Progress for people: a bar where there is a terminal to show it on, else only the lines worth keeping."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import Optional, TextIO

from .formatting import output_line, printable
from .operations.text import human_bytes
from .signals import wait_for

_REDRAW_SECONDS = 0.1
_BAR = 24
_LONGEST_LABEL = 100


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at the stream; False in a unit, a pipe and a closed stream."""
    try:
        return stream.isatty()
    except (ValueError, AttributeError):
        return False


def is_journal(stream: TextIO) -> bool:
    """Whether the stream goes to the journal, as systemd.exec(5) has a unit find out (``JOURNAL_STREAM``)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def ask(question: str, answers: TextIO, screen: TextIO) -> Optional[bool]:
    """Whether the person at the terminal says yes; None where there is nobody to ask."""
    if not is_terminal(answers) or not is_terminal(screen):
        return None
    _show(screen, output_line(question) + " [y/N] ")
    with contextlib.suppress(OSError, ValueError):  # a screen that is no file
        wait_for((answers.fileno(),))
    return answers.readline().strip().lower() in ("y", "yes")


def columns(stream: TextIO) -> Optional[int]:
    """How wide the terminal is that somebody looks at; None where nobody does, and nothing need be shortened."""
    if not is_terminal(stream):
        return None
    if os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _show(stream: TextIO, text: str) -> None:
    """Nothing that is under way may end, or fail to be put back, because nobody can be told about it."""
    with contextlib.suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()


class NotesOnly:
    """Progress without a bar: only the lines worth keeping in a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def start(self, label: str, total: Optional[int] = None, unit: str = "bytes") -> None:
        """Nothing."""

    def advance(self, amount: int) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """One line."""
        _show(self._stream, output_line(f"tradekeep: {text}") + "\n")

    def mention(self, text: str) -> None:
        """The same."""
        self.note(text)


class Bar:
    """One line that is redrawn at most ten times a second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._label = ""
        self._total: Optional[int] = None
        self._unit = "bytes"
        self._done = 0
        self._drawn = 0
        self._drawn_at = 0.0

    def start(self, label: str, total: Optional[int] = None, unit: str = "bytes") -> None:
        """A new phase on the same line."""
        self._label, self._total, self._unit, self._done = printable(label, _LONGEST_LABEL), total, unit, 0
        self._draw()

    def advance(self, amount: int) -> None:
        """More is done."""
        self._done += amount
        if time.monotonic() - self._drawn_at >= _REDRAW_SECONDS:
            self._draw()

    def finish(self) -> None:
        """The line is left empty: the account that follows says how it went."""
        self._clear()

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._clear()
        _show(self._stream, output_line(f"tradekeep: {text}") + "\n")

    def mention(self, text: str) -> None:
        """The same."""
        self.note(text)

    def _draw(self) -> None:
        text = f"{self._label} {self._amount()}"
        _show(self._stream, "\r" + text.ljust(self._drawn))
        self._drawn, self._drawn_at = len(text), time.monotonic()

    def _clear(self) -> None:
        if self._drawn:
            _show(self._stream, "\r" + " " * self._drawn + "\r")
            self._drawn = 0

    def _amount(self) -> str:
        if not self._total:
            return self._shown(self._done)
        share = min(1.0, self._done / self._total)
        filled = int(share * _BAR)
        drawn = "#" * filled + "." * (_BAR - filled)
        return f"[{drawn}] {share:4.0%} {self._shown(self._done)} of {self._shown(self._total)}"

    def _shown(self, count: int) -> str:
        return human_bytes(count) if self._unit == "bytes" else f"{count} {self._unit}"
