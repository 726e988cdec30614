# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whether new code really works: an address that answers, a file that is written anew, a command that is content.

A check may fail as often as it likes until its time is over: a bot needs a while to come up.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from socket import SHUT_RDWR
from threading import Thread
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import SplitResult, urlsplit

from ..deploy_settings import HealthCheck
from ..errors import ServiceError
from ..formatting import counted
from ..ports import Ports
from ..signals import take_no_signals, wait_for_thread
from .account import Account, command_as, environment_of

if TYPE_CHECKING:
    from http.client import HTTPConnection

_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 10.0
_SHORTEST_SECONDS = 0.1
# Clocks of filesystems tick coarsely; what is later than this has a wrong date and would look fresh for ever.
_FUTURE_SECONDS = 5.0


@dataclass(frozen=True)
class HealthResult:
    """What a check found in the end, and how long it took."""

    name: str
    ok: bool
    detail: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The result as records show it."""
        return asdict(self)


class HealthGate:
    """All checks of an application, one after the other.

    root: of the data, for files. directory: of the code, where commands run as the account.
    """

    def __init__(
        self, checks: Sequence[HealthCheck], *, root: Path, directory: Path, account: Account, ports: Ports
    ) -> None:
        self._checks = tuple(checks)
        self._root = root
        self._directory = directory
        self._account = account
        self._ports = ports
        self.results: list[HealthResult] = []
        """Of the last run, the failed one included."""

    def run(self, started: Optional[datetime] = None) -> list[HealthResult]:
        """Wait until every check is content; raises ServiceError for the first whose time is over.

        started: when the services were started. A file that the old code wrote just before says nothing of the new.
        """
        self.results = []
        for check in self._checks:
            result = self._wait_for(check, started)
            self.results.append(result)
            if not result.ok:
                raise ServiceError(
                    f"is not healthy after {counted(float(check.timeout_seconds), 'second')}: {result.detail}",
                    path=result.name,
                )
        return list(self.results)

    def _wait_for(self, check: HealthCheck, started: Optional[datetime]) -> HealthResult:
        clock = self._ports.clock
        begun = clock.monotonic()
        while True:
            left = check.timeout_seconds - (clock.monotonic() - begun)
            ok, detail = self._look(check, started, max(left, _SHORTEST_SECONDS))
            passed = clock.monotonic() - begun
            if ok or passed >= check.timeout_seconds:
                return HealthResult(name_of(check), ok, detail, round(passed, 3))
            clock.sleep(min(_POLL_SECONDS, check.timeout_seconds - passed))

    def _look(self, check: HealthCheck, started: Optional[datetime], left: float) -> tuple[bool, str]:
        if check.url is not None:
            return _answer(check.url, check.status, min(left, _ANSWER_SECONDS))
        if check.file is not None:
            return _freshness(self._root / check.file, check.max_age_seconds, self._ports.clock.now(), started)
        return self._command(check.command or (), left)

    def _command(self, command: Sequence[str], left: float) -> tuple[bool, str]:
        said = self._ports.runner.listen(
            command_as(self._account, command, directory=str(self._directory)),
            environment=environment_of(self._account),
            timeout_seconds=left,
        )
        words = f": {said.last_line}" if said.last_line else ""
        if said.status is None:
            return False, f"did not end in time{words}"
        return said.status == 0, f"exit status {said.status}{words}"


def name_of(check: HealthCheck) -> str:
    """How messages and records call a check; of an address without what may be secret in it."""
    if check.url is not None:
        return _bare(check.url)
    return check.file if check.file is not None else shlex.join(check.command or ())


def _bare(url: str) -> str:
    parts = urlsplit(url)
    host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""
    return f"{host}{parts.path or '/'}"


def _answer(url: str, wanted: int, timeout_seconds: float) -> tuple[bool, str]:
    """Ask once, by no proxy; a redirection is an answer like any other and is not followed."""
    # With all of TLS it takes longer to load than the rest, and few checks ask.
    import http.client

    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_seconds)
    except (ValueError, http.client.HTTPException) as error:
        return False, f"does not answer: {_reason(error)}"
    heard: list[tuple[bool, str]] = []

    def ask() -> None:
        take_no_signals()
        try:
            heard.append(_heard(connection, parts, wanted))
        except (OSError, ValueError, http.client.HTTPException) as error:
            heard.append((False, f"does not answer: {_reason(error)}"))
        finally:
            connection.close()

    # In a thread, as nothing but the end of its time would end this wait.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    try:
        wait_for_thread(asking)
    except BaseException:
        with suppress(OSError, AttributeError):  # closed, or not yet open
            connection.sock.shutdown(SHUT_RDWR)
        asking.join()  # whoever forks afterwards has to be alone
        raise
    return heard[0] if heard else (False, "does not answer")


def _heard(connection: HTTPConnection, parts: SplitResult, wanted: int) -> tuple[bool, str]:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"User-Agent": "tradekeep", "Connection": "close"})
    answer = connection.getresponse()
    place = answer.getheader("Location") if 300 <= answer.status < 400 else None
    redirection = f", a redirection to {_bare(place)}" if place else ""
    return answer.status == wanted, f"answered {answer.status}{redirection}"


def _reason(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:300]


def _freshness(path: Path, max_age: float, now: datetime, started: Optional[datetime]) -> tuple[bool, str]:
    """Whether a file is young, and was written since the start where there was one."""
    try:
        facts = os.stat(path)
    except OSError as error:
        return False, _reason(error)
    if not stat.S_ISREG(facts.st_mode):
        return False, "is not a regular file"
    age = now.timestamp() - facts.st_mtime
    if age < -_FUTURE_SECONDS:
        return False, f"is dated {counted(round(-age), 'second')} in the future"
    if started is not None and facts.st_mtime < started.timestamp():
        return False, f"was not written since the start; it is {counted(round(age), 'second')} old"
    return age <= max_age, f"is {counted(round(max(age, 0.0)), 'second')} old"
