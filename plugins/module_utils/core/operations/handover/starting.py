# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The application's services on the target: masked until the source has let go, then started for good."""

from __future__ import annotations

from pathlib import Path

from ...application import Application
from ...host.masking import UNIT_DIR
from ...host.services import ServiceController, Snapshot
from ...ports import Ports
from ...transaction.fence_file import read_fence
from ..fence import FenceWork
from ..unit_files import guard_of
from .note import GRANTED, RETURNING, mark, read_note


class TargetServices(ServiceController):
    """Whoever stops the services again after the source has let go is about to give the application back."""

    def __init__(self, application: Application, ports: Ports, identifier: str, *, unit_dir: Path = UNIT_DIR) -> None:
        super().__init__(application.services, ports.runner, ports.clock)
        self._state_dir = Path(application.application_state_dir)
        self._guard = guard_of(application)
        self._identifier = identifier
        self._masks = FenceWork(application, ports, unit_dir).masks
        self._gated = False

    def prepare(self, start: Snapshot) -> None:
        """While the source still runs: all that can be done before the start, but nothing can be started yet.

        The guard would look whether the data is whole: it is, when ``allow`` is called, and until ``stop``.
        """
        self.make_ready(start)
        self._gated = self._masks.gate(self._masked(), [self._guard])

    def stop(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Note it first: from then on no recovery starts anything here, and nobody passes the guard."""
        if self._gated:
            self._masks.close(self._masked())
        note = read_note(self._state_dir) or {}
        if note.get("state") == GRANTED:
            mark(self._state_dir, self._identifier, RETURNING)
        return super().stop(snapshot)

    def allow(self) -> None:
        """The source has let go, and that is on the disk."""
        if self._gated:
            self._masks.open(self._masked())
        else:
            self._masks.unmask(self._masked())

    def stay(self) -> None:
        """They run for good: boots may start them as well."""
        self._masks.unmask(self._masked())

    def forbid(self) -> None:
        """The application is given back."""
        self._masks.mask(self._masked())

    def _masked(self) -> list[str]:
        return list((read_fence(self._state_dir) or {}).get("masked", []))
