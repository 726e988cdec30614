# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The process on the source that reads the data which is sent: with the owner's account, and nothing of root's.

It looks at the tree, captures each file by its kind and compares it with what the other server has; whoever asked puts
what it says on the wire. Only what a round consists of gets there: nothing that it says can pass for an answer of the
session, such as that this server has let go.
"""

from __future__ import annotations

import base64
import contextlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional, Protocol, cast

from ...application import Application
from ...errors import TradekeepError
from ...host.account import owner_of
from ...host.filesystem.scratch import scratch_directory, shared_place
from ...host.worker import Outlet, Worker, needs_worker, serve_requests, worker_account
from ...patterns import look_up
from ...ports import Ports
from .blocks import Digests
from .channel import LONGEST_BLOCK, LONGEST_MESSAGE, Channel
from .shipping import Shipping, Stand

SILENT_SECONDS = 900.0
"""Longer than any database may take: a reader that says nothing for so long is held up."""
_PURPOSE = "handover"
_MESSAGE, _BLOCK = b"m", b"b"
_OFFSET = struct.Struct("!Q")
_DIGESTS_AT_ONCE = 1 << 20
_OF_A_ROUND = frozenset({"entry", "end", "gone", "refused", "why", "left"})


class Reader(Protocol):
    """What a session asks of it; see ``Shipping``."""

    def other_has(self, path: str, digests: Digests) -> None:
        """The other server has a file of that name already."""

    def round(self, stand: Stand) -> dict[str, int]:
        """Send what has changed since the last round; what that came to."""

    def holds(self) -> dict[str, Any]:
        """What the other server must have by now."""

    def untouched(self) -> Optional[str]:
        """The first file that is not as it was when it was read at rest."""


@contextmanager
def reader_of(application: Application, ports: Ports, channel: Channel) -> Iterator[Reader]:
    """A reader for as long as the block lasts; in this process only where it is the owner's and a fork is not safe."""
    look_up(application.profile)
    other = worker_account(owner_of(application))
    state_dir = Path(application.application_state_dir)
    parent = state_dir if other is None else shared_place(state_dir, other)
    with scratch_directory(parent, _PURPOSE, account=other) as scratch:
        if not needs_worker(other, ports.workers):
            here = _Here(Shipping(application, ports, channel, scratch))
            try:
                yield here
            finally:
                here.close()
            return
        with Worker(
            lambda outlet, news: _serve(application, ports, scratch, outlet, news),
            account=other,
            progress=ports.progress,
            seconds=SILENT_SECONDS,
        ) as worker:
            yield _Elsewhere(worker, channel)


class _Here:
    """In this process."""

    def __init__(self, shipping: Shipping) -> None:
        self._shipping = shipping
        self.other_has = shipping.other_has
        self.holds = shipping.holds
        self.untouched = shipping.untouched
        self.close = shipping.close

    def round(self, stand: Stand) -> dict[str, int]:
        """See Reader."""
        return self._shipping.round(stand).as_dict()


class _Elsewhere:
    """In another one."""

    def __init__(self, worker: Worker, channel: Channel) -> None:
        self._worker = worker
        self._channel = channel

    def other_has(self, path: str, digests: Digests) -> None:
        """See Reader."""
        raw = digests.raw
        for start in range(0, len(raw), _DIGESTS_AT_ONCE):
            part = base64.b64encode(raw[start : start + _DIGESTS_AT_ONCE]).decode("ascii")
            self._ask({"do": "has", "path": path, "size": digests.size, "start": start, "digests": part})

    def round(self, stand: Stand) -> dict[str, int]:
        """See Reader."""
        totals = self._ask({"do": "round", "stand": stand.value})
        return {str(key): int(value) for key, value in totals.items()} if isinstance(totals, dict) else {}

    def holds(self) -> dict[str, Any]:
        """See Reader."""
        found = self._ask({"do": "holds"})
        if not isinstance(found, dict) or not isinstance(found.get("databases"), dict):
            raise _unusable()
        return found

    def untouched(self) -> Optional[str]:
        """See Reader."""
        found = self._ask({"do": "untouched"})
        return None if found is None else str(found)

    def _ask(self, request: dict[str, Any]) -> Any:
        try:
            self._worker.ask(request)
        except BrokenPipeError:
            raise _unusable() from None
        for kind, payload in self._worker.frames():
            if request["do"] != "round":
                raise _unusable()
            self._pass_on(kind, payload)
        return self._worker.result

    def _pass_on(self, kind: bytes, payload: bytes) -> None:
        if kind == _BLOCK and _OFFSET.size < len(payload) <= LONGEST_BLOCK + _OFFSET.size:
            self._channel.send_block(_OFFSET.unpack_from(payload)[0], payload[_OFFSET.size :])
            return
        message: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(payload) if kind == _MESSAGE and len(payload) <= LONGEST_MESSAGE else None
        if not isinstance(message, dict) or not _OF_A_ROUND.issuperset(message):
            raise _unusable()
        self._channel.send(message)


class _Relay:
    """In the worker: what would go over the wire goes to the process that holds it."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def send(self, message: Mapping[str, Any]) -> None:
        """See Channel."""
        self._outlet.send(_MESSAGE, json.dumps(message, separators=(",", ":")).encode("ascii"))

    def send_block(self, offset: int, data: bytes) -> None:
        """See Channel."""
        self._outlet.send(_BLOCK, _OFFSET.pack(offset) + data)


def _serve(application: Application, ports: Ports, scratch: Path, outlet: Outlet, news: int) -> None:
    shipping = Shipping(application, ports, cast(Channel, _Relay(outlet)), scratch, alive=outlet.advance)
    received: dict[str, bytearray] = {}

    def has(request: dict[str, Any]) -> None:
        raw = received.setdefault(request["path"], bytearray())
        raw[request["start"] :] = base64.b64decode(request["digests"])
        shipping.other_has(request["path"], Digests(request["size"], bytes(raw)))

    answers: dict[str, Callable[[dict[str, Any]], Any]] = {
        "has": has,
        "round": lambda request: shipping.round(Stand(request["stand"])).as_dict(),
        "holds": lambda _request: shipping.holds(),
        "untouched": lambda _request: shipping.untouched(),
    }
    serve_requests(outlet, news, lambda request: answers[request["do"]](request))


def _unusable() -> TradekeepError:
    return TradekeepError(
        "the process that reads the data says what nobody asked for", hint="run it again; if it stays, report it"
    )
