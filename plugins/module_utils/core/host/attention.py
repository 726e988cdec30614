# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The world as an operation of ours sees it, with a signal that asks to stop answered wherever it is looked at."""

from __future__ import annotations

from typing import Optional

from ..ports import Ports, Progress
from ..signals import answer
from .runner import SubprocessRunner, SystemClock


class Attentive:
    """Progress at which a signal is answered."""

    def __init__(self, shown: Progress) -> None:
        self.shown = shown
        self.note = shown.note
        self.mention = shown.mention

    def start(self, label: str, total: Optional[int] = None, unit: str = "bytes") -> None:
        """Shown, unless it is time to stop."""
        answer()
        self.shown.start(label, total, unit)

    def advance(self, amount: int) -> None:
        """The same."""
        answer()
        self.shown.advance(amount)

    def finish(self) -> None:
        """Shown; most often where something has failed already."""
        self.shown.finish()


def attentive_ports(progress: Progress) -> Ports:
    """For an operation on this machine: steps and progress answer a signal, as the runner and the clock do."""
    return Ports(
        runner=SubprocessRunner(),
        clock=SystemClock(),
        progress=Attentive(progress),
        step=lambda _name: answer(),
        workers=True,
    )
