# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whose backups lie in a directory that several applications may share.

The sidecar says whose an archive is, under whatever prefix it was made: a prefix may be that of several applications,
and may change. Only where there is no sidecar to ask, the prefix decides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from .backup import Backup, read_small
from .names import LATEST_STEM, parse_any_name, parse_name, sidecars_of


def named_backups(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the file names that are an archive's, of any prefix."""
    return tuple(name for name in names if parse_any_name(name) is not None)


def belongs(backup: Backup, application: str, prefix: str) -> bool:
    """Whether a backup is of this application."""
    if backup.application is not None:
        return backup.application == application
    return parse_name(prefix, backup.name) is not None


def sidecar_owner(archive: Path) -> Optional[str]:
    """Whose an archive is, as its sidecar says; None where there is none that says it."""
    try:
        content = json.loads(read_small(archive.with_name(sidecars_of(archive.name)[1])))
    except (OSError, ValueError, RecursionError):
        return None
    owner = content.get("application") if isinstance(content, dict) else None
    return owner if isinstance(owner, str) else None


def owner_of_archive(archive: Path) -> Optional[str]:
    """The same for an archive that is there, under a name as backups have it."""
    known = parse_any_name(archive.name) is not None and os.path.lexists(archive)
    return sidecar_owner(archive) if known else None


def latest_stem(directory: Path, names: Iterable[str], application: str, prefix: str) -> str:
    """What the name of an application's link to its latest backup begins with.

    The first application in a directory has ``latest_backup``; each other one its own, which it keeps.
    """
    own = f"{LATEST_STEM}_{application}"
    for name in names:
        if name.startswith(f"{own}.tar."):
            return own
        if name.startswith(f"{LATEST_STEM}.tar.") and not _is_ours(directory / name, application, prefix):
            return own
    return LATEST_STEM


def _is_ours(link: Path, application: str, prefix: str) -> bool:
    try:
        target = os.readlink(link)
    except OSError:
        # A file of somebody's, which is refused when the link is made.
        return True
    owner = sidecar_owner(link.with_name(os.path.basename(target)))
    return owner == application if owner is not None else parse_name(prefix, target) is not None
