# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The process that reads an application's data for a backup: with the owner's account, and nothing of root's.

It looks at the tree, captures each file by its kind and says the archive's plain bytes; whoever asked compresses,
encrypts and writes them. What the bot has made of its files meets a process that could not do more than the bot can.
Where the engine is the owner already, the process is forked all the same, since it can be killed when a file holds it;
all of it is done in place only where a fork is not safe.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Union

from ..application import Application, CheckLevel
from ..archive.manifest import Header, Totals
from ..archive.tar_writer import ArchiveWriter
from ..archive.telling import Span
from ..errors import TradekeepError
from ..host.account import Account, current_account, owner_of
from ..host.worker import Outlet, Worker, needs_worker, serve_requests, worker_account
from ..kinds.base import CaptureContext
from ..patterns import classifier, look_up
from ..ports import Ports, Progress
from .assemble import LONGEST_WARNING, MOST_WARNINGS, assemble
from .assemble import Account as Summary
from .backup_plan import BackupPlan, measure, survey
from .found import Share, Thing
from .gather import CaptureShare, refuse_share
from .links import required_behind_links
from .scan import expected_paths
from .uncovered import find_uncovered

SILENT_SECONDS = 900.0
"""Longer than any database may take (see CaptureContext): a reader that says nothing for so long is held up."""
_DATA, _TOLD, _SPAN_TOLD = b"d", b"t", b"s"
_SPAN = struct.Struct("!4Q32s")
_TOLD_AT_ONCE = 64 << 10


@dataclass(frozen=True)
class Source:
    """What is to be read. things: called for each pass. capture: captures what somebody else has looked at."""

    things: Callable[[], Iterable[Union[Thing, Share]]]
    capture: CaptureShare = refuse_share


SourceMaker = Callable[[], AbstractContextManager[Source]]
"""Makes the source in the process that reads it."""


class Sink(Protocol):
    """Where a captured archive goes."""

    def write(self, data: bytes, /) -> object:
        """The next bytes of the plain archive."""

    def tell(self, what: Union[bytes, Span]) -> None:
        """What its manifest is going to say."""


@dataclass(frozen=True)
class Order:
    """How an archive is to be captured. scratch: a directory of the reading account's."""

    header: Header
    scratch: Path
    level: CheckLevel
    attempts: int
    copy_first: frozenset[str] = frozenset()
    lenient: bool = False
    told: bool = False
    """Whether anybody wants to hear what the manifest is going to say."""


class TreeReader(Protocol):
    """Reads one application's tree."""

    @property
    def account(self) -> Account:
        """Whose rights it reads with; the scratch directory has to be that account's."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that another process needs to have it capture."""

    def measure(self) -> BackupPlan:
        """The request with the sizes of what there is, and no opinion of it. See ``backup_plan.measure``."""

    def survey(self, *, list_paths: bool = False) -> BackupPlan:
        """The request completed by what a backup would capture. See ``backup_plan.survey``."""

    def capture(self, order: Order, sink: Sink) -> tuple[Summary, Totals]:
        """Capture everything. Raises ChangedWhileReadError (with the path), CaptureError, CheckError."""


@contextmanager
def tree_reader(
    application: Application, ports: Ports, make_source: SourceMaker, request: BackupPlan
) -> Iterator[TreeReader]:
    """A reader for as long as the block lasts. request: what is wanted, and what the last backup held."""
    look_up(application.profile)
    owner = owner_of(application)
    other = worker_account(owner)
    if not needs_worker(other, ports.workers):
        with make_source() as source:
            yield _ReaderInPlace(application, ports, source, request)
        return
    with Worker(
        lambda outlet, news: _serve(application, ports, make_source, request, outlet, news),
        account=other,
        progress=ports.progress,
        seconds=SILENT_SECONDS,
    ) as worker:
        yield _ReaderElsewhere(worker, owner, request)


class _ReaderInPlace:
    """Reads in this very process."""

    def __init__(self, application: Application, ports: Ports, source: Source, request: BackupPlan) -> None:
        self._application = application
        self._ports = ports
        self._source = source
        self._request = request

    @property
    def account(self) -> Account:
        return current_account()

    @property
    def descriptors(self) -> tuple[int, ...]:
        return ()

    def measure(self) -> BackupPlan:
        return measure(self._source.things(), self._request)

    def survey(self, *, list_paths: bool = False) -> BackupPlan:
        return _surveyed(self._application, self._ports, self._source, self._request, list_paths)

    def capture(self, order: Order, sink: Sink) -> tuple[Summary, Totals]:
        return _captured(self._application, self._source, self._ports, self._ports.progress, order, sink, self._request)


class _ReaderElsewhere:
    """Has a worker read."""

    def __init__(self, worker: Worker, account: Account, request: BackupPlan) -> None:
        self._worker = worker
        self._account = account
        self._request = request

    @property
    def account(self) -> Account:
        return self._account

    @property
    def descriptors(self) -> tuple[int, ...]:
        return self._worker.descriptors

    def measure(self) -> BackupPlan:
        self._worker.ask({"do": "measure"})
        return self._request.completed_by(self._worker.finish())

    def survey(self, *, list_paths: bool = False) -> BackupPlan:
        self._worker.ask({"do": "survey", "list_paths": list_paths})
        return self._request.completed_by(self._worker.finish())

    def capture(self, order: Order, sink: Sink) -> tuple[Summary, Totals]:
        self._worker.ask({"do": "capture", "order": _order_as(order)})
        for kind, payload in self._worker.frames():
            if kind == _DATA:
                sink.write(payload)
            elif kind == _TOLD:
                sink.tell(payload)
            elif kind == _SPAN_TOLD and len(payload) == _SPAN.size:
                sink.tell(Span(*_SPAN.unpack(payload)))
            else:
                raise TradekeepError("the process that reads the data says what nobody understands")
        return result_of(self._worker.result)


def _serve(
    application: Application, ports: Ports, make_source: SourceMaker, wanted: BackupPlan, outlet: Outlet, news: int
) -> None:
    """The life of the worker: one request after the other, until nobody asks any more."""
    with make_source() as source:

        def answer(request: dict[str, Any]) -> Any:
            if request["do"] == "measure":
                return measure(source.things(), wanted).as_completion()
            if request["do"] == "survey":
                return _surveyed(application, ports, source, wanted, request["list_paths"]).as_completion()
            summary, totals = _captured(
                application, source, ports, outlet, _order_of(request["order"]), _FrameSink(outlet), wanted
            )
            return {"summary": asdict(summary), "totals": asdict(totals)}

        serve_requests(outlet, news, answer)


def _surveyed(
    application: Application, ports: Ports, source: Source, wanted: BackupPlan, list_paths: bool
) -> BackupPlan:
    plan = survey(application, source.things(), wanted, list_paths=list_paths)
    return replace(plan, uncovered=find_uncovered(application, ports.clock))


def _captured(
    application: Application,
    source: Source,
    ports: Ports,
    progress: Progress,
    order: Order,
    sink: Sink,
    wanted: BackupPlan,
) -> tuple[Summary, Totals]:
    held = frozenset(wanted.basis.databases if wanted.basis is not None else ())
    held |= required_behind_links(application, expected_paths(application))
    context = CaptureContext(order.scratch, ports.clock, order.level, attempts=order.attempts)
    writer = ArchiveWriter(sink, order.header, sink.tell if order.told else _unheard)
    summary = assemble(
        writer,
        source.things(),
        context,
        progress,
        capture=source.capture,
        copy_first=order.copy_first,
        lenient=order.lenient,
        critical=frozenset(item.name for item in application.profile.components if item.critical),
        held=held,
        lookup=classifier(application.profile),
    )
    totals = writer.finish()
    if isinstance(sink, _FrameSink):
        sink.flush()
    return summary, totals


def _unheard(_what: Union[bytes, Span]) -> None:
    """For an archive that nobody reads back while it is written."""


class _FrameSink:
    """Sends an archive to the process that writes it; the manifest's lines by the dozen."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._told: list[bytes] = []
        self._told_bytes = 0

    def write(self, data: bytes, /) -> None:
        # First, as whoever reads the archive back has to know of entries before they come.
        self.flush()
        self._outlet.send(_DATA, data)

    def tell(self, what: Union[bytes, Span]) -> None:
        if isinstance(what, Span):
            self.flush()
            self._outlet.send(_SPAN_TOLD, _SPAN.pack(*what))
            return
        self._told.append(what)
        self._told_bytes += len(what)
        if self._told_bytes >= _TOLD_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send the lines that wait."""
        text, self._told, self._told_bytes = b"".join(self._told), [], 0
        if text:
            self._outlet.send(_TOLD, text)


def _order_as(order: Order) -> dict[str, Any]:
    return {
        "header": asdict(order.header),
        "scratch": str(order.scratch),
        "level": order.level.value,
        "attempts": order.attempts,
        "copy_first": sorted(order.copy_first),
        "lenient": order.lenient,
        "told": order.told,
    }


def _order_of(said: dict[str, Any]) -> Order:
    header = {
        **said["header"],
        "missing": tuple(said["header"]["missing"]),
        "excluded": tuple(said["header"]["excluded"]),
    }
    return Order(
        Header(**header),
        Path(said["scratch"]),
        CheckLevel(said["level"]),
        said["attempts"],
        frozenset(said["copy_first"]),
        said["lenient"],
        said["told"],
    )


def result_of(said: Any) -> tuple[Summary, Totals]:
    """What a worker says of its archive; one that was taken over may say anything, in the right form."""
    try:
        summary, totals = said["summary"], said["totals"]
        found = Summary(
            files=int(summary["files"]),
            bytes=int(summary["bytes"]),
            components=_counts(summary["components"]),
            databases={str(path): {"tables": _tables(facts)} for path, facts in summary["databases"].items()},
        )
        for text in summary["warnings"]:
            found.warn(str(text))
        found.untold += max(0, int(summary["untold"]))
        found.as_it_is = [str(path) for path in summary["as_it_is"][:MOST_WARNINGS]]
        found.damaged = [str(text)[:LONGEST_WARNING] for text in summary["damaged"][:MOST_WARNINGS]]
        return (
            found,
            Totals(int(totals["entries"]), int(totals["bytes"]), str(totals["manifest_sha256"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TradekeepError(f"the process that reads the data gives no account of it: {error}") from None


def _counts(said: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {str(name): {"files": int(c["files"]), "bytes": int(c["bytes"])} for name, c in said.items()}


def _tables(facts: dict[str, Any]) -> dict[str, int]:
    return {str(name): int(rows) for name, rows in facts["tables"].items()}
