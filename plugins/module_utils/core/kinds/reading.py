# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Reading files that others are writing: never through a symlink, never a device, never torn."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ..errors import CaptureError, ChangedWhileReadError, UnreadableError
from ..host.filesystem.holes import extents_of
from ..signals import answer
from .base import CaptureContext, CheckReport, FilePath, Signature

SMALL_FILE = 8 << 20
CHUNK = 1 << 20
SETTLED_SECONDS = 5.0
"""A file left alone for so long is not being written: what is odd about it will stay so."""

# O_NONBLOCK: should a FIFO take the file's place this instant, opening it does not wait for a writer.
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CLOCK_REALTIME_COARSE = 5
_SPECIAL = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symlink",
    stat.S_IFDIR: "a directory",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


def signature(descriptor: int) -> Signature:
    """The signature of an open file."""
    return signature_of(os.fstat(descriptor))


def signature_of(status: os.stat_result) -> Signature:
    """The signature in a stat result."""
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def open_regular(path: FilePath) -> int:
    """A descriptor of a regular file. Sockets, FIFOs, devices and symlinks are refused before they are opened."""
    status_of(path)
    descriptor = open_seen(path)
    try:
        _require_regular(path, os.fstat(descriptor).st_mode)
    except CaptureError:
        os.close(descriptor)
        raise
    return descriptor


def status_of(path: FilePath) -> os.stat_result:
    """What lies at the path, which must be a regular file. It is not opened."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise _cannot_read(path, error) from error
    _require_regular(path, status.st_mode)
    return status


def open_seen(path: FilePath) -> int:
    """A descriptor of what ``status_of`` has just found to be a regular file; the caller makes sure it still was."""
    try:
        return os.open(path, FLAGS)
    except OSError as error:
        raise _cannot_read(path, error) from error


def what_it_is(mode: int) -> str:
    """In words, for what is no regular file."""
    return _SPECIAL.get(stat.S_IFMT(mode), "of an unknown type")


def _require_regular(path: FilePath, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise CaptureError(f"is {what_it_is(mode)}, not a regular file", path=path)


def _cannot_read(path: FilePath, error: OSError) -> CaptureError:
    if error.errno == errno.ENOENT:
        return ChangedWhileReadError("disappeared before it could be read", path=path)
    if error.errno in (errno.EACCES, errno.EPERM):
        return UnreadableError("may not be read by the owner of the data", path=path)
    return CaptureError(f"cannot be read: {error.strerror}", path=path)


def may_change_unseen(changed_ns: int) -> bool:
    """Whether a write this instant could leave the time of last change as it is.

    The kernel stamps files with a clock that ticks every few milliseconds, some filesystems with whole seconds;
    until the tick is over, an equal stat proves nothing (375 of 2160 reads of a busy document were torn that way).
    """
    now_ns = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
    if changed_ns % 1_000_000_000 == 0:
        return abs(now_ns - changed_ns) < 2_000_000_000
    return 0 <= changed_ns - now_ns < 1_000_000_000


def is_settled(changed_ns: int) -> bool:
    """Whether nobody has touched the file for a while."""
    return abs(time.time_ns() - changed_ns) > SETTLED_SECONDS * 1_000_000_000


def check_readable(kind: str, path: FilePath) -> CheckReport:
    """All that can be checked of a file whose content has no rules: that it is a regular one that can be read."""
    try:
        os.close(open_regular(path))
    except CaptureError as error:
        return CheckReport(kind, problems=(error.message,))
    return CheckReport(kind)


def pauses(context: CaptureContext) -> Iterator[int]:
    """Numbers of attempts, with growing pauses between them (about four seconds for twenty)."""
    for attempt in range(max(1, context.attempts)):
        if attempt:
            context.clock.sleep(min(0.01 * 2 ** (attempt - 1), 0.25))
        yield attempt


def keeps_changing(path: FilePath, context: CaptureContext) -> CaptureError:
    """The error for a file that never held still."""
    return CaptureError(
        f"keeps changing while it is read ({context.attempts} attempts)",
        path=path,
        hint="stop the service for the backup, let the writer replace the file by rename, or, if it only grows, "
        "give it 'kind: log' in the profile",
    )


def wait_until_stat_counts(descriptor: int, context: CaptureContext) -> Signature:
    """The signature, taken when a later write is bound to show in it.

    A file that is written all the time is not waited for: the caller finds it changed, or reads it again.
    """
    seen = signature(descriptor)
    for _tick in range(4):
        if not may_change_unseen(seen.changed_ns):
            break
        context.clock.sleep(0.005)
        seen = signature(descriptor)
    return seen


def read_whole(descriptor: int, size: int) -> bytes:
    """All bytes from the start, and one more than expected if the file has grown."""
    if size < CHUNK:
        return os.pread(descriptor, size + 1, 0)
    chunks = []
    position = 0
    while position <= size:
        chunk = os.pread(descriptor, min(CHUNK, size + 1 - position), position)
        if not chunk:
            break
        chunks.append(chunk)
        position += len(chunk)
    return b"".join(chunks)


def read_once(
    descriptor: int, before: Signature, context: CaptureContext
) -> tuple[Optional[bytes], os.stat_result, bool]:
    """One attempt at a small file's content, None if it changed, or was exchanged, since ``before``; and its status.

    Last, whether that proves anything: when the reading began, any later write was bound to show in the status.
    Nothing needs to be asked between opening and reading: what was opened is what ``before`` speaks of when it is the
    same file, unchanged, after the reading.
    """
    sure = not may_change_unseen(before.changed_ns)
    if not sure:
        before = wait_until_stat_counts(descriptor, context)
        sure = not may_change_unseen(before.changed_ns)
    try:
        content = read_whole(descriptor, before.size)
    except (IsADirectoryError, BlockingIOError):
        content = b""  # a directory or FIFO has taken its place
    after = os.fstat(descriptor)
    steady = len(content) == before.size and signature_of(after) == before and stat.S_ISREG(after.st_mode)
    return (content if steady else None), after, sure


def reads_again(descriptor: int, content: bytes) -> bool:
    """The second read of an open file; what counts is that the bytes are the same."""
    return read_whole(descriptor, len(content)) == content


def new_scratch_file(context: CaptureContext, suffix: str = "") -> tuple[int, Path]:
    """A new file of mode 0600 in the scratch directory."""
    descriptor, name = tempfile.mkstemp(prefix="capture-", suffix=suffix, dir=context.scratch)
    return descriptor, Path(name)


def copy_steady(path: FilePath, context: CaptureContext) -> tuple[Path, os.stat_result]:
    """A scratch copy during whose making the file did not change, and the file's status."""
    for _attempt in pauses(context):
        descriptor = open_regular(path)
        try:
            before = wait_until_stat_counts(descriptor, context)
            copy = copy_bytes(descriptor, before.size, context)
            status = os.fstat(descriptor)
            if signature_of(status) == before and copy.stat().st_size == before.size:
                return copy, status
            os.unlink(copy)
        finally:
            os.close(descriptor)
    raise keeps_changing(path, context)


def copy_bytes(descriptor: int, size: int, context: CaptureContext) -> Path:
    """The first ``size`` bytes of a file (fewer if it is shorter) in a scratch file; holes stay holes."""
    target, copy = new_scratch_file(context)
    try:
        extents = extents_of(descriptor, size)
        if extents is not None:
            os.ftruncate(target, size)
        for position, length in ((0, size),) if extents is None else extents:
            os.lseek(target, position, os.SEEK_SET)
            end = position + length
            while position < end:
                answer()
                sent = os.sendfile(target, descriptor, position, min(end - position, 1 << 26))
                if sent == 0:
                    break
                position += sent
    except BaseException:
        os.unlink(copy)
        raise
    finally:
        os.close(target)
    return copy


def digest(content: bytes) -> bytes:
    """A digest to compare two reads by."""
    return hashlib.sha256(content).digest()
