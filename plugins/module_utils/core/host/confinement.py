# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a forked process gives up before it looks at anything that the bot wrote.

See prctl(2), setrlimit(2), credentials(7). None of it can be taken back by the process.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import resource
import signal
from typing import Optional

from .account import Account, become

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522


def detach() -> None:
    """Leave the terminal: who holds it can type on it (TIOCSTI) in the name of whoever sits there."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)


def confine(account: Optional[Account], memory_bytes: Optional[int]) -> None:
    """Become the account, with no way to more rights, to a core dump, or to a life after the parent's.

    memory_bytes: of private memory (RLIMIT_DATA), so that mapped files do not count.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        with contextlib.suppress(ValueError, OSError):  # a lower hard limit is as good
            resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    if account is not None:
        _load()
        become(account)
    # After the change of account, which the kernel undoes them by.
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def hide_memory() -> None:
    """Let no other process look into this one, or through it at the files that it sees (proc(5), ptrace(2))."""
    with contextlib.suppress(OSError):
        _prctl(_PR_SET_DUMPABLE, 0)


def _load() -> None:
    """What is only loaded when it is first needed, and can lie where root alone can read."""
    from .. import faults  # noqa: F401

    for name in ("ascii", "latin-1", "utf-8"):
        codecs.lookup(name)


def drop_capabilities() -> None:
    """Give up every capability of this process; root keeps the files that belong to root, and nothing else.

    Raises OSError where the kernel refuses. See capset(2).
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    library = ctypes.CDLL(None, use_errno=True)
    if library.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} is refused")
