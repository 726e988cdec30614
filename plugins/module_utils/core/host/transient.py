# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Work that outlives whoever started it: a lost connection or a cancelled job neither stops nor orphans it.

Under systemd it is a unit of its own, elsewhere a process in a session of its own. Both tell whether it still runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Callable, Optional, Protocol

from ..errors import CommandError, ServiceError
from ..formatting import counted
from ..ports import Ports
from .account import current_account, environment_of
from .files import make_private_directory, os_errors, write_all
from .filesystem.identity import with_privileges
from .systemd import Systemd

BOOTED = "/run/systemd/system"
"""Exists where systemd is the init system; see sd_booted(3)."""

_STOP_TIMEOUT_SECONDS = 1800
_PROPERTIES = (
    # SIGTERM reaches the engine alone, which undoes what it began; a git or pip killed under it would be a failure.
    # What is left when the engine has ended is killed: a bot belongs to its own service manager.
    "KillMode=mixed",
    f"TimeoutStopSec={_STOP_TIMEOUT_SECONDS}",
    # A pip that ran out of memory is the engine's to report; systemd would stop the engine as well.
    "OOMPolicy=continue",
    # What neither a deploy nor a hook has to do with. A hook may still use sudo, and programs with rights of their own.
    "LimitCORE=0",
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictRealtime=yes",
    # To work on files of every account, and as any. To end, to order and to look at processes. sudo, and ping.
    "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_SETGID CAP_SETUID "
    "CAP_KILL CAP_SETFCAP CAP_SETPCAP CAP_SYS_NICE CAP_SYS_RESOURCE "
    "CAP_SYS_PTRACE CAP_AUDIT_WRITE CAP_NET_RAW CAP_NET_BIND_SERVICE",
)
# The first looks follow soon, as little work is done in less than a second.
_FIRST_POLL_SECONDS, _POLL_SECONDS = 0.05, 1.0
_NOTE_SECONDS = 60.0
# Whoever asks whether the process lives holds its lock for an instant.
_LOCK_TRIES = 40
_LOCK_POLL_SECONDS = 0.05


class Background(Protocol):
    """Work that runs by itself under a name; there is at most one of a name on a host."""

    name: str

    def start(self, argv: Sequence[str], *, description: str, environment: Optional[Mapping[str, str]] = None) -> None:
        """Start it; raises ServiceError when it runs already. No secrets belong into the environment: it is shown."""

    def active(self) -> bool:
        """Whether it runs, or is being stopped."""

    def wait(self, *, note: Callable[[str], None], timeout_seconds: Optional[float] = None) -> bool:
        """Wait for its end; False when it did not end in time. How it ended is for its own record to say."""


class TransientUnit:
    """A transient unit of systemd, which is gone when it has ended, however it ended."""

    def __init__(self, name: str, ports: Ports, *, properties: Sequence[str] = (), booted: str = BOOTED) -> None:
        """properties: more of them, as ``systemd-run --property`` takes them."""
        self.name = name
        self._ports = ports
        self._properties = (*_PROPERTIES, *properties)
        self._booted = booted
        self._systemd = Systemd(ports.runner, stop_timeout_seconds=_STOP_TIMEOUT_SECONDS)

    @property
    def unit(self) -> str:
        """The unit's full name."""
        return f"{self.name}.service"

    def available(self) -> bool:
        """Whether systemd runs this host and would do it for us."""
        find = self._ports.runner.find
        return (
            os.geteuid() == 0
            and os.path.isdir(self._booted)
            and find("systemctl") is not None
            and find("systemd-run") is not None
        )

    def start(
        self,
        argv: Sequence[str],
        *,
        description: str,
        environment: Optional[Mapping[str, str]] = None,
        afterwards: Sequence[str] = (),
    ) -> None:
        """See Background. afterwards: a command that systemd runs when it has ended, killed or not."""
        run = self._ports.runner.run
        command = self._command(argv)
        if self.active():
            raise _runs_already(self.unit)
        # A unit of that name that failed before it was collected would be in the way.
        run(["systemctl", "reset-failed", "--", self.unit], check=False, timeout_seconds=60)
        settings = {**environment_of(current_account()), **(environment or {})}
        try:
            run(
                [
                    "systemd-run",
                    "--quiet",
                    "--collect",
                    "--service-type=exec",
                    f"--unit={self.unit}",
                    f"--description={description}",
                    *(f"--property={item}" for item in self._properties),
                    *([f"--property=ExecStopPost={_quoted(afterwards)}"] if afterwards else []),
                    *(f"--setenv={key}={value}" for key, value in settings.items()),
                    "--",
                    *command,
                ],
                timeout_seconds=120,
            )
        except CommandError as error:
            if self.active():
                raise _runs_already(self.unit) from error
            raise ServiceError(
                f"cannot be started: {error.message}", path=self.unit, hint=f"see: journalctl -u {self.unit}"
            ) from error

    def active(self) -> bool:
        """See Background."""
        return not self._systemd.state(self.unit).stopped

    def wait(self, *, note: Callable[[str], None], timeout_seconds: Optional[float] = None) -> bool:
        """See Background."""
        return _wait(self, self._ports, note, timeout_seconds)

    def _command(self, argv: Sequence[str]) -> list[str]:
        program = self._ports.runner.find(argv[0])
        if program is None:
            raise CommandError("is not installed, or others can change it", path=argv[0])
        # systemd.service(5) replaces $NAME in arguments.
        return [program, *(word.replace("$", "$$") for word in argv[1:])]


def _quoted(argv: Sequence[str]) -> str:
    """A command line as systemd.service(5) reads it in a unit."""
    words = (word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") for word in argv)
    return " ".join(f'"{word}"' for word in words)


class DetachedProcess:
    """A process in a session of its own, for hosts without systemd.

    It inherits a lock that dies with it, so that no number of a long gone process is ever taken for it. Its output
    goes to ``NAME.log`` beside the lock.
    """

    def __init__(self, name: str, ports: Ports, directory: Path) -> None:
        self.name = name
        self._ports = ports
        self._directory = directory

    @property
    def pid_file(self) -> Path:
        """Holds the number of the process, and its lock."""
        return self._directory / f"{self.name}.pid"

    @property
    def log_file(self) -> Path:
        """Holds what the last process of that name said."""
        return self._directory / f"{self.name}.log"

    def available(self) -> bool:
        """Always."""
        return True

    @with_privileges
    def start(self, argv: Sequence[str], *, description: str, environment: Optional[Mapping[str, str]] = None) -> None:
        """See Background."""
        make_private_directory(self._directory)
        with _opened(self.pid_file) as lock:
            if not self._take(lock):
                raise _runs_already(self.name)
            with _opened(self.log_file) as log, os_errors(self.log_file):
                os.ftruncate(log, 0)
                write_all(log, f"{description}\n".encode("utf-8", "surrogateescape"))
                settings = {**environment_of(current_account()), **(environment or {})}
                pid = self._ports.runner.start_detached(argv, output=log, pass_fds=(lock,), environment=settings)
            with os_errors(self.pid_file):
                os.ftruncate(lock, 0)
                write_all(lock, f"{pid}\n".encode())

    @with_privileges
    def active(self) -> bool:
        """See Background."""
        if not self.pid_file.exists():
            return False
        with _opened(self.pid_file) as lock:
            return not _try_lock(lock, fcntl.LOCK_SH)

    def wait(self, *, note: Callable[[str], None], timeout_seconds: Optional[float] = None) -> bool:
        """See Background."""
        return _wait(self, self._ports, note, timeout_seconds)

    def _take(self, lock: int) -> bool:
        for attempt in range(_LOCK_TRIES):
            if attempt:
                self._ports.clock.sleep(_LOCK_POLL_SECONDS)
            if _try_lock(lock, fcntl.LOCK_EX):
                return True
        return False


def background(name: str, ports: Ports, directory: Path, *, properties: Sequence[str] = ()) -> Background:
    """The best way of this host to run something that outlives its starter. properties: of the unit, if it is one."""
    unit = TransientUnit(name, ports, properties=properties)
    return unit if unit.available() else DetachedProcess(name, ports, directory)


def _wait(work: Background, ports: Ports, note: Callable[[str], None], timeout_seconds: Optional[float]) -> bool:
    begun = ports.clock.monotonic()
    next_note, pause = 0.0, _FIRST_POLL_SECONDS
    while work.active():
        waited = ports.clock.monotonic() - begun
        if timeout_seconds is not None and waited >= timeout_seconds:
            return False
        if waited >= next_note:
            note(f"waiting for {work.name}" + (f", {counted(round(waited), 'second')} so far" if waited >= 1 else ""))
            next_note += _NOTE_SECONDS
        ports.clock.sleep(pause)
        pause = min(2 * pause, _POLL_SECONDS)
    return True


def _runs_already(name: str) -> ServiceError:
    return ServiceError("runs already", path=name, hint="wait for it to end")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    with os_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
