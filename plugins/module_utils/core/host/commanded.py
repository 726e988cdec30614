# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot that neither the system's systemd nor supervisor runs: commands start it, stop it and ask for it.

They run as an account of the host, by default the owner of the data, like hooks and health checks: what they name may
be the bot's. Commands of root's name nothing that others can change (``trust.py``), neither as the program nor as the
absolute path of a file among its arguments.

Where systemd runs the host, root has it carry out the start: what a command starts itself would end with the unit, or
the connection, of the operation that started it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ..application import Services
from ..errors import CommandError, ServiceError
from ..formatting import counted
from ..ports import Clock, Runner, Said
from .account import Account, account_of, command_as, environment_of
from .filesystem.identity import with_privileges
from .systemd import last_words
from .transient import BOOTED
from .trust import untrusted_reason
from .unit_manager import session_environment

_POLL_SECONDS = 0.5
_CANNOT_RUN = (125, 126, 127)
"""What env(1) and setpriv(1) end with when there is no such program, or it may not be run."""
_LONGEST_WORDS = 300


@dataclass(frozen=True)
class Commands:
    """What starts it, stops it and says whether it is active, and as whom; None for the account of the engine."""

    start: tuple[str, ...]
    stop: tuple[str, ...]
    is_active: tuple[str, ...]
    user: Optional[str] = None
    start_timeout_seconds: float = 60.0
    is_active_timeout_seconds: float = 15.0

    @classmethod
    def of(cls, services: Services) -> Commands:
        """As the profile says."""
        given: dict[str, Any] = {key: getattr(services, key) for key in cls.__dataclass_fields__}
        return cls.read({key: value for key, value in given.items() if value is not None})

    @classmethod
    def read(cls, record: dict[str, Any]) -> Commands:
        """As a snapshot has them."""
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        return cls(**given)

    def as_dict(self) -> dict[str, Any]:
        """For a snapshot."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class Commanded:
    """Asks and tells by commands. name: what messages call it."""

    def __init__(
        self,
        runner: Runner,
        clock: Clock,
        name: str,
        commands: Commands,
        *,
        stop_timeout_seconds: float,
    ) -> None:
        self._runner = runner
        self._clock = clock
        self._name = name
        self._commands = commands
        self._stop_timeout = stop_timeout_seconds

    def running(self, _units: Sequence[str]) -> list[str]:
        """Its name, when it runs."""
        return [self._name] if self._is_active() else []

    def installed(self, _units: Sequence[str]) -> list[str]:
        """Its name: whether it could be started is for its command to say."""
        return [self._name]

    def stop(self, _units: Sequence[str]) -> None:
        """Stop it and make sure of it."""
        if not self._is_active():
            return
        deadline = self._clock.monotonic() + self._stop_timeout
        self._require(self._run(self._commands.stop, self._stop_timeout), "does not stop", self._commands.stop)
        while self._is_active():
            if self._clock.monotonic() >= deadline:
                raise ServiceError(
                    f"is active {counted(float(self._stop_timeout), 'second')} after it was stopped",
                    path=self._name,
                    hint=f"try both as {self._account().name}: stop and is_active of services in the profile",
                )
            self._clock.sleep(_POLL_SECONDS)

    def start(self, units: Sequence[str]) -> None:
        """Start it and wait until it is active."""
        if not units or self._is_active():
            return
        deadline = self._clock.monotonic() + self._commands.start_timeout_seconds
        self._start()
        while not self._is_active():
            if self._clock.monotonic() >= deadline:
                seconds = self._commands.start_timeout_seconds
                raise ServiceError(
                    f"does not start: is not active after {counted(float(seconds), 'second')}",
                    path=self._name,
                    hint=f"try both as {self._account().name}: start and is_active of services in the profile",
                )
            self._clock.sleep(_POLL_SECONDS)

    def identities(self, units: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Raises unless it is active. Whether it is still the same process is not known."""
        if units and not self._is_active():
            raise ServiceError("does not stay up: is not active", path=self._name, hint="see its log")
        return dict.fromkeys(units, ())

    def last_words(self, _unit: str, _identity: tuple[str, ...]) -> str:
        """Where its log is, is not known."""
        return ""

    def _is_active(self) -> bool:
        said = self._run(self._commands.is_active, self._commands.is_active_timeout_seconds)
        if said.status is None or said.status < 0 or said.status in _CANNOT_RUN:
            self._require(said, "cannot be asked for", self._commands.is_active)
        return said.status == 0

    def _start(self) -> None:
        account, seconds = self._account(), self._commands.start_timeout_seconds
        if os.geteuid() != 0 or not os.path.isdir(BOOTED) or self._runner.find("systemd-run") is None:
            self._require(self._run(self._commands.start, seconds), "does not start", self._commands.start)
            return
        command = self._judged(account, self._commands.start)
        unit = f"tradekeep-start-{self._name}-{secrets.token_hex(4)}.service".replace("@", "-").replace("*", "-")
        try:
            self._runner.run(
                [
                    "systemd-run",
                    "--quiet",
                    "--collect",
                    # Its end is the end of the start; what it leaves behind goes on in the unit.
                    "--service-type=forking",
                    # All of it is the bot: one process that ends takes no other along.
                    "--property=GuessMainPID=no",
                    f"--unit={unit}",
                    f"--description={self._name}, started by tradekeep",
                    f"--property=TimeoutStartSec={seconds:g}",
                    *([] if account.uid == 0 else [f"--uid={account.uid}", f"--gid={account.gid}"]),
                    *(f"--setenv={key}={value}" for key, value in _environment(account).items()),
                    "--",
                    # As the account, which sees programs and directories that nobody else may see.
                    *(self._runner.find("env") or "env", *(word.replace("$", "$$") for word in command)),
                ],
                timeout_seconds=seconds + 10,
            )
        except CommandError as error:
            raise ServiceError(
                f"does not start{last_words(self._runner, unit)}", path=self._name, hint=f"see: journalctl -u {unit}"
            ) from error

    def _run(self, command: Sequence[str], seconds: float) -> Said:
        account = self._account()
        return self._runner.listen(
            # env(1) finds the program, as the account.
            command_as(account, ["env", *self._judged(account, command)]),
            environment=_environment(account),
            timeout_seconds=seconds,
        )

    def _account(self) -> Account:
        return account_of(self._commands.user or "")

    @with_privileges
    def _judged(self, account: Account, command: Sequence[str]) -> list[str]:
        """The command as the account may run it; raises ServiceError for one that root must not."""
        if account.uid != 0 or os.geteuid() != 0:
            return list(command)
        found: Optional[str] = self._runner.find(command[0])
        if found is None:
            raise ServiceError(
                "is not there, or root does not run it as others can change it",
                path=command[0],
                hint="name the bot's account as user of this command in the profile",
            )
        for path in filter(None, map(_path_in, command[1:])):
            reason = untrusted_reason(path)
            if reason is not None:
                raise ServiceError(
                    f"root does not run a command with this file, as others can change it: {reason}",
                    path=path,
                    hint="name the bot's account as user of this command, or keep the file where root alone can write",
                )
        return [found, *command[1:]]

    def _require(self, said: Said, what: str, command: Sequence[str]) -> None:
        if said.status == 0:
            return
        how = "did not end in time" if said.status is None else f"exit status {said.status}"
        words = f": {said.last_line[:_LONGEST_WORDS]}" if said.last_line else ""
        raise ServiceError(f"{what}: {how}{words}", path=self._name, hint=f"see: {' '.join(command)}")


def _path_in(word: str) -> Optional[str]:
    """The absolute path that a word of a command is or ends with, as in ``--file=/x`` and ``-f/x``."""
    before, slash, rest = word.partition("/")
    is_path = slash and not rest.startswith("/") and (not before or before.endswith("=") or before.startswith("-"))
    return f"/{rest}" if is_path else None


def _environment(account: Account) -> dict[str, str]:
    """Of a user's own systemd and podman too, where there is a session or the account lingers (loginctl(1))."""
    # The account's own shell may be one that nobody logs in with, and tmux(1) would run the bot by it.
    return {**environment_of(account), "SHELL": "/bin/sh", **session_environment(account.uid)}
