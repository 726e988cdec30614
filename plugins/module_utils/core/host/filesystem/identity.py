# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whose rights the kernel checks when this thread names a path.

Below an application's root and checkout every path is the bot's: it can rename directories and put symlinks in their
place at any moment, and no check before a use holds. So the thread works there with the owner's filesystem identity
(setfsuid(2), setfsgid(2), credentials(7)): it can reach and change what the owner could, and nothing of root's. The
capabilities that override permissions are off meanwhile. Work on paths of our own, which root alone can change, is
the exception and says so by ``privileged``: where that is forgotten the kernel refuses, and nothing is exposed.

An account that is not root has one identity, and nothing here does anything.
"""

from __future__ import annotations

import builtins
import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Optional, TypeVar, cast

from ...errors import TradekeepError
from ..account import Account, account_of_uid, groups_of

_C = ctypes.CDLL(None, use_errno=True)
_NOBODY_ASKED = 0xFFFFFFFF
"""(uid_t) -1: setfsuid(2) changes nothing and returns the present value; it cannot fail in another way."""

Function = TypeVar("Function", bound=Callable[..., Any])


@contextmanager
def acting_as(account: Account) -> Iterator[None]:
    """Have the kernel check paths as the account inside the block, in this thread and in those that it starts."""
    if os.geteuid() != 0 or account.uid == 0:
        yield
        return
    _let_modules_load()
    groups = os.getgroups()
    os.setgroups(groups_of(account))
    try:
        before = _switch(account.uid, account.gid)
        try:
            yield
        finally:
            _switch(*before)
    finally:
        os.setgroups(groups)


@contextmanager
def privileged() -> Iterator[None]:
    """Root's own rights inside the block, for paths that no other account can change. Never around a ``yield``."""
    if os.geteuid() != 0:
        yield
        return
    before = _switch(0, 0)
    try:
        yield
    finally:
        _switch(*before)


def stay_privileged() -> None:
    """The same for the rest of a process that was forked for work on our own paths."""
    if os.geteuid() == 0:
        _switch(0, 0)


def with_privileges(function: Function) -> Function:
    """A function that works on our own paths alone."""

    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        with privileged():
            return function(*arguments, **options)

    return cast(Function, wrapped)


def acting_uid() -> int:
    """The account whose rights count for paths at present."""
    return int(_C.setfsuid(ctypes.c_uint32(_NOBODY_ASKED))) & _NOBODY_ASKED


def acting_account() -> Optional[Account]:
    """The account that this thread acts as, for a process that is to be nobody else; None where it is the real one."""
    uid = acting_uid()
    if os.geteuid() != 0 or uid == 0:
        return None
    return account_of_uid(uid, int(_C.setfsgid(ctypes.c_uint32(_NOBODY_ASKED))) & _NOBODY_ASKED)


def _let_modules_load() -> None:
    """Modules and codecs are loaded when they are first needed, from directories that can be root's alone.

    Ansible's are, and an interpreter's below /root; where modules come from, nobody but root has a say (``python -I``).
    """
    plain = builtins.__import__
    if getattr(plain, "has_roots_rights", False):
        return

    @wraps(plain)
    def importing(*arguments: Any, **options: Any) -> Any:
        if acting_uid() == 0:
            return plain(*arguments, **options)
        with privileged():
            return plain(*arguments, **options)

    importing.has_roots_rights = True  # type: ignore[attr-defined]
    builtins.__import__ = importing


def _switch(uid: int, gid: int) -> tuple[int, int]:
    """Change both; returns what they were. Raises where the kernel does not comply: nothing may go on then."""
    # While root's capabilities are there for the group: with another uid they are gone.
    before_uid = int(_C.setfsuid(ctypes.c_uint32(0))) & _NOBODY_ASKED
    before_gid = int(_C.setfsgid(ctypes.c_uint32(gid))) & _NOBODY_ASKED
    _C.setfsuid(ctypes.c_uint32(uid))
    now: Optional[tuple[int, int]] = (acting_uid(), int(_C.setfsgid(ctypes.c_uint32(_NOBODY_ASKED))) & _NOBODY_ASKED)
    if now != (uid, gid):
        raise TradekeepError(f"the system does not let root act as account {uid}, group {gid}", path="setfsuid")
    return before_uid, before_gid
