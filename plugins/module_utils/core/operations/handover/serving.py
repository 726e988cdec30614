# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The source of a handover: answers one connection of the server that takes over.

It stops the application only for a handover that it can end by itself: whatever happens before it has let go - the
connection dies, this process is killed, the machine starts anew - the fence comes off and what ran runs again. Once it
has let go, it starts nothing any more unless the other server, or a person, gives the application back.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...errors import TradekeepError, UsageError
from ...host.files import space
from ...host.filesystem.identity import acting_as, privileged
from ...host.masking import UNIT_DIR
from ...host.services import Snapshot
from ...host.transient import background
from ...ports import Ports
from ...signals import shielded
from ...transaction.exchange import refuse_pending
from ...transaction.fence_file import fence_in_words, read_fence
from ...transaction.lock import application_lock
from ...version import VERSION as TOOL
from ..deploy.survey import account_for
from ..fence import FenceWork
from ..leftovers import sweep_state
from ..migrate.migration_record import MigrationRecord
from ..outcome import Outcome
from ..scan import check_root, scan
from ..still_writing import refuse_writers
from ..text import human_bytes
from ..unit_confinement import confined
from .blocks import DIGEST, Digests, blocks_in
from .channel import VERSION, Block, Channel, LinkLostError, ProtocolError, name_of, number_of, text_of
from .fences import announce_provisional, granted_to, lower, make_permanent
from .holding import Holding
from .laps import Laps
from .note import installation_of
from .reader import Reader, reader_of
from .shipping import Stand

IDENTIFIER = re.compile(r"[0-9a-f]{16}")
_LOCK_SECONDS = 600.0
FREE, PROVISIONAL, GRANTED = "free", "provisional", "granted"


def serve(
    application: Application,
    ports: Ports,
    channel: Channel,
    *,
    watcher: Optional[Sequence[str]] = None,
    unit_dir: Path = UNIT_DIR,
) -> Outcome:
    """Answer until the other side says goodbye or is gone. watcher: a command that recovers once we are no more."""
    with acting_as(account_for(application)), contextlib.ExitStack() as stack:
        check_root(application)
        session = _Session(application, ports, channel, stack, watcher, unit_dir)
        try:
            session.answer_all()
        finally:
            channel.close()
            with shielded():
                session.end()
    state = session.state
    return Outcome(changed=session.changed, record={"state": state}, lines=(f"the migration ended: {state}",))


class _Session:
    """One connection."""

    def __init__(
        self,
        application: Application,
        ports: Ports,
        channel: Channel,
        stack: contextlib.ExitStack,
        watcher: Optional[Sequence[str]],
        unit_dir: Path,
    ) -> None:
        self._application = application
        self._ports = ports
        self._channel = channel
        self._stack = stack
        self._watcher = watcher
        self._unit_dir = unit_dir
        self._state_dir = Path(application.application_state_dir)
        self._work = FenceWork(application, ports, unit_dir)
        self._reader: Optional[Reader] = None
        self._identifier = ""
        self._other: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._locked = False
        self._fenced: Optional[tuple[dict[str, Any], Snapshot]] = None
        self._at_rest = False
        self._holding = Holding(self._work, ports.progress)
        self._laps = Laps(ports.clock)
        self._sent: dict[str, Any] = {}
        self.state = FREE
        self.changed = False

    def answer_all(self) -> None:
        """Answer one request after the other; what fails ends the connection."""
        try:
            self._greet(self._request())
            while True:
                request = self._request()
                if request.get("do") == "bye":
                    return
                self._answer(request)
        except LinkLostError as error:
            self._ports.progress.note(f"the connection has ended: {error}")
        except TradekeepError as error:
            with contextlib.suppress(TradekeepError):
                self._channel.send({"error": error.as_dict()})
                self._channel.flush()
            raise

    def end(self) -> None:
        """Whatever has become of it: a source that has not let go runs again what it ran."""
        with contextlib.suppress(TradekeepError):
            self._holding.wait()
        self._holding.close()
        if self.state == PROVISIONAL:
            self._ports.progress.note("the migration is off; what ran here is started again")
            lower(self._application, self._ports, start=None, unit_dir=self._unit_dir)
            self.state = FREE
            self._record("taken back")

    def _request(self) -> dict[str, Any]:
        message = self._channel.receive()
        if isinstance(message, Block):
            raise ProtocolError("sent bytes that nobody asked for", path="the other server")
        return message

    def _answer(self, request: dict[str, Any]) -> None:
        answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "have": self._have,
            "list": self._list,
            "round": self._round,
            "prepare": self._prepare,
            "nearly": self._nearly,
            "stop": self._stop,
            "final": self._final,
            "holds": self._holds,
            "grant": self._grant,
            "status": self._status,
            "release": self._release,
            "return": self._return,
        }
        wanted = text_of(request, "do", 20)
        if wanted not in answers:
            raise ProtocolError("asks for what is not known here", path=wanted, hint="update tradekeep on both servers")
        answer = answers[wanted](request)
        if answer:
            self._channel.send(answer)
        self._channel.flush()
        if wanted == "grant":
            # The other side does not wait for it.
            self._holding.have_masks_seen()
            self._record("handed over")

    def _greet(self, request: dict[str, Any]) -> None:
        if request.get("do") != "hello" or request.get("protocol") != VERSION:
            raise UsageError(
                f"speaks another version of the protocol than this tradekeep {TOOL}",
                path="the other server",
                hint="install the same version on both",
            )
        self._other = {key: name_of(request, key) for key in ("host", "installation")}
        application = self._application
        if text_of(request, "profile", 300) != application.profile.name:
            raise UsageError(
                f"has the profile {request['profile']}, and {application.name} here has {application.profile.name}",
                path="the other server",
                hint="name the application that is meant",
            )
        if self._other["installation"] == installation_of(application):
            raise UsageError("is this server itself", path="the other server", hint="name another source")
        refuse_pending(self._state_dir)
        self._refuse_moved_elsewhere()
        found = [item for item in scan(application) if item.type == "file"]
        self._sizes = {item.path: item.size for item in found}
        databases = sum(item.size for item in found if item.kind == "sqlite")
        with privileged():
            free = space(self._state_dir).bytes_free
        if databases + (1 << 20) > free:
            raise TradekeepError(
                f"{human_bytes(databases)} needed for copies of the databases, {human_bytes(free)} free",
                path=self._state_dir,
                hint="free some space on the source",
            )
        fence = read_fence(self._state_dir)
        self._channel.send(
            {
                "hello": {
                    "protocol": VERSION,
                    "tool": TOOL,
                    "application": application.name,
                    "profile": application.profile.name,
                    "host": socket.gethostname(),
                    "installation": installation_of(application),
                    "now": self._ports.clock.now().timestamp(),
                    "services": (fence or {}).get("services") or self._work.services.snapshot(),
                    "fence": None if fence is None else fence_in_words(fence),
                    "migration": granted_to(application),
                    "files": len(found),
                    "bytes": sum(item.size for item in found),
                }
            }
        )
        self._channel.flush()

    def _refuse_moved_elsewhere(self) -> None:
        migration = granted_to(self._application)
        if migration is not None and migration.get("installation") != self._other["installation"]:
            raise TradekeepError(
                f"was moved to {migration.get('to')}: what is here is not the live data",
                path=self._application.root,
                hint="migrate from there, or make sure that it runs nothing and run on the source: tradekeep unfence",
            )

    def _have(self, request: dict[str, Any]) -> dict[str, Any]:
        path, size = text_of(request, "path"), number_of(request, "size")
        # What it has beyond the end of a file, or of one that is not here, is of no use and not kept.
        useful = min(size, self._sizes.get(path, 0))
        wanted, left, received = blocks_in(useful) * DIGEST, blocks_in(size) * DIGEST, bytearray()
        while left > 0:
            message = self._channel.receive()
            if not isinstance(message, Block) or not message.data:
                raise ProtocolError("sent no digests where some were due", path="the other server")
            received += message.data[: wanted - len(received)]
            left -= len(message.data)
        if received:
            self._shipped().other_has(path, Digests(useful, bytes(received)))
        return {}

    def _list(self, _request: dict[str, Any]) -> dict[str, Any]:
        for found in scan(self._application):
            if found.type in ("file", "symlink"):
                self._channel.send({"listed": found.path, "size": found.size})
        return {"list": True}

    def _round(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._ports.step("serve round")
        return {"round": self._shipped().round(Stand.AT_WORK)}

    def _prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Everything that can be done before the stop: the lock, somebody who watches over us, and the fence."""
        if self.state != FREE:
            raise ProtocolError("prepares twice", path="the other server")
        identifier = text_of(request, "id", 16)
        if not IDENTIFIER.fullmatch(identifier):
            raise ProtocolError("sent a name that is none", path=identifier)
        self._lock()
        refuse_pending(self._state_dir)
        self._refuse_moved_elsewhere()
        self._identifier = identifier
        self._ports.step("serve prepare")
        if self._watcher is not None:
            name = f"tradekeep-{self._application.name}-handover-{identifier[:8]}"
            work = background(name, self._ports, self._state_dir, properties=confined(self._application))
            if not work.active():
                work.start(self._watcher, description=f"Watch over a migration of {self._application.name}")
        self._work.prepare()
        self.state, self.changed = PROVISIONAL, True
        self._fenced = announce_provisional(self._application, self._work, identifier, self._other["host"])
        self._holding.prepare(self._fenced[0])
        return {"prepared": True}

    def _nearly(self, _request: dict[str, Any]) -> dict[str, Any]:
        """The last round before the stop."""
        self._ports.step("serve nearly")
        return {"round": self._shipped().round(Stand.ALMOST)}

    def _lock(self) -> None:
        if not self._locked:
            self._stack.enter_context(
                application_lock(
                    self._state_dir,
                    operation="migrate",
                    clock=self._ports.clock,
                    wait_seconds=_LOCK_SECONDS,
                    note=self._ports.progress.mention,
                )
            )
            self._locked = True

    def _stop(self, _request: dict[str, Any]) -> dict[str, Any]:
        if self._fenced is None or self._at_rest or self.state != PROVISIONAL:
            raise ProtocolError("asks for a stop before its time", path="the other server")
        fence, ran = self._fenced
        self._ports.step("serve stop")
        with self._laps.timed("stop"):
            self._holding.bring_down(fence, ran)
        with self._laps.timed("writers"):
            self._refuse_writers()
        self._at_rest = True
        return {"stopped": [name for entry in ran for name in entry["running"]]}

    def _refuse_writers(self) -> None:
        if self._application.system:
            refuse_writers(self._application, self._ports, self._work.services)

    def _final(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._require_rest()
        self._ports.step("serve final")
        with self._laps.timed("final"):
            self._sent = self._shipped().round(Stand.AT_REST)
        return {"round": self._sent}

    def _holds(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._require_rest()
        with self._laps.timed("holds"):
            holds = self._shipped().holds()
        for path, tables in holds.pop("databases").items():
            self._channel.send({"database": path, "tables": tables})
        return {"holds": holds}

    def _grant(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._require_rest()
        self._ports.step("serve grant")
        with self._laps.timed("masks"):
            self._holding.wait()
        with self._laps.timed("grant"):
            self._let_go()
        self._ports.step("serve granted")
        return {"granted": self._identifier, "seconds": self._laps.seconds}

    def _let_go(self) -> None:
        touched = self._shipped().untouched()
        running = [name for entry in self._work.services.snapshot() for name in entry["running"]]
        if running or touched is not None:
            raise TradekeepError(
                f"{running[0]} was started" if running else "was written after the services were stopped",
                path=touched or self._application.root,
                hint="see what starts it on the source, then run again",
            )
        make_permanent(self._application, self._identifier, self._other["host"], self._other["installation"])
        self.state = GRANTED

    def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        migration = granted_to(self._application)
        if migration is not None and migration.get("id") == request.get("id"):
            return {"state": GRANTED}
        fence = read_fence(self._state_dir) or {}
        return {"state": PROVISIONAL if "provisional" in fence else FREE}

    def _release(self, _request: dict[str, Any]) -> dict[str, Any]:
        if self.state == GRANTED:
            raise ProtocolError("gives up what it has been given", path="the other server")
        self.end()
        return {"released": True}

    def _return(self, request: dict[str, Any]) -> dict[str, Any]:
        """The other server runs nothing of it and never will: go on here."""
        self._lock()
        migration = granted_to(self._application)
        if migration is None or migration.get("id") != request.get("id"):
            raise ProtocolError("gives back what it was not given", path=str(request.get("id"))[:40])
        self._ports.step("serve return")
        lower(self._application, self._ports, start=None, unit_dir=self._unit_dir)
        self.state, self.changed = FREE, True
        self._record("given back")
        return {"returned": True}

    def _require_rest(self) -> None:
        if self.state != PROVISIONAL or not self._at_rest:
            raise ProtocolError("asks for something before its time", path="the other server")

    def _shipped(self) -> Reader:
        if self._reader is None:
            sweep_state(self._application)
            self._reader = self._stack.enter_context(reader_of(self._application, self._ports, self._channel))
        return self._reader

    def _record(self, state: str) -> None:
        """For whoever asks on this server; that it cannot be written changes nothing."""
        moment = self._ports.clock.now()
        record = {
            "state": state,
            "id": self._identifier,
            "at": moment.isoformat(),
            "application": self._application.name,
            "to": self._other.get("host"),
            "seconds": self._laps.seconds,
            "sent": self._sent,
        }
        with contextlib.suppress(TradekeepError):
            MigrationRecord(self._application, moment, self._identifier or "0" * 16).write(record)
