# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Finding the backup as a stranger would: by names and sidecars in a directory, not by what a host remembers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Optional

from ...application import Application
from ...errors import ConfigurationError, TradekeepError
from ...host.files import os_errors
from ...ports import Ports
from ...storage.backup import Backup, read_backup
from ...storage.belonging import named_backups
from ...storage.choice import is_future
from ...storage.local import LocalCatalog
from ...storage.maker import maker_of
from ...storage.names import SAFETY_LABELS, parse_any_name
from ..keys import Keys
from ..provenance import refuse_other_maker

LOCAL = "local"


@dataclass(frozen=True)
class Chosen:
    """The backup to drill with. newest: whether there is no newer one, so that the live data should hold more.

    note: why it is not the newest.
    """

    backup: Backup
    newest: bool
    note: Optional[str] = None


def choose_backup(
    application: Application, ports: Ports, reference: str, source: str, keys: Optional[Keys] = None
) -> Chosen:
    """``latest`` is the newest by name, good or not: whether it is good is the question.

    source: ``local``, or the absolute path of a directory that holds copies. keys: ``latest`` is the newest that these
    open, where there is any; without them it has to be the newest of all.
    """
    directory = _directory(application, source)
    now = ports.clock.now()
    by_age = _by_name(application, directory, now)
    newest = next(by_age, None)
    if reference != "latest":
        found = LocalCatalog(application, ports.clock, directory=directory).find(reference)
        backup = read_backup(found.path, application.profile.archive_prefix)
        refuse_other_maker(application, backup)
        return Chosen(backup, newest is not None and newest.path == backup.path)
    if newest is None:
        LocalCatalog(application, ports.clock, directory=directory).require_present()
        raise TradekeepError("there is no backup to recover from", path=directory, hint="run 'tradekeep backup'")
    for ahead in _by_name(application, directory, now, of_the_future=True):
        if ahead.path != newest.path:
            ports.progress.note(f"passed over, as dated in the future: {ahead.name}")
            break
    if keys is None or keys.can_read(newest.path):
        return Chosen(newest, True)
    readable = next((backup for backup in by_age if keys.can_read(backup.path)), None)
    if readable is None:
        return Chosen(newest, True)
    return Chosen(readable, False, keys.passed_over(newest, readable))


def _directory(application: Application, source: str) -> Path:
    if source == LOCAL:
        return Path(application.backup_dir)
    if not source.startswith("/"):
        raise ConfigurationError(
            "no such storage", path=source, hint="local, or the absolute path of a directory that holds copies"
        )
    if not Path(source).is_dir():
        raise ConfigurationError("not a directory", path=source, hint="name the directory that holds the copies")
    return Path(source)


def _by_name(
    application: Application, directory: Path, now: datetime, *, of_the_future: bool = False
) -> Iterator[Backup]:
    """Its backups but for safety backups, the newest first; after all others those of the future, or these alone."""
    prefix = application.profile.archive_prefix
    with os_errors(directory):
        names = os.listdir(directory) if directory.is_dir() else []
    visible = _visible(application, directory, names)
    named = [parsed for parsed in map(parse_any_name, names) if parsed is not None]
    # A name that lies in the future comes last: a clock was wrong then.
    for parsed in sorted(named, key=lambda item: (not is_future(item.moment, now), item.moment), reverse=True):
        if parsed.name in SAFETY_LABELS:
            continue
        if of_the_future and not is_future(parsed.moment, now):
            continue
        backup = read_backup(directory / parsed.filename, prefix)
        if backup.path in visible:
            yield backup


def _visible(application: Application, directory: Path, names: Iterable[str]) -> frozenset[Path]:
    """What counts there. Where somebody names a directory of copies, all of them, if this installation made none."""
    prefix, maker = application.profile.archive_prefix, maker_of(application)
    found = [read_backup(directory / name, prefix) for name in named_backups(names)]
    mine = maker.visible(found, application.backups_of)
    if not mine and directory != Path(application.backup_dir) and application.backups_of is None:
        mine = [item for item in found if maker.is_of_application(item)]
    return frozenset(item.path for item in mine)
