# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How long each part of a handover takes, and how much it brings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ...ports import Clock


class Laps:
    """Seconds and bytes, by the names of phases, in the order of their ends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}
        self.bytes: dict[str, int] = {}

    def begin(self) -> float:
        """The present, for ``end``."""
        return self._clock.monotonic()

    def end(self, phase: str, begun: float) -> float:
        """A phase is over. Returns how long it took."""
        self.seconds[phase] = round(self._clock.monotonic() - begun, 3)
        return self.seconds[phase]

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """For as long as the block takes."""
        begun = self.begin()
        try:
            yield
        finally:
            self.end(phase, begun)

    def lines(self) -> Iterator[str]:
        """One for each phase."""
        for phase, seconds in self.seconds.items():
            size = self.bytes.get(phase)
            yield f"  {phase:<18} {seconds:8.2f} s" + (f"  {size:>14,} bytes" if size is not None else "")
