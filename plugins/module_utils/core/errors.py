# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Every error the engine raises, and the exit status that each one means.

An error is one line: what happened, where, and the way out. Doors (modules and the command)
catch ``TradekeepError`` once and turn it into their own kind of failure.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Optional


class ExitStatus(IntEnum):
    """Exit statuses of the ``tradekeep`` command."""

    DONE = 0
    FINDINGS = 1
    USAGE = 2
    FAILED = 3
    NEEDS_PERSON = 4

    @property
    def in_words(self) -> str:
        """What it means, for who reads only its number."""
        return _IN_WORDS[self.value]


_IN_WORDS = {
    0: "done, or nothing to do",
    1: "a check failed, or something drifted",
    2: "wrong usage or configuration",
    3: "failed, and the data is as it was",
    4: "failed, and needs a person",
}


class TradekeepError(Exception):
    """The operation failed and the data is as it was.

    message: what happened, without a full stop. path: the file, key or unit that it happened to.
    hint: the way out, in the imperative.
    """

    exit_status = ExitStatus.FAILED

    def __init__(self, message: str, *, path: Optional[object] = None, hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = None if path is None else str(path)
        self.hint = hint

    def __str__(self) -> str:
        """All of it, with names as they are: whoever shows it to people makes it printable (``formatting``)."""
        where = "" if self.path is None else f"{self.path}: "
        way_out = "" if self.hint is None else f" ({self.hint})"
        return f"{where}{self.message}{way_out}"

    def as_dict(self) -> dict[str, object]:
        """The error as ``--json`` and module results show it."""
        return {
            "message": self.message,
            "path": self.path,
            "hint": self.hint,
            "exit_status": int(self.exit_status),
        }


class UsageError(TradekeepError):
    """Wrong usage: nothing was started."""

    exit_status = ExitStatus.USAGE


class ConfigurationError(UsageError):
    """The profile or the configuration is wrong; ``path`` is the path of the offending key."""


class FindingsError(TradekeepError):
    """A check was carried out and found something wrong."""

    exit_status = ExitStatus.FINDINGS


class LockBusyError(TradekeepError):
    """Another run holds the application's lock; ``message`` says who and since when."""


class CaptureError(TradekeepError):
    """A file cannot be captured consistently."""


class UnreadableError(CaptureError):
    """What the owner of the data may not read is none of the application's data."""

    def __init__(self, message: str, *, path: Optional[object] = None, hint: Optional[str] = None) -> None:
        way_out = "give it to the owner of the data with 'tradekeep tree --fix', or exclude it in the profile"
        super().__init__(message, path=path, hint=hint or way_out)


class EmptyError(CaptureError):
    """A file holds nothing, where its kind says that it holds something."""


class ChangedWhileReadError(CaptureError):
    """A file changed while it was read; the caller may try again."""


class TimeUpError(CaptureError):
    """Work on one file took longer than it may and was ended; that says nothing about its content."""


class CheckError(FindingsError):
    """Content is not what its kind says it must be."""


class OtherContentError(CheckError):
    """Content is of another kind than the file's name says."""


class ArchiveError(TradekeepError):
    """An archive is damaged, incomplete or not one of ours."""


class HostileArchiveError(ArchiveError):
    """An archive holds an entry that could harm the host; ``path`` is the entry's name."""


class EncryptionError(TradekeepError):
    """gpg is missing, has no usable key, or refused the passphrase."""


class SpaceError(TradekeepError):
    """Not enough bytes or inodes for what is planned, or the disk filled up."""


class UnsafePathError(TradekeepError):
    """A path leads through a symlink or out of where it must stay."""


class CommandError(TradekeepError):
    """A helper program is missing, failed or ran out of time."""


class ServiceError(TradekeepError):
    """A service does not stop, start or stay up."""


class InterruptedBySignal(TradekeepError):
    """SIGTERM or SIGINT arrived; what was begun has been undone."""


class NeedsPersonError(TradekeepError):
    """The operation failed and could not put everything back; the message says exactly what to do."""

    exit_status = ExitStatus.NEEDS_PERSON
