# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What has arrived, laid beside the live data: described, put into the stage, and what came last taken in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Optional

from ...application import Application
from ...archive.manifest import Entry
from ...errors import TradekeepError
from ...host.files import os_errors
from ...ports import Ports
from ...signals import result_of
from ...transaction.stage import Stage
from ..migrate.migration_run import Run
from ..restore_plan import Item, entry_facts, identity
from ..restore_stage import settle_stage
from ..rights import give_rights
from .counting import Counting, Rows
from .receiving import Receiving, Round

_SYNCED_ONE_BY_ONE = 64


class Laying:
    """All of one handover that goes into its stage."""

    def __init__(self, application: Application, ports: Ports, receiving: Receiving, *, force: bool) -> None:
        self._application = application
        self._ports = ports
        self._receiving = receiving
        self._force = force
        self._staged: set[str] = set()
        self._counting = Counting(application, ports)
        self._counted: dict[str, Future[Rows]] = {}

    def describe(self, entry: Entry, place: str) -> Entry:
        """What only the content tells; the digest where there is something to compare with."""
        if entry.kind == "sqlite" and entry.size:
            entry = entry._replace(facts={"tables": self._counting.rows_of(place)})
        if os.path.lexists(self._live(entry.path)):
            entry = entry._replace(sha256=self._counting.digest_of(place))
        return entry

    def fill(self, stage: Stage, run: Run) -> None:
        """Put in what has arrived so far, checked and durable."""
        self._counting.prepare()
        self._put_into(stage, run.plan.changes)
        settle_stage(self._application, self._ports, stage, run.plan.changes)

    def refuse_touched(self, run: Run) -> None:
        """What would be replaced here is in the backup, as long as nobody has written it since."""
        for item in run.plan.items:
            if item.action != "remove" and identity(self._application, item.path) != item.identity:
                raise TradekeepError(
                    "was written on this server while the migration was prepared",
                    path=self._live(item.path),
                    hint="see what writes there, then run again",
                )

    def settle(self, run: Run, stage: Stage, done: Round) -> None:
        """Take in what the last round has brought."""
        items = {item.path: item for item in run.plan.items}
        conflicts = {item.path for item in run.plan.conflicts} | run.plan.pristine
        for path in done.gone:
            self._remove(stage, items, path)
        late = [self._late(stage, items, path) for path in done.changed if self._receiving.entry(path) is not None]
        self._put_into(stage, late)
        self._count(late)
        for item in late:
            if item.entry is not None:
                give_rights(self._application, item.entry, stage.path_for(item.path))
        _sync(stage, late)
        run.plan = replace(run.plan, items=tuple(items[path] for path in sorted(items)))
        against = [item.path for item in run.plan.conflicts if item.path not in conflicts]
        if against and not self._force:
            raise TradekeepError(
                "differs on this host, and came last", path=against[0], hint="run again, with --force to replace it"
            )

    def sync(self, done: Round) -> None:
        """Make durable what a round has brought, as far as it is still here."""
        for path in done.changed:
            entry = self._receiving.entry(path)
            if entry is not None and entry.type == "file":
                with os_errors(path):
                    _sync_one(self._receiving.open(path))

    def know_rows(self, run: Run) -> None:
        """Wait until the rows of all that came last are counted, which goes on beside the exchange."""
        items = {item.path: item for item in run.plan.items}
        for path, counted in self._counted.items():
            entry = self._receiving.entry(path)
            if entry is not None:
                entry = entry._replace(facts={"tables": result_of(counted)})
                self._receiving.replace(entry)
                items[path] = replace(items[path], after=entry_facts(entry), entry=entry)
        run.plan = replace(run.plan, items=tuple(items[path] for path in sorted(items)))

    def close(self) -> None:
        """Count nothing more."""
        self._counting.close()

    def _put_into(self, stage: Stage, items: Sequence[Item]) -> None:
        for item in items:
            if item.entry is None or item.path in self._staged:
                continue
            place = stage.path_for(item.path)
            if item.entry.type == "symlink":
                with os_errors(place):
                    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
                    os.symlink(item.entry.target or "", place)
            else:
                self._receiving.move(item.path, place)
            self._staged.add(item.path)

    def _remove(self, stage: Stage, items: dict[str, Item], path: str) -> None:
        before = items.pop(path, None)
        self._staged.discard(path)
        _unlink_staged(stage, path, before)
        live = self._live(path)
        if os.path.lexists(live):
            items[path] = Item(path, "remove", {"type": "file", "size": os.lstat(live).st_size}, None)

    def _late(self, stage: Stage, items: dict[str, Item], path: str) -> Item:
        entry = self._receiving.entry(path)
        known = items.get(path)
        if entry is None:
            raise TradekeepError("has not arrived", path=path)
        if entry.type == "symlink":
            _unlink_staged(stage, path, known)
            self._staged.discard(path)
        action = "replace" if os.path.lexists(self._live(path)) else "new"
        items[path] = Item(path, action, known.before if known else None, entry_facts(entry), entry)
        return items[path]

    def _count(self, late: Sequence[Item]) -> None:
        for item in late:
            if item.entry is not None and item.entry.kind == "sqlite" and item.entry.size:
                staged, live = self._receiving.place_of(item.path), self._live(item.path)
                self._counted[item.path] = self._counting.submit(staged, live)

    def _live(self, path: str) -> str:
        return os.path.join(str(self._application.root), path)


def _unlink_staged(stage: Stage, path: str, item: Optional[Item]) -> None:
    if item is not None and item.entry is not None and item.entry.type == "symlink":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stage.path_for(path))


def _sync(stage: Stage, late: Sequence[Item]) -> None:
    """Make what came last durable; the rest has been. The exchange syncs the directories that the files come to."""
    if len(late) > _SYNCED_ONE_BY_ONE or any(item.entry is None or item.entry.type != "file" for item in late):
        stage.sync()
        return
    for item in late:
        place = stage.path_for(item.path)
        with os_errors(place):
            _sync_one(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))


def _sync_one(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
