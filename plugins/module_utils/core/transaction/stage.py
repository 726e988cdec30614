# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Where new content is made ready: a private directory beside the data, one per filesystem.

``<top>/.tradekeep-stage-<id>/new`` holds what goes live, ``.../kept`` what it replaces. Each stage is registered in the
state directory before it is made, so that one left by a crash is found without searching the data.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import TradekeepError
from ..host.files import (
    atomic_write,
    components_of,
    make_private_directory,
    open_directory,
    os_errors,
    sweep_writes,
)
from ..host.filesystem.identity import privileged, with_privileges
from ..host.mounts import DeviceRoot, device_root_of
from .exchange import pending
from .stage_directory import make_stage, remove_stage

STAGE_PREFIX = ".tradekeep-stage-"
_REGISTRATION_PREFIX = "stage-"


class Stage:
    """New content on its way; use as a context manager, or call ``remove``."""

    def __init__(self, registration: Path, identifier: str, roots: Sequence[DeviceRoot]) -> None:
        self._registration = registration
        self._roots = tuple(roots)
        self._name = f"{STAGE_PREFIX}{identifier}"
        self._made: set[str] = set()
        self._kept = 0

    @classmethod
    def create(cls, state_dir: Path, roots: Sequence[DeviceRoot]) -> Stage:
        """Register a stage for these parts of the tree (see ``device_roots``); its directories are made when needed."""
        identifier = secrets.token_hex(8)
        registration = Path(state_dir) / f"{_REGISTRATION_PREFIX}{identifier}.json"
        stage = cls(registration, identifier, roots)
        paths = [stage._directory(root) for root in roots if root.is_directory]
        with privileged():
            make_private_directory(state_dir)
            atomic_write(registration, json.dumps(paths).encode("ascii"))
        return stage

    @property
    def directories(self) -> tuple[str, ...]:
        """The stage directories that were made."""
        return tuple(sorted(self._made))

    def path_for(self, relative: str, prefix: str = "") -> str:
        """Where the new content of a path is to be made; the caller makes the directories above it, in the stage.

        It lies at its path below ``new`` and, so that several trees can lie beside each other, a prefix.
        """
        root = device_root_of(self._roots, relative)
        below = "/".join([*components_of(prefix), *components_of(relative)])
        if not components_of(relative):
            raise TradekeepError("the root itself cannot be exchanged", path=root.path)
        return f"{self._ready(root)}/new/{below}"

    def kept_for(self, relative: str) -> str:
        """A fresh name for the old content of a path; flat, so that nothing kept lies in anything else kept."""
        root = device_root_of(self._roots, relative)
        self._kept += 1
        return f"{self._ready(root)}/kept/{self._kept:08d}"

    def sync(self) -> None:
        """Make all staged content durable, with one call per filesystem."""
        for directory in self.directories:
            with os_errors(directory):
                sync_filesystem(directory)

    def remove(self) -> None:
        """Remove everything staged and kept."""
        for directory in self.directories:
            remove_stage(directory)
        forget_registration(self._registration)

    def __enter__(self) -> Stage:
        """The stage itself."""
        return self

    def __exit__(self, *_exception: Any) -> None:
        """Remove the stage, unless a transaction that still needs it is on record."""
        if not _claimed(self._registration.parent, self.directories):
            self.remove()

    def _directory(self, root: DeviceRoot) -> str:
        return f"{root.path}/{self._name}"

    def _ready(self, root: DeviceRoot) -> str:
        directory = self._directory(root)
        if directory not in self._made:
            # Noted first: what fails half way is removed too.
            self._made.add(directory)
            if not make_stage(directory):
                raise TradekeepError("exists already", path=directory)
        return directory


@with_privileges
def abandoned_stages(state_dir: Path) -> dict[Path, tuple[str, ...]]:
    """Registrations and their stage directories, in use or not; whoever holds the lock knows that they are not."""
    found: dict[Path, tuple[str, ...]] = {}
    for registration in sorted(Path(state_dir).glob(f"{_REGISTRATION_PREFIX}*.json")):
        with os_errors(registration):
            paths = json.loads(registration.read_bytes())
        found[registration] = tuple(path for path in paths if Path(path).name.startswith(STAGE_PREFIX))
    return found


def sweep_stages(state_dir: Path) -> tuple[str, ...]:
    """Remove stages that a crash left, unless a pending transaction needs them. Returns those removed."""
    removed: list[str] = []
    for registration, directories in abandoned_stages(state_dir).items():
        if not _claimed(Path(state_dir), directories):
            removed.extend(directory for directory in directories if remove_stage(directory))
            forget_registration(registration)
    with privileged():
        sweep_writes(state_dir)
    return tuple(removed)


@with_privileges
def forget_registration(registration: Path) -> None:
    """The stage is gone."""
    with os_errors(registration), contextlib.suppress(FileNotFoundError):
        registration.unlink()


def sync_filesystem(path: str) -> None:
    """Wait until everything written to the filesystem of a directory is on its disk."""
    descriptor = open_directory(path)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def _claimed(state_dir: Path, directories: Sequence[str]) -> bool:
    transaction = pending(state_dir)
    return transaction is not None and bool(set(directories) & set(transaction.stages))
