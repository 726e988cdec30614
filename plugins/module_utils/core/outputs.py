# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Standard input and outputs that are closed, full or heard by nobody say nothing of how the work went."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Callable

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_standard_streams() -> None:
    """Let each of the three that the caller has closed lead nowhere (``2>&-``, a daemon).

    Else the next file that is opened gets its number: an archive would be standard error to each program that is run.
    """
    for descriptor, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is the one that is closed
            os.set_inheritable(nowhere, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (as long as the process)


def discard_unheard() -> None:
    """Let what was not taken go nowhere (a full disk, `| head`): the interpreter flushes it again at its end, and
    another failure would change the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _lead_nowhere(stream.fileno)


def _lead_nowhere(number: Callable[[], int]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):  # closed for Python, too
        os.dup2(nowhere, number())
    os.close(nowhere)
