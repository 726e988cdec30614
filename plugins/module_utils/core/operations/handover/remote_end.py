# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The source as a party to an agreement: it lets go, or it does not, and what it said counts when the link is lost."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any, Optional

from ...application import Application
from ...errors import NeedsPersonError, TradekeepError
from ...ports import Ports
from .channel import Channel, LinkLostError
from .link import Link, Remote, connected_to
from .serving import FREE, GRANTED

_PAUSE_SECONDS = 1.0


class RemoteEnd:
    """The source, through one connection after the other. patience_seconds: how long it is asked after a loss."""

    def __init__(
        self, link: Link, application: Application, ports: Ports, identifier: str, patience_seconds: float
    ) -> None:
        self._link = link
        self._application = application
        self._ports = ports
        self._identifier = identifier
        self._patience = patience_seconds
        self._stack = contextlib.ExitStack()
        self._remote: Optional[Remote] = None

    def __enter__(self) -> RemoteEnd:
        """Connected."""
        self._connect()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Hang up."""
        self._stack.__exit__(kind, error, trace)

    @property
    def facts(self) -> dict[str, Any]:
        """What the source said of itself."""
        return self._present().facts

    @property
    def channel(self) -> Channel:
        """For what is sent without being asked for."""
        return self._present().channel

    def ask(self, request: dict[str, Any], answer: str) -> dict[str, Any]:
        """One question, one answer."""
        return self._present().ask(request, answer)

    def say(self, request: dict[str, Any]) -> None:
        """A question whose answer is read elsewhere."""
        self._present().say(request)

    def hear(self, answer: str) -> dict[str, Any]:
        """The answer to a question that was said before."""
        return self._present().hear(answer)

    def let_go(self) -> dict[str, float]:
        """Have the source let go for good. Raises TradekeepError if it has not, NeedsPersonError if nobody knows.

        Returns how long it took for each of its parts, as far as it has told.
        """
        try:
            seconds = self.ask({"do": "grant"}, "granted").get("seconds")
            return _numbers(seconds) if isinstance(seconds, dict) else {}
        except TradekeepError as error:
            self._ports.progress.note(f"asking again whether the source has let go: {error}")
            if self._state_after(error) == GRANTED:
                return {}
            raise TradekeepError(
                f"the source has not let go, and goes on by itself: {error.message}", path=error.path, hint=error.hint
            ) from error

    def give_back(self) -> None:
        """The source is to run it again; it is certain that nothing of it runs here. Asks until it has."""
        error: TradekeepError = LinkLostError("was not asked", path=self._link.name)
        with contextlib.suppress(TradekeepError):
            self.ask({"do": "return", "id": self._identifier}, "returned")
            return
        while self._state_after(error) == GRANTED:
            try:
                self.ask({"do": "return", "id": self._identifier}, "returned")
                return
            except LinkLostError as lost:
                error = lost

    def release(self) -> None:
        """Before it has let go: tell the source that it may go on at once. It does so by itself otherwise."""
        if self._remote is not None:
            self.ask({"do": "release"}, "released")

    def _state_after(self, error: TradekeepError) -> str:
        """Whether it has let go, by what lies on its disk."""
        clock = self._ports.clock
        until = clock.monotonic() + self._patience
        while True:
            with contextlib.suppress(LinkLostError):
                self._connect()
                state = str(self.ask({"do": "status", "id": self._identifier}, "state")["state"])
                if state in (GRANTED, FREE):
                    return state
            if clock.monotonic() >= until:
                raise NeedsPersonError(
                    f"nobody can say whether the source has let go: {error.message}; nothing of it runs here",
                    path=self._link.name,
                    hint=f"when it can be reached again, run there: tradekeep --app {self._application.name} unfence",
                ) from error
            clock.sleep(_PAUSE_SECONDS)

    def _connect(self) -> None:
        self._remote = None
        self._stack.close()
        self._remote = self._stack.enter_context(connected_to(self._link, self._application, self._ports))

    def _present(self) -> Remote:
        if self._remote is None:
            raise LinkLostError("is not connected", path=self._link.name)
        return self._remote


def _numbers(told: dict[str, Any]) -> dict[str, float]:
    """The few of a stranger's numbers that are ones."""
    known = {key[:40]: value for key, value in list(told.items())[:40] if key.isprintable()}
    return {key: float(value) for key, value in known.items() if isinstance(value, (int, float))}
