# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Says how long each task took."""

from __future__ import annotations

import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: stopwatch
type: aggregate
short_description: how long each task took
description: Prints one line for each task.
"""


class CallbackModule(CallbackBase):
    """One line for each task, when the next one starts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stopwatch"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._task = None
        self._started = 0.0

    def v2_playbook_on_task_start(self, task, is_conditional) -> None:
        self._stop()
        self._task, self._started = task.get_name(), time.monotonic()

    def v2_playbook_on_stats(self, stats) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._task is not None:
            self._display.display(f"stopwatch: {self._task}: {time.monotonic() - self._started:.3f}")
        self._task = None
