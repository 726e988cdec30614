# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of modes: what is private stays private, and what can be executed stays so."""

from __future__ import annotations

from .removal import Removal

MODES = "tests/unit/operations/test_modes.py::test_hazard_c3_"

OF_MODES = (
    Removal(
        "c3",
        "modes come back as they were",
        "operations/rights_plan.py",
        "    mode = mended_mode(mode, classified.mode, stated=classified.stated, directory=directory)\n",
        "    mode = classified.mode\n",
        (MODES + "modes_that_the_profile_does_not_state_come_back_as_they_were",),
    ),
    Removal(
        "c3",
        "a restored file is no more open than the live one",
        "operations/tree_modes.py",
        "kept = mode & (live | 0o700) & 0o666",
        "kept = mode & 0o666",
        (MODES + "a_restore_opens_no_live_file_that_is_private_now",),
    ),
    Removal(
        "c3",
        "who may read a file keeps the right to execute it",
        "operations/tree_modes.py",
        "return kept | executable_by_readers(found, kept)",
        "return kept",
        (MODES + "a_stated_mode_takes_no_right_to_execute_and_opens_nothing",),
    ),
)
