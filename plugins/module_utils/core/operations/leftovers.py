# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Scratch directories of an application, and what killed processes leave of them in the state directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from ..application import Application
from ..errors import ConfigurationError
from ..host.account import Account, account_of
from ..host.files import make_private_directory
from ..host.filesystem.identity import privileged, with_privileges
from ..host.filesystem.scratch import SHARED, scratch_directory, shared_place, sweep

COMPARE_PREFIX = ".tradekeep-compare-"
_NOBODY = 65534


def reader_account(application: Application) -> Optional[Account]:
    """In whose name the application's data and archives are read; None where the engine is that account already."""
    if not application.system or os.geteuid() != 0:
        return None
    try:
        owner = account_of(application.owner, application.group)
    except ConfigurationError:
        return nobody()
    return None if owner.is_current else owner


def nobody() -> Optional[Account]:
    """In whose name root reads what it knows no owner of; None for an engine that is not root."""
    return Account(name="#65534", uid=_NOBODY, gid=_NOBODY, home="/") if os.geteuid() == 0 else None


def scratch_base(application: Application) -> Path:
    """A directory that ``reader_account`` can make a scratch directory in."""
    state = Path(application.application_state_dir)
    account = reader_account(application)
    if account is not None:
        return shared_place(state, account)
    with privileged():
        make_private_directory(state)
    return state


@contextmanager
def reading_scratch(application: Application, purpose: str) -> Iterator[Path]:
    """A scratch directory for reading the application's data in, which belongs to ``reader_account``."""
    sweep_state(application)
    with scratch_directory(scratch_base(application), purpose, account=reader_account(application)) as place:
        yield place


@with_privileges
def sweep_state(application: Application) -> tuple[str, ...]:
    """Remove temporary files and directories whose process is gone; returns their names."""
    state = Path(application.application_state_dir)
    below = (Path(place) for place, _directories, _files in os.walk(state / "deploy"))
    directories = (state, state / SHARED, state / "migrations", Path(application.state_dir) / "mirrors", *below)
    return tuple(name for directory in directories for name in sweep(directory))
