# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whose backups lie in a directory that several applications, and several hosts, may share (see ``maker``).

The sidecar says whose an archive is, under whatever prefix it was made: a prefix may be that of several applications,
and may change. Only where there is no sidecar to ask, the prefix decides.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .backup import read_small
from .maker import HOST, Maker
from .names import LATEST_STEM, parse_any_name, sidecars_of


def named_backups(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the file names that are an archive's, of any prefix."""
    return tuple(name for name in names if parse_any_name(name) is not None)


def sidecar_of(archive: Path) -> Mapping[str, Any]:
    """What the sidecar of an archive says; nothing where there is none, or none that can be read."""
    try:
        content = json.loads(read_small(archive.with_name(sidecars_of(archive.name)[1])))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def refuse_of_another(archive: Path, maker: Maker) -> None:
    """Raises UsageError for an archive that is there and is another application's, or another host's."""
    if parse_any_name(archive.name) is None or not os.path.lexists(archive):
        return
    sidecar = sidecar_of(archive)
    owner = sidecar.get("application")
    if isinstance(owner, str) and owner != maker.application:
        raise UsageError(f"is a backup of the application {owner}", path=archive.name, hint=f"choose --app {owner}")
    if isinstance(owner, str) and not maker.made_here(sidecar):
        host = str(sidecar.get(HOST))
        raise UsageError(
            f"was made on the host {host}, by another installation than this one",
            path=archive.name,
            hint=f"to take it all the same: --host {shlex.quote(host)}",
        )


def latest_stem(directory: Path, names: Iterable[str], maker: Maker) -> str:
    """What the name of an application's link to its latest backup begins with.

    The first application in a directory has ``latest_backup``; each other one its own, with its name, that of its host
    where another host has that one, and the number of its installation at last. Each keeps what it has.
    """
    of_application = f"{LATEST_STEM}_{maker.application}"
    of_host = f"{of_application}_{maker.host}"
    of_installation = f"{of_host}_{maker.installation or 'new'}"
    present = tuple(names)
    for stem in (of_installation, of_host, of_application):
        if any(_is_ours(directory / name, maker, otherwise=True) for name in _links(present, stem)):
            return stem
    for stem in (LATEST_STEM, of_application, of_host):
        if all(_is_ours(directory / name, maker, otherwise=stem != LATEST_STEM) for name in _links(present, stem)):
            return stem
    return of_installation


def _links(names: Iterable[str], stem: str) -> list[str]:
    return [name for name in names if name.startswith(f"{stem}.tar.")]


def _is_ours(link: Path, maker: Maker, *, otherwise: bool) -> bool:
    """otherwise: what it is where neither a sidecar nor the prefix of what it leads to tells."""
    try:
        target = os.readlink(link)
    except OSError:
        # A file of somebody's, which is refused when the link is made.
        return True
    sidecar = sidecar_of(link.with_name(os.path.basename(target)))
    return maker.owns_name(target, sidecar) or (otherwise and "application" not in sidecar)
