# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Programs and time, for real: the only file of the engine that starts processes.

As root, only programs are started that nobody else can write (``trust.py``), and PATH holds no directory in which
somebody else could put one: where a group with members may write to /usr/local/bin, what is there does not count. HOME
is root's own, whatever the environment says: gpg, git and ssh take their configuration from there.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Optional

from ..errors import CommandError
from ..formatting import counted
from ..ports import Completed, Said
from ..signals import answer, pause, wait_for
from .filesystem.identity import with_privileges
from .trust import untrusted_reason

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STDOUT_LIMIT = 64 * 1024 * 1024
STDERR_LIMIT = 64 * 1024
FINISH_TIMEOUT_SECONDS = 3600.0
# How long the pipes of a program that has ended may stay open in the hands of a daemon it left behind.
LINGER_SECONDS = 2.0
_LOOK_SECONDS = 0.5
# As poll(2) takes it: an int of milliseconds.
_LONGEST_POLL_SECONDS = 1_000_000.0


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """The present in UTC."""
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        """Seconds since some moment in the past."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait; a signal that asks to stop is answered."""
        pause(seconds)


class _Drain(threading.Thread):
    """Reads a pipe to its end, so that the program never blocks on it, and remembers a bounded part."""

    def __init__(self, source: IO[bytes], *, limit: int, keep_end: bool) -> None:
        super().__init__(daemon=True)
        self._source = source
        self._limit = limit
        self._keep_end = keep_end
        self._kept = bytearray()
        self.overflowed = False
        self.start()

    def run(self) -> None:
        """Read until the end of the pipe."""
        with contextlib.suppress(OSError, ValueError):
            while True:
                chunk = os.read(self._source.fileno(), 65536)
                if not chunk:
                    return
                self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        self._kept += chunk
        if len(self._kept) > self._limit:
            self.overflowed = True
            if self._keep_end:
                del self._kept[: -self._limit]
            else:
                del self._kept[self._limit :]

    def text(self) -> str:
        """What was read, once the pipe is at its end or lingers too long."""
        self.join(LINGER_SECONDS)
        return bytes(self._kept).decode("utf-8", "replace")


def _feed(target: IO[bytes], data: bytes) -> None:
    """Write the input and close; a program that does not want all of it says so by its status."""
    with contextlib.suppress(OSError, ValueError):
        target.write(data)
    _close(target)


def _close(stream: Optional[IO[bytes]]) -> None:
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the program and everything it started; it leads a process group of its own."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_for(process: subprocess.Popen[bytes], timeout_seconds: float) -> int:
    """The status of a program that ends in time; else TimeoutExpired.

    Popen.wait(timeout) looks again and again with growing pauses, and sees a quick program end late.
    """
    begun = time.monotonic()
    # A kernel, or a Python, without pidfd_open(2) looks again and again after all.
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.pidfd_open(process.pid)
        try:
            wait_for((descriptor,), seconds=min(timeout_seconds, _LONGEST_POLL_SECONDS))
        finally:
            os.close(descriptor)
    while True:
        left = max(0.0, timeout_seconds - (time.monotonic() - begun))
        answer()
        try:
            return process.wait(timeout=min(left, _LOOK_SECONDS))
        except subprocess.TimeoutExpired:
            if left <= _LOOK_SECONDS:
                raise


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def _raise_for_status(completed: Completed) -> None:
    if completed.status == 0:
        return
    said = _last_line(completed.stderr) or _last_line(completed.stdout)
    how = f"killed by signal {-completed.status}" if completed.status < 0 else f"exit status {completed.status}"
    raise CommandError(f"failed with {how}" + (f": {said}" if said else ""), path=completed.argv[0])


class RunningPipe:
    """A filter between two streams of the engine."""

    def __init__(self, process: subprocess.Popen[bytes], argv: tuple[str, ...], finish_timeout: float) -> None:
        self._process = process
        self._argv = argv
        self._finish_timeout = finish_timeout
        self._errors = _Drain(_required(process.stderr), limit=STDERR_LIMIT, keep_end=True)
        self.stdin: Any = process.stdin
        self.stdout: Any = process.stdout

    def finish(self) -> Completed:
        """Close standard input, wait, and raise CommandError unless the status is 0."""
        # A program that ended early breaks the pipe; its status and last words explain why.
        _close(self.stdin)
        try:
            status = _wait_for(self._process, self._finish_timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise CommandError(
                f"did not end within {counted(float(self._finish_timeout), 'second')}", path=self._argv[0]
            ) from None
        completed = Completed(self._argv, status, "", self._errors.text())
        _raise_for_status(completed)
        return completed

    def kill(self) -> None:
        """End the program now and wait for it."""
        _kill_group(self._process)
        _close(self.stdin)
        # Whoever forks afterwards has to be alone.
        self._errors.join(LINGER_SECONDS)


def _required(stream: Optional[IO[bytes]]) -> IO[bytes]:
    if stream is None:  # subprocess gives a stream for every PIPE it was asked for
        raise CommandError("has no pipe")
    return stream


class SubprocessRunner:
    """Runs programs in a clean environment, each in a process group of its own."""

    def __init__(
        self, *, search_path: str = SEARCH_PATH, finish_timeout_seconds: float = FINISH_TIMEOUT_SECONDS
    ) -> None:
        self._search_path = search_path
        self._finish_timeout = finish_timeout_seconds
        self._detached: list[subprocess.Popen[bytes]] = []

    @with_privileges
    def find(self, program: str) -> Optional[str]:
        """Absolute path of an executable that may be run, or None."""
        return next((found for found in self._found(program) if untrusted_reason(found) is None), None)

    def _found(self, program: str) -> Iterator[str]:
        """Every executable of that name, in the order of the search path."""
        places = self._search_path.split(":")
        paths = [program] if "/" in program else [f"{place}/{program}" for place in places if place]
        return (path for path in paths if _is_executable(Path(path)))

    def run(
        self,
        argv: Sequence[str],
        *,
        input_text: Optional[str] = None,
        pass_fds: Sequence[int] = (),
        environment: Optional[Mapping[str, str]] = None,
        timeout_seconds: float = 600.0,
        check: bool = True,
    ) -> Completed:
        """Run a program to its end."""
        process = self._start(
            argv,
            stdin=subprocess.DEVNULL if input_text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
            environment=environment,
        )
        output = _Drain(_required(process.stdout), limit=STDOUT_LIMIT, keep_end=False)
        errors = _Drain(_required(process.stderr), limit=STDERR_LIMIT, keep_end=True)
        if input_text is not None:
            data = input_text.encode("utf-8", "surrogateescape")
            threading.Thread(target=_feed, args=(_required(process.stdin), data), daemon=True).start()
        status = self._wait(process, argv[0], timeout_seconds)
        completed = Completed(tuple(argv), status, output.text(), errors.text())
        if output.overflowed:
            raise CommandError(f"wrote more than {STDOUT_LIMIT} bytes", path=argv[0])
        if check:
            _raise_for_status(completed)
        return completed

    def listen(
        self,
        argv: Sequence[str],
        *,
        environment: Optional[Mapping[str, str]] = None,
        timeout_seconds: float = 600.0,
        keep_bytes: int = 65536,
    ) -> Said:
        """Run a program to its end or out of time, and hear the end of all it says."""
        process = self._start(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            environment=environment,
        )
        output = _Drain(_required(process.stdout), limit=keep_bytes, keep_end=True)
        status: Optional[int] = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            try:
                status = _wait_for(process, timeout_seconds)
            except BaseException:
                _kill_group(process)
                raise
        return Said(status, output.text())

    def start_detached(
        self,
        argv: Sequence[str],
        *,
        output: int,
        pass_fds: Sequence[int] = (),
        environment: Optional[Mapping[str, str]] = None,
    ) -> int:
        """Start a program in a session of its own and leave it to itself; its output goes to a descriptor."""
        process = self._start(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=pass_fds,
            environment=environment,
        )
        # Remembered, so that a program that ends first is reaped and not mistaken for a living one.
        self._detached.append(process)
        return process.pid

    def pipe(
        self,
        argv: Sequence[str],
        *,
        stdin: Optional[int] = None,
        stdout: Optional[int] = None,
        pass_fds: Sequence[int] = (),
        environment: Optional[Mapping[str, str]] = None,
    ) -> RunningPipe:
        """Start a filter. The caller reads standard output to its end, then calls ``finish``; or calls ``kill``."""
        process = self._start(
            argv,
            stdin=subprocess.PIPE if stdin is None else stdin,
            stdout=subprocess.PIPE if stdout is None else stdout,
            pass_fds=pass_fds,
            environment=environment,
        )
        return RunningPipe(process, tuple(argv), self._finish_timeout)

    @with_privileges
    def _start(
        self,
        argv: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
        environment: Optional[Mapping[str, str]] = None,
    ) -> subprocess.Popen[bytes]:
        program = self.find(argv[0])
        if program is None:
            raise self._missing(argv[0])
        try:
            return subprocess.Popen(
                [program, *argv[1:]],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=tuple(pass_fds),
                env=self._environment(environment),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise CommandError(f"cannot be started: {error.strerror}", path=program) from error

    def _missing(self, program: str) -> CommandError:
        for found in self._found(program):
            return CommandError(
                f"is not run as root, as others can change it: {untrusted_reason(found)}",
                path=found,
                hint="chown root and chmod go-w the program and each directory above it",
            )
        return CommandError("is not installed", path=program, hint="install it or choose an option without it")

    def _environment(self, extra: Optional[Mapping[str, str]]) -> dict[str, str]:
        places = [place for place in self._search_path.split(":") if untrusted_reason(place) is None]
        environment = {"LC_ALL": "C.UTF-8", "PATH": ":".join(places), "HOME": home_directory()}
        environment.update(extra or {})
        return environment

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], program: str, timeout_seconds: float) -> int:
        try:
            return _wait_for(process, timeout_seconds)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            raise CommandError(
                f"did not end within {counted(float(timeout_seconds), 'second')}", path=program
            ) from None
        except BaseException:
            _kill_group(process)
            raise


def home_directory() -> str:
    """The home of programs that run as the engine does: root's environment may be somebody else's (``sudo -E``)."""
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(0).pw_dir or "/"
        return "/"
    return os.environ.get("HOME", "/")


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
