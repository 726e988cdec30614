# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The safety backup: what a restore replaced, as an ordinary named backup of the state before.

It is made after the services run again, from what the exchange kept aside, so it costs no downtime and misses no row.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Callable, Optional

from ..application import Application, Tier
from ..errors import InterruptedBySignal, NeedsPersonError, SpaceError, TradekeepError
from ..host.files import space
from ..host.filesystem.holes import data_at
from ..ports import Ports
from ..signals import answer
from ..storage.backup import Backup
from ..storage.names import GIVEN_UP_LABEL, SAFETY_LABEL
from ..transaction.exchange import Exchange
from ..transaction.plan import Replacement
from .backup import back_up
from .backup_plan import ASSUMED_RATIO, BackupPlan, choose_encryption, wal_of
from .found import Found, Thing, lies_too_deep, unmanaged_at
from .keys import encryption_of
from .kind_of import SQLITE, database_beside, kind_of
from .scan import found_at, gathered_scan, scan
from .text import human_bytes

_APPENDED = ("log", "jsonl")
"""Kinds that are captured up to their last whole line."""


def safety_space(application: Application, replaced_bytes: int) -> None:
    """Raises SpaceError when what would be replaced could not be kept as a safety backup."""
    needed = int(_data_bytes(application) * ASSUMED_RATIO) + replaced_bytes // 2
    free = space(application.backup_dir).bytes_free
    if needed > free:
        raise SpaceError(
            f"{human_bytes(needed)} needed for the safety backup, {human_bytes(free)} free",
            path=application.backup_dir,
            hint="free some space or run 'tradekeep prune'",
        )


def back_up_as_it_is(application: Application, ports: Ports, *, label: str) -> Backup:
    """A verified backup of the live data before it is replaced. Damaged databases are kept byte for byte.

    Raises ConfigurationError where it must be encrypted and nothing to encrypt with is configured.
    """
    choose_encryption(application, Tier.MANUAL, None)
    return _made(application, ports, lambda: gathered_scan(application), label)


def make_safety_backup(
    application: Application, ports: Ports, exchange: Exchange, *, label: str = SAFETY_LABEL
) -> Backup:
    """Archive the state before the exchange. Damaged databases are kept byte for byte.

    Raises NeedsPersonError when it cannot be made: the new state stands, and what it replaced stays aside.
    """
    kept = exchange.replacements
    try:
        return _made(application, ports, lambda: state_before(application, kept), label)
    except InterruptedBySignal:
        raise  # a signal is no fault of the backup's; what it means now is the caller's to say
    except TradekeepError as error:
        raise NeedsPersonError(
            f"the new data stands and the services run, but what it replaced could not be backed up: {error}",
            path=application.application_state_dir,
            hint="mend that (free some space), then run: tradekeep recover",
        ) from error


def keep_given_up(application: Application, ports: Ports, exchange: Exchange) -> None:
    """After an undo: archive the state that was given up, where services had written to it.

    Raises NeedsPersonError when it cannot be made: the old state is back, and what was given up stays aside.
    """
    given_up = exchange.replacements
    begun = datetime.fromisoformat(exchange.pending.begun).timestamp()
    if not any(_written_since(begun, item) for item in given_up):
        return
    try:
        made = _made(application, ports, lambda: state_given_up(application, given_up), GIVEN_UP_LABEL)
    except TradekeepError as error:
        raise NeedsPersonError(
            f"what the services wrote before everything was put back could not be backed up: {error}",
            path=application.application_state_dir,
            hint="mend that (free some space), then run: tradekeep recover",
        ) from error
    ports.progress.note(f"what the services wrote before everything was put back is in {made.path}")


def _written_since(begun: float, item: Replacement) -> bool:
    """Whether a service has written to the new state of a path; what was staged is older than the transaction."""
    if item.companions is None:
        return False
    return any(
        stat.S_ISREG(status.st_mode) and status.st_size > 0 and status.st_mtime > begun
        for suffix in ("", *item.companions)
        if suffix != "-shm"
        for status in _statuses(item.given_up + suffix)
    )


def _statuses(path: str) -> Iterator[os.stat_result]:
    """Of a path and of everything below it."""
    with contextlib.suppress(FileNotFoundError):
        yield os.lstat(path)
    for directory, directories, names in os.walk(path):
        answer()
        if lies_too_deep(os.path.relpath(directory, path)):
            directories.clear()
        for name in names:
            yield os.lstat(os.path.join(directory, name))


def _made(application: Application, ports: Ports, things: Callable[[], Iterator[Thing]], label: str) -> Backup:
    """Encrypted wherever there is a key, as every archive is."""
    request = BackupPlan.of_label(label, encryption_of(application), Path(application.backup_dir))
    return back_up(application, ports, request, things, lenient=True)


def state_before(application: Application, kept: tuple[Replacement, ...]) -> Iterator[Found]:
    """The tree as it was before the exchange: what is live and was not touched, and what is kept aside."""
    root = str(application.root)
    touched = {os.path.relpath(item.live, root): item for item in kept}
    for found in scan(application, refuse_links=False):
        replacement = _touching(touched, found.path)
        if replacement is None:
            yield found
    for path, replacement in sorted(touched.items()):
        if replacement.had and not _is_companion(application, path, touched):
            yield from _kept(application, path, replacement.kept)


def state_given_up(application: Application, replaced: tuple[Replacement, ...]) -> Iterator[Found]:
    """The tree as it was before the undo: what is live and was not touched, and what was given up."""
    root = str(application.root)
    touched = {os.path.relpath(item.live, root): item for item in replaced}
    for found in scan(application, refuse_links=False):
        if _touching(touched, found.path) is None:
            yield found
    for path, replacement in sorted(touched.items()):
        if replacement.companions is not None and os.path.lexists(replacement.given_up):
            yield from _kept(application, path, replacement.given_up)


def _touching(touched: dict[str, Replacement], path: str) -> object:
    """Whether a live path came with the exchange, itself or in a new directory."""
    if path in touched:
        return touched[path]
    parts = path.split("/")
    return next((touched[above] for n in range(1, len(parts)) if (above := "/".join(parts[:n])) in touched), None)


def _is_companion(application: Application, path: str, touched: dict[str, Replacement]) -> bool:
    """Whether a database that is kept too takes this WAL or journal along."""
    base = database_beside(path)
    if base is None or base not in touched or not touched[base].had:
        return False
    return kind_of(application.profile, base) == SQLITE


def _kept(application: Application, path: str, absolute: str) -> Iterator[Found]:
    # The bot may have had git track it meanwhile: it was data when it was replaced, and is kept nowhere else.
    found = found_at(application, path, absolute, looking=False)
    if found is None:
        found = _of_no_component(application, path, absolute)
    if found is None:
        return
    # Nobody writes to it any more: its last line is as whole as it will ever be.
    yield found._replace(kind="file") if found.kind in _APPENDED else found
    if found.type == "directory":
        for name in sorted(os.listdir(absolute)):
            yield from _kept(application, f"{path}/{name}", f"{absolute}/{name}")


def _of_no_component(application: Application, path: str, absolute: str) -> Optional[Found]:
    """What was replaced although the profile does not have it: nothing else keeps it."""
    try:
        status = os.lstat(absolute)
    except FileNotFoundError:
        return None
    return unmanaged_at(path, absolute, status, kind_of(application.profile, path))


def _data_bytes(application: Application) -> int:
    files = [found for found in scan(application, refuse_links=False) if found.type == "file"]
    return sum(data_at(found.absolute, found.size) + wal_of(found) for found in files)
