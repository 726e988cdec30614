# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of symlinks in the data: what is behind them is named, and nothing is read or written through one."""

from __future__ import annotations

from .removal import Removal

LINKS = "tests/unit/operations/test_links.py::test_hazard_"

OF_LINKS = (
    Removal(
        "a9",
        "data behind a symlink is named",
        "operations/backup.py",
        "*missed_lines(plan.links, plan.more_links), ",
        "",
        (LINKS + "a9_a_backup_names_the_data_behind_a_symlink_that_it_does_not_hold[False]",),
    ),
    Removal(
        "a9",
        "what is required and is behind a symlink fails the backup",
        "operations/links.py",
        "if found.required:",
        "if False:",
        (LINKS + "a9_what_the_profile_requires_behind_a_symlink_is_in_the_backup_or_it_fails[False]",),
    ),
    Removal(
        "a9",
        "what stands for a required database is as good as one",
        "operations/tree_reader.py",
        "    held |= required_behind_links(application, expected_paths(application))\n",
        "",
        (LINKS + "a9_what_stands_for_a_required_database_fails_the_backup_when_it_is_damaged",),
    ),
    Removal(
        "a9",
        "symlinks are followed to declared places alone",
        "operations/links.py",
        'not any(real == top or real.startswith(f"{top}/") for top in tops)',
        "not tops",
        (LINKS + "a9_a_symlink_is_followed_to_a_declared_place_alone",),
    ),
    Removal(
        "c5",
        "a restore looks through no live symlink",
        "operations/links.py",
        'if found is None and os.path.islink(f"{self._root}/{directory}"):',
        "if False:",
        (LINKS + "c5_a_directory_that_became_a_symlink_makes_way_as_a_whole",),
    ),
    Removal(
        "c5",
        "a symlink makes way for all of a directory or not at all",
        "operations/restore_plan.py",
        "if selection.whole or not going:",
        "if True:",
        (LINKS + "c5_a_symlink_does_not_make_way_for_a_part_of_a_directory[data/models/b.bin]",),
    ),
)
