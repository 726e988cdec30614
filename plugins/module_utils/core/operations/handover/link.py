# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The way from the server that takes over to the source: one ssh connection, made again when it is lost."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ...application import Application
from ...errors import TradekeepError
from ...host.trust import require_trusted
from ...ports import Ports
from ...signals import shielded
from .channel import SILENCE_SECONDS, VERSION, Channel, LinkLostError, ProtocolError
from .greeting import judged_greeting
from .note import installation_of

_SSH = (
    "ssh",
    "-T",
    "-oBatchMode=yes",
    "-oConnectTimeout=10",
    # A cut link is noticed within about ten seconds.
    "-oServerAliveInterval=3",
    "-oServerAliveCountMax=3",
    "-oStrictHostKeyChecking=yes",
    "-oForwardAgent=no",
    "-oForwardX11=no",
    "-oClearAllForwardings=yes",
    "-oCompression=no",
    "-oControlPath=none",
)


_END_SECONDS = 5.0


@dataclass(frozen=True)
class Link:
    """Where the source is. name: what people call it. command: what is run here instead of ssh, for tests.

    remote: what ssh asks the source to run; a key that is restricted to a command ignores it. silence_seconds: after
    which the source is taken for dead.
    """

    name: str
    destination: str = ""
    port: Optional[int] = None
    identity: Optional[str] = None
    known_hosts: Optional[str] = None
    remote: str = "tradekeep migrate --serve"
    command: tuple[str, ...] = ()
    silence_seconds: float = SILENCE_SECONDS

    @property
    def argv(self) -> list[str]:
        """The program that connects."""
        if self.command:
            return list(self.command)
        words = list(_SSH)
        if self.port is not None:
            words.append(f"-p{self.port}")
        if self.identity is not None:
            words += ["-i", self.identity, "-oIdentitiesOnly=yes"]
        if self.known_hosts is not None:
            words += [f"-oUserKnownHostsFile={self.known_hosts}", "-oGlobalKnownHostsFile=/dev/null"]
        return [*words, "--", self.destination, self.remote]

    def as_dict(self) -> dict[str, Any]:
        """For a request that is carried out by another process."""
        return asdict(self)


class Remote:
    """The source, as this server talks to it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.facts: dict[str, Any] = {}

    def say(self, request: dict[str, Any]) -> None:
        """Send a request whose answer is read elsewhere."""
        self.channel.send(request)
        self.channel.flush()

    def ask(self, request: dict[str, Any], answer: str) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self.say(request)
        return self.hear(answer)

    def hear(self, answer: str) -> dict[str, Any]:
        """Wait for the answer to a request that was sent before."""
        message = self.channel.message()
        if answer not in message:
            raise ProtocolError(f"did not answer with {answer}", path="the other server")
        return message


@contextlib.contextmanager
def connected_to(link: Link, application: Application, ports: Ports) -> Iterator[Remote]:
    """A connection on which both have said who they are."""
    _require_trusted_files(link)
    with shielded():  # its threads take no signals
        pipe = ports.runner.pipe(link.argv)
    channel = Channel(pipe.stdout.fileno(), pipe.stdin.fileno(), silence_seconds=link.silence_seconds)
    try:
        remote = Remote(channel)
        try:
            remote.facts = _greeted(remote, application)
        except LinkLostError as error:
            raise _unreachable(link, pipe, error) from error
        yield remote
        with contextlib.suppress(TradekeepError):
            remote.say({"do": "bye"})
    finally:
        channel.close()
        with contextlib.suppress(OSError, ValueError):
            pipe.stdin.close()
        channel.wait_for_end(_END_SECONDS)
        pipe.kill()


def _require_trusted_files(link: Link) -> None:
    """Who could change them would say which server is the source, or who logs in there."""
    for file, what in ((link.identity, "the key"), (link.known_hosts, "the list of known hosts")):
        if file is not None and not link.command:
            require_trusted(file, what=what)


def _greeted(remote: Remote, application: Application) -> dict[str, Any]:
    greeting = {
        "do": "hello",
        "protocol": VERSION,
        "profile": application.profile.name,
        "host": socket.gethostname(),
        "installation": installation_of(application),
    }
    return judged_greeting(remote.ask(greeting, "hello"))


def _unreachable(link: Link, pipe: Any, error: TradekeepError) -> TradekeepError:
    """What ssh, or the source, said last."""
    said = ""
    try:
        pipe.finish()
    except TradekeepError as failed:
        said = f": {failed.message}"
    return LinkLostError(
        f"cannot be reached{said}" if said else error.message,
        path=link.name,
        hint="try it: " + " ".join(word for word in link.argv if word) if not said else "see the address and the key",
    )


def running_of(facts: dict[str, Any]) -> list[tuple[str, Sequence[str]]]:
    """What runs on the source, by manager."""
    return [(entry["manager"], entry["running"]) for entry in facts["services"]]
