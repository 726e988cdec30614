# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of a command that is asked to stop."""

from __future__ import annotations

from .removal import Removal

SIGNALS = "tests/unit/test_signals.py::test_"
STOPPED = "tests/unit/operations/test_stopped_for_backup.py::test_"

STOPPING: tuple[Removal, ...] = (
    Removal(
        "c1",
        "a signal raises nothing where it arrives",
        "signals.py",
        "        self.number = self.number or number\n",
        '        raise InterruptedBySignal("stopped")\n',
        (SIGNALS + "it_raises_nothing_where_it_arrives",),
    ),
    Removal(
        "c1",
        "a wait ends by a signal that another thread receives",
        "signals.py",
        "signal.set_wakeup_fd(noted.waking, warn_on_full_buffer=False)",
        "signal.set_wakeup_fd(-1)",
        (SIGNALS + "every_wait_answers_at_once",),
    ),
    Removal(
        "c1",
        "a second signal does not stop the undoing",
        "signals.py",
        "        stop.answered = True\n",
        "",
        (SIGNALS + "it_is_answered_once_and_a_second_one_does_not_stop_the_undoing",),
    ),
    Removal(
        "b9",
        "what a backup stops is on record before",
        "operations/stopped_for_backup.py",
        '    note_stop(state_dir, operation="backup", snapshot=snapshot)\n',
        "",
        (STOPPED + "hazard_b9_what_a_killed_backup_stopped_is_started_by_a_recovery",),
    ),
    Removal(
        "b9",
        "a backup that fails starts what it stopped",
        "operations/stopped_for_backup.py",
        '            _start(services, snapshot, state_dir, ports, f"{error}; nothing was backed up, but ")\n',
        "            pass\n",
        (STOPPED + "it_runs_again_after_a_backup_that_failed", STOPPED + "it_runs_again_after_a_signal"),
    ),
)
