# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Programs of supervisord, through supervisorctl.

supervisorctl runs code that its configuration names (``[ctlplugin:...]``). Where the file lies so that an account could
have written it, supervisorctl runs as that account, like everything else of the bot's: it can then do no more than the
account itself. Of the answers only lines of the known form count, and no more than a megabyte of them.

supervisorctl reads no ``[include]`` of its configuration, and the environment that it gets is clean (``runner.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from ..errors import CommandError, ServiceError
from ..formatting import pasted
from ..ports import Clock, Completed, Runner
from .account import Account, account_of, command_as, environment_of
from .ownership import name_of_uid
from .trust import untrusted_level

_STATUS_LINE = re.compile(r"^(\S+)\s+(STOPPED|STARTING|RUNNING|BACKOFF|STOPPING|EXITED|FATAL|UNKNOWN)\b\s*(.*)$")
_AVAILABLE_LINE = re.compile(r"^(\S+)\s+avail\s+(?:auto|manual)\b")
# What supervisorctl says when there is no supervisord: then it runs no program either.
_NO_SUPERVISORD = ("no such file", "refused connection")
_MEANT_TO_RUN = ("RUNNING", "STARTING")
# Where supervisorctl looks, from the directory / (supervisor/options.py).
_SYSTEM_CONFIGS = (
    "/supervisord.conf",
    "/etc/supervisord.conf",
    "/etc/supervisor/supervisord.conf",
)
_LONGEST_ANSWER = 1024 * 1024
_LONGEST_NAME = 255
_LONGEST_WORDS = 300
_START_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.5


class Supervisor:
    """Asks and tells one supervisord."""

    def __init__(self, runner: Runner, clock: Clock, *, config: Optional[str], stop_timeout_seconds: float) -> None:
        self._runner = runner
        self._clock = clock
        self._config = config
        self._stop_timeout = stop_timeout_seconds

    def running(self, programs: Sequence[str]) -> list[str]:
        """Full names of the programs that are meant to run, in the order of stopping; ``all`` stands for every one.

        One that was just started is to run again as well; one that dies each time (BACKOFF) would only die again.
        """
        if not self._installed():
            return []
        states = self._states()
        return [name for name in _expand(programs, states) if states[name][0] in _MEANT_TO_RUN]

    def installed(self, programs: Sequence[str]) -> list[str]:
        """Full names of the programs that supervisord knows, or could know, in the order of stopping.

        A program whose file came after supervisord was started is only taken in by ``start``: where it has
        ``autostart``, supervisord starts it then, whether its data is there or not.
        """
        if not self._installed():
            return []
        states = self._states()
        if any(not _expand([program], states) or program == "all" for program in programs):
            states = {**states, **self._available()}
        return _expand(programs, states)

    def stop(self, programs: Sequence[str]) -> None:
        """Stop programs and make sure of it; also those that are about to be started again."""
        if not self._installed():
            return
        states = self._states()
        alive = [name for name in _expand(programs, states) if states[name][0] not in ("STOPPED", "EXITED", "FATAL")]
        if not alive:
            return
        try:
            self._control("stop", *alive, timeout_seconds=self._stop_timeout)
        except CommandError as error:
            raise ServiceError(f"does not stop: {error.message}", path=" ".join(alive)) from error
        states = self._states()
        for name in alive:
            state = states.get(name, ("STOPPED", ""))[0]
            if state not in ("STOPPED", "EXITED", "FATAL"):
                raise ServiceError(f"is {state} after it was stopped", path=name)

    def start(self, programs: Sequence[str]) -> None:
        """Start programs and wait until each is RUNNING; STARTING is not success."""
        states = self._states() if programs else {}
        for group in dict.fromkeys(name.partition(":")[0] for name in programs if name not in states):
            self._control("add", group, timeout_seconds=60)
        missing = [name for name in programs if states.get(name, ("", ""))[0] not in ("RUNNING", "STARTING")]
        # supervisorctl waits until a program has run for its startsecs; one that is STARTING after that has died since.
        arrived = self._start(missing) if missing else set()
        deadline = self._clock.monotonic() + _START_TIMEOUT_SECONDS
        while programs:
            states = self._states()
            waiting = [name for name in programs if states.get(name, ("", ""))[0] == "STARTING" and name not in arrived]
            if not waiting or self._clock.monotonic() >= deadline:
                break
            self._clock.sleep(_POLL_SECONDS)
        for name in programs:
            if states.get(name, ("unknown", ""))[0] != "RUNNING":
                raise self._failure(name, "does not start", states)

    def _start(self, programs: Sequence[str]) -> set[str]:
        """Ask for a start; which of them reached RUNNING."""
        said = self._control("start", *programs, timeout_seconds=_START_TIMEOUT_SECONDS).stdout.splitlines()
        return {name for name in programs if f"{name}: started" in said}

    def identities(self, programs: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Process id of each program; raises unless all are RUNNING."""
        states = self._states() if programs else {}
        found: dict[str, tuple[str, ...]] = {}
        for name in programs:
            state, rest = states.get(name, ("unknown", ""))
            if state != "RUNNING":
                raise self._failure(name, "does not stay up", states)
            found[name] = (rest.partition(",")[0], "")
        return found

    def manager_process(self) -> Optional[int]:
        """The number of supervisord itself, which goes on writing its own log."""
        if not self._installed():
            return None
        said = self._control("pid", timeout_seconds=30).stdout.strip()
        return int(said) if said.isdigit() and len(said) < 20 else None

    def missing(self, programs: Sequence[str]) -> list[str]:
        """The programs that supervisord knows nothing of; none where it does not run."""
        states = self._states() if self._installed() else {}
        if states and any(program != "all" and not _expand([program], states) for program in programs):
            states = {**states, **self._available()}
        return [program for program in programs if states and program != "all" and not _expand([program], states)]

    def _installed(self) -> bool:
        if self._runner.find("supervisorctl") is not None:
            return True
        if self._config is not None and Path(self._config).exists():
            raise ServiceError("supervisorctl is not installed", path=self._config, hint="install supervisor")
        return False

    def _states(self) -> dict[str, tuple[str, str]]:
        """Name to state and the rest of its line. The exit status only tells whether all of them run."""
        completed = self._control("status", timeout_seconds=60)
        matches = _lines_like(_STATUS_LINE, completed.stdout)
        states = {match[1]: (match[2], match[3][:_LONGEST_WORDS]) for match in matches}
        said = (completed.stdout + completed.stderr).strip()
        if not states and completed.status != 0 and not any(text in said for text in _NO_SUPERVISORD):
            raise self._unanswered(said)
        return states

    def _unanswered(self, said: str) -> ServiceError:
        if self._config is not None and not Path(self._config).exists():
            return ServiceError(
                "does not exist, so nothing that it starts could be stopped before data is exchanged",
                path=self._config,
                hint="deploy the bot, or mend supervisor_config in services of the profile",
            )
        said = said.splitlines()[-1][:_LONGEST_WORDS] if said else "without a word"
        account = self._account()
        if account is None:
            return ServiceError(f"supervisorctl status failed: {said}", path=self._config)
        return ServiceError(
            f"supervisorctl status failed as {account.name}, who can change this file: {said}",
            path=self._config,
            hint=f"run supervisord as {account.name} (User= in its unit), or keep this file where root alone can write",
        )

    def _available(self) -> dict[str, tuple[str, str]]:
        """Programs of its files that it has not taken in. Reading them again changes nothing that runs."""
        self._control("reread", timeout_seconds=60)
        said = self._control("avail", timeout_seconds=60).stdout
        return {match[1]: ("STOPPED", "") for match in _lines_like(_AVAILABLE_LINE, said)}

    def _control(self, *arguments: str, timeout_seconds: float) -> Completed:
        config = self._config or self._system_config()
        argv = ["supervisorctl", *(["-c", config] if config else []), *arguments]
        account = self._account()
        completed = self._runner.run(
            argv if account is None else command_as(account, argv),
            environment={} if account is None else environment_of(account),
            check=False,
            timeout_seconds=timeout_seconds,
        )
        if len(completed.stdout) > _LONGEST_ANSWER:
            raise ServiceError(f"supervisorctl says more than {_LONGEST_ANSWER} bytes", path=config)
        return completed

    def _system_config(self) -> Optional[str]:
        """The file that supervisorctl would find by itself: what is checked must be what is used."""
        above = Path(self._runner.find("supervisorctl") or "/usr/bin/supervisorctl").parent.parent
        places = (above / "etc/supervisord.conf", above / "supervisord.conf", *map(Path, _SYSTEM_CONFIGS))
        return next((str(place) for place in places if place.exists()), None)

    def _account(self) -> Optional[Account]:
        """Whom supervisorctl runs as; None for the engine's own account.

        The first level that is not root's alone decides: all below it is in the hands of its owner. Asked anew for each
        command; as long as there is no such level, nobody but root can make one.
        """
        config = self._config or self._system_config()
        found = None if config is None else untrusted_level(config)
        if found is None:
            return None
        if found.uid == 0 or self._config is None:
            raise ServiceError(
                f"supervisorctl is not run with this file, as others can change it: {found.reason}",
                path=config,
                hint=f"chown and chmod go-w {pasted(found.path)}, so that it is root's or of who runs supervisord",
            )
        return account_of(name_of_uid(found.uid))

    def _failure(self, name: str, what: str, states: dict[str, tuple[str, str]]) -> ServiceError:
        state, rest = states.get(name, ("unknown", ""))
        return ServiceError(
            f"{what}: {state}" + (f" ({rest})" if rest else "") + self.last_words(name),
            path=name,
            hint=f"see: supervisorctl tail {name} stderr",
        )

    def last_words(self, name: str, _identity: tuple[str, ...] = ()) -> str:
        """What a program said last, for the end of a message."""
        try:
            completed = self._control("tail", "-500", name, "stderr", timeout_seconds=30)
        except CommandError:
            return ""
        lines = [line.strip() for line in completed.stdout.splitlines() if line.strip()]
        return f": {lines[-1][:300]}" if lines and completed.status == 0 else ""


def _lines_like(pattern: re.Pattern[str], said: str) -> Iterator[re.Match[str]]:
    """The lines of a form; a name that no profile could name is none: who answers may be the bot."""
    for match in map(pattern.match, said.splitlines()):
        if match and len(match[1]) <= _LONGEST_NAME and match[1].isprintable():
            yield match


def _expand(programs: Sequence[str], states: dict[str, tuple[str, str]]) -> list[str]:
    """Names as supervisorctl shows them: a program may stand for itself or for the members of its group."""
    found: dict[str, None] = {}
    for program in programs:
        group = program[: -len(":*")] if program.endswith(":*") else program
        for name in states:
            if program == "all" or group in (name, name.partition(":")[0], name.partition(":")[2]):
                found[name] = None
    return list(found)
