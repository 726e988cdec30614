# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The safety backup: what a restore replaced, as an ordinary named backup of the state before.

It is made after the services run again, from what the exchange kept aside, so it costs no downtime and misses no row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from ..application import Application, Encryption, Tier
from ..errors import NeedsPersonError, SpaceError, TradekeepError
from ..host.files import space
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..ports import Ports
from ..storage.backup import Backup
from ..storage.names import SAFETY_LABEL
from ..transaction.exchange import Exchange
from ..transaction.plan import Replacement
from .backup import make_backup
from .backup_plan import ASSUMED_RATIO, BackupPlan, choose_encryption
from .scan import Found, found_at, scan
from .text import human_bytes


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


def back_up_as_it_is(application: Application, ports: Ports, *, label: str, encrypted: bool) -> Backup:
    """A verified backup of the live data before it is replaced. Damaged databases are kept byte for byte.

    Raises ConfigurationError where it must be encrypted and nothing to encrypt with is configured.
    """
    choose_encryption(application, Tier.MANUAL, None)
    return _made(application, ports, lambda: scan(application), label, encrypted)


def make_safety_backup(
    application: Application, ports: Ports, exchange: Exchange, *, encrypted: bool, label: str = SAFETY_LABEL
) -> Backup:
    """Archive the state before the exchange. Damaged databases are kept byte for byte.

    Raises NeedsPersonError when it cannot be made: the new state stands, and what it replaced stays aside.
    """
    kept = exchange.replacements
    try:
        return _made(application, ports, lambda: state_before(application, kept), label, encrypted)
    except TradekeepError as error:
        raise NeedsPersonError(
            f"the new data stands and the services run, but what it replaced could not be backed up: {error}",
            path=application.application_state_dir,
            hint="mend that (free some space), then run: tradekeep recover",
        ) from error


def _made(
    application: Application, ports: Ports, things: Callable[[], Iterator[Found]], label: str, encrypted: bool
) -> Backup:
    found = [item for item in things() if item.type == "file"]
    required = any(item.backup and item.require_encryption for item in application.profile.components)
    encryption = application.encryption if encrypted or required else Encryption()
    plan = BackupPlan(
        tier=Tier.MANUAL,
        name=label,
        encryption=encryption,
        directory=Path(application.backup_dir),
        files=len(found),
        bytes=sum(item.size for item in found),
        largest_database=max((item.size for item in found if item.kind == "sqlite"), default=0),
        components={},
        missing=(),
        excluded=(),
        previous=None,
        space_needed=0,
    )
    made, _account = make_backup(application, ports, plan, scan_again=things, lenient=True)
    return made


def state_before(application: Application, kept: tuple[Replacement, ...]) -> Iterator[Found]:
    """The tree as it was before the exchange: what is live and was not touched, and what is kept aside."""
    root = str(application.root)
    touched = {os.path.relpath(item.live, root): item for item in kept}
    for found in scan(application):
        replacement = _touching(touched, found.path)
        if replacement is None:
            yield found
    for path, replacement in sorted(touched.items()):
        if replacement.had and not _is_companion(path, touched):
            yield from _kept(application, path, replacement.kept)


def _touching(touched: dict[str, Replacement], path: str) -> object:
    """Whether a live path came with the exchange, itself or in a new directory."""
    if path in touched:
        return touched[path]
    parts = path.split("/")
    return next((touched[above] for n in range(1, len(parts)) if (above := "/".join(parts[:n])) in touched), None)


def _is_companion(path: str, touched: dict[str, Replacement]) -> bool:
    """Whether a database that is kept too takes this WAL or journal along."""
    for suffix in SIDECAR_SUFFIXES:
        base = path[: -len(suffix)]
        if path.endswith(suffix) and base in touched and touched[base].had:
            return True
    return False


def _kept(application: Application, path: str, absolute: str) -> Iterator[Found]:
    found = found_at(application, path, absolute)
    if found is None:
        return
    yield found
    if found.type == "directory":
        for name in sorted(os.listdir(absolute)):
            yield from _kept(application, f"{path}/{name}", f"{absolute}/{name}")


def _data_bytes(application: Application) -> int:
    return sum(found.size for found in scan(application) if found.type == "file")
