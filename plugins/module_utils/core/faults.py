# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Names the faults of the operating system in one line; what nobody foresaw stays as it is."""

from __future__ import annotations

import errno
from typing import Optional

from .errors import NeedsPersonError, SpaceError, TradekeepError
from .host.filesystem.immutable import reason_for

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def foreseen(error: BaseException) -> Optional[TradekeepError]:
    """The error as one of ours, or None when it is a mistake in the program."""
    if isinstance(error, TradekeepError):
        return error
    if isinstance(error, OSError):
        return _from_operating_system(error)
    if isinstance(error, MemoryError):
        return TradekeepError("not enough memory", hint="free some memory and run it again")
    return None


def unforeseen(error: BaseException) -> NeedsPersonError:
    """A mistake in the program: nobody can promise anything about the data, so a person must look."""
    return NeedsPersonError(
        f"internal error: {type(error).__name__}: {error}",
        hint="run 'tradekeep recover' to see the state of the data, and report the traceback",
    )


def _from_operating_system(error: OSError) -> TradekeepError:
    message = (error.strerror or type(error).__name__).lower()
    if error.errno in _FULL:
        return SpaceError(message, path=_name(error), hint="free some space and run it again")
    if error.errno in (errno.EACCES, errno.EPERM):
        return reason_for(error, _name(error)) or TradekeepError(
            message, path=_name(error), hint="run it as the account that installed tradekeep, often root"
        )
    if error.errno == errno.EROFS:
        return TradekeepError(message, path=_name(error), hint="mount the filesystem read-write")
    return TradekeepError(message, path=_name(error))


def _name(error: OSError) -> Optional[str]:
    if isinstance(error.filename, bytes):
        return error.filename.decode("utf-8", "backslashreplace")
    return None if error.filename is None else str(error.filename)
