# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of the look after which ``site`` leaves a host as it is."""

from __future__ import annotations

from .removal import Removal

SETTLED = "../steps/settled.py"
TEST = "tests/unit/modules/test_setup_info.py::test_whatever_is_to_be_done_or_wrong_is_left_to_the_modules"

SETTLING = (
    Removal(
        "settling",
        "a host is not left where the check of its configuration finds a problem",
        SETTLED,
        "outcome.changed or outcome.status != ExitStatus.DONE",
        "outcome.changed",
        (f"{TEST}[a check that fails]",),
    ),
    Removal(
        "settling",
        "a fenced host is not left, as what came since must be masked",
        SETTLED,
        "changed=note_fence(self._defined, self._ports)",
        "changed=False",
        (f"{TEST}[a fence]",),
    ),
    Removal(
        "settling",
        "a host is not left where a key is open to others or not the one of the controller",
        SETTLED,
        "changed=not all(_is_there(item)",
        "changed=not all(True",
        (f"{TEST}[the mode of a key]", f"{TEST}[the content of a key]"),
    ),
)
