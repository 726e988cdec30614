# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The units of the source: held while the application runs, so that nothing starts them from the stop on.

systemd sees masks only after a reload, for which a stopped bot would wait. It does not have to where it knew before
that the units ask for a key.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Optional

from ...errors import TradekeepError
from ...host.services import Snapshot
from ...ports import Progress
from ...signals import result_of, take_no_signals
from ..fence import FenceWork


class Holding:
    """Of one handover. ``close`` waits for what still goes on beside."""

    def __init__(self, work: FenceWork, progress: Progress) -> None:
        self._work = work
        self._progress = progress
        self._held: list[str] = []
        self._helper = ThreadPoolExecutor(max_workers=1, initializer=take_no_signals)
        self._masking: Optional[Future[None]] = None

    def prepare(self, fence: dict[str, Any]) -> None:
        """While all of it runs, and may be started."""
        self._held = fence["masked"] if self._work.masks.hold(fence["masked"]) else []

    def bring_down(self, fence: dict[str, Any], ran: Snapshot) -> None:
        """Stop it and mask it. What is left to do for that goes on beside all that follows, until ``wait``."""
        masks = self._work.masks
        if self._work.bring_down(fence, ran, held=bool(self._held)):
            # What is not held can be started until systemd has seen the masks.
            self._masking = self._helper.submit(masks.endure if self._held else masks.settle)

    def wait(self) -> None:
        """Nothing can be started any more from here on, nor after a boot. Raises TradekeepError."""
        masking, self._masking = self._masking, None
        if masking is not None:
            result_of(masking)

    def have_masks_seen(self) -> None:
        """What is held cannot be started in any case: should systemd not be told now, it sees the masks later."""
        if self._held:
            try:
                self._work.masks.settle_held(self._held)
            except TradekeepError as error:
                self._progress.note(f"systemd was not told of the masks: {error}")

    def close(self) -> None:
        """Nothing goes on any more."""
        self._helper.shutdown(wait=True)
