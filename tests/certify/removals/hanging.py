# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards against files that are made to hold whoever reads them."""

from __future__ import annotations

from .removal import Removal

ATTACK = "tests/attacks/test_hanging.py::test_"

HANGING = (
    Removal(
        "a4",
        "a sidecar that is no file is refused before SQLite opens it",
        "kinds/sqlite_source.py",
        "for beside, what in unsafe_sidecars(path).items():",
        "for beside, what in dict[Path, str]().items():",
        (ATTACK + "a_fifo_for_a_sidecar_holds_nobody[-journal]",),
    ),
    Removal(
        "c1",
        "a safety backup leaves out a sidecar that is no file",
        "operations/assemble.py",
        "if suffix and Path(absolute) in unsafe:",
        "if False:",
        (ATTACK + "a_symlink_for_a_sidecar_does_not_keep_a_restore_from_its_end[other]",),
    ),
    Removal(
        "a4",
        "warnings are bounded",
        "operations/assemble.py",
        "if len(self.warnings) < MOST_WARNINGS:",
        "if True:",
        (ATTACK + "tens_of_thousands_of_fifos_leave_a_good_backup",),
    ),
    Removal(
        "a4",
        "a full check that takes too long becomes a quick one",
        "kinds/sqlite.py",
        "for level in (CheckLevel.FULL, CheckLevel.QUICK):",
        "for level in (CheckLevel.FULL,):",
        (ATTACK + "one_call_without_end_is_killed",),
    ),
    Removal(
        "a4",
        "work on a database that nobody can kill ends at its deadline",
        "kinds/sqlite_database.py",
        "if not deadline.comes:",
        "if True:",
        (ATTACK + "work_that_cannot_be_killed_ends_at_its_deadline_too[limit]",),
    ),
    Removal(
        "a4",
        "names in one directory are bounded",
        "operations/found.py",
        "if len(names) > MOST_NAMES:",
        "if False:",
        (ATTACK + "more_names_than_can_be_looked_at_are_refused[MOST_NAMES]",),
    ),
    Removal(
        "a4",
        "names in the whole tree are bounded while it is looked at",
        "operations/scan.py",
        "if left < 0:",
        "if False:",
        (ATTACK + "more_names_than_can_be_looked_at_are_refused[MOST_ENTRIES]",),
    ),
    Removal(
        "b3",
        "a sidecar that would not be read back is not published",
        "storage/local.py",
        "if len(text) > LARGEST_SIDECAR:",
        "if False:",
        (ATTACK + "a_sidecar_that_would_not_be_read_back_is_not_published",),
    ),
)
