# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards against backups of nothing, and against pruning the last one that held something."""

from __future__ import annotations

from .removal import Removal

LOSSES = "tests/unit/operations/test_losses.py::test_hazard_"
UNCOVERED = "tests/unit/operations/test_uncovered.py::test_hazard_"

LOSING = (
    # A3: what a bot deletes itself
    Removal(
        "a3",
        "a database that was lost as a whole is no queue that drains",
        "operations/shrinking.py",
        "lost = kept <= len(fallen) and _is_below(held, whole, percent)",
        "lost = False",
        (
            LOSSES + "a3_a_database_that_was_lost_as_a_whole_is_no_drain",
            "tests/unit/operations/test_shrinking.py::test_hazard_a3_a_database_that_lost_most_of_its_rows_is_lost",
        ),
    ),
    Removal(
        "a3",
        "what a person allowed once is not learnt",
        "operations/backup.py",
        "if item.lost or is_allowed(job.application, path, item.table, allowed):",
        "if item.lost:",
        (LOSSES + "a3_what_a_person_allowed_once_is_not_learnt",),
    ),
    Removal(
        "b4",
        "the last backup before a table was drained is kept",
        "operations/collapses.py",
        "            if (path, table) in drained:",
        "            if False:",
        (LOSSES + "b4_the_last_backup_before_a_table_was_drained_is_kept",),
    ),
    # A3: what the last backup held
    Removal(
        "a3",
        "a component that is empty fails the backup",
        "operations",
        "        *_fewer(application, basis, held),\n",
        "",
        (LOSSES + "a3_a_backup_of_nothing_is_refused",),
    ),
    Removal(
        "a3",
        "so does one whose files are empty",
        "operations",
        "if collapsed(size, left, ",
        "if False and collapsed(size, left, ",
        (LOSSES + "a3_files_that_lost_their_content_are_refused",),
    ),
    Removal(
        "a3",
        "where nothing is critical every component counts",
        "operations",
        "for item in chosen or kept if",
        "for item in chosen if",
        (LOSSES + "a3_where_nothing_is_called_critical_everything_is",),
    ),
    Removal(
        "a3",
        "a required file that was emptied fails the backup",
        "operations",
        "        if found.required and found.size == 0:",
        "        if False:",
        (LOSSES + "a3_a_required_document_that_is_emptied_is_refused",),
    ),
    Removal(
        "a3",
        "what was there is known without the backups",
        "operations",
        "recorded, newest = recorded_basis(application), newest_good(catalog)",
        "recorded, newest = None, newest_good(catalog)",
        (LOSSES + "a3_an_empty_backup_directory_makes_no_loss_right",),
    ),
    Removal(
        "a3",
        "a restore lowers what it has touched alone",
        "operations",
        "name: count if touched is not None and name not in touched else min(",
        "name: min(",
        (LOSSES + "a3_a_restore_makes_no_other_loss_right",),
    ),
    Removal(
        "a3",
        "one word allows one loss",
        "operations",
        "if not {ALL, *item.words} & set(words)]",
        "if not words]",
        (LOSSES + "a3_one_word_allows_one_loss",),
    ),
    Removal(
        "a3",
        "a root on another filesystem fails the backup",
        "operations",
        "        *_moved(application, basis, held.places),\n",
        "",
        (LOSSES + "a3_a_root_on_another_filesystem_is_refused",),
    ),
    Removal(
        "a3",
        "a tree is not made on the disk beneath one that is not mounted",
        "operations/tree.py",
        '    if any(change.action == "create" for change in plan.changes):\n',
        "    if False:\n",
        (LOSSES + "a3_a_tree_is_not_made_on_the_disk_beneath_one_that_is_not_mounted",),
    ),
    Removal(
        "a3",
        "another disk of the same name is another filesystem",
        "host",
        "return before.identity != now.identity",
        "return False",
        (LOSSES + "a3_whether_the_data_lies_on_the_same_filesystem",),
    ),
    Removal(
        "a3",
        "another place in a filesystem is another one",
        "host",
        " or before.within != now.within",
        "",
        (LOSSES + "a3_whether_the_data_lies_on_the_same_filesystem",),
    ),
    Removal(
        "a3",
        "a check of the databases misses what is not there",
        "operations",
        "expected = {} if paths else _expected(application, ports)",
        "expected: dict[str, str] = {}",
        (LOSSES + "a3_a_check_of_the_databases_misses_what_is_not_there",),
    ),
    Removal(
        "a3",
        "a backup names what no component covers",
        "operations",
        ", *plan.uncovered.lines]",
        "]",
        (UNCOVERED + "a3_a_database_that_no_component_covers_is_named",),
    ),
    # B4: pruning
    Removal(
        "b4",
        "the last backup before a loss is kept",
        "operations",
        "decide(backups, retention, now, partial(before_losses, application))",
        "decide(backups, retention, now)",
        (LOSSES + "b4_the_last_backup_before_a_loss_is_kept_and_named",),
    ),
    Removal(
        "b4",
        "deploys keep their last backup before a loss",
        "operations",
        "if backup.name in fuller:",
        "if False:",
        (LOSSES + "b4_backups_before_deploys_are_no_exception",),
    ),
    Removal(
        "b4",
        "only what is kept takes the place of an older backup",
        "operations",
        "if lost or backup.name in kept:",
        "if True:",
        (LOSSES + "b4_a_slow_decline_is_a_loss_too",),
    ),
    Removal(
        "bounds",
        "the look at what no component covers ends",
        "operations",
        "if self._left <= 0 or self._clock.monotonic() > until:",
        "if self._left <= 0:",
        (UNCOVERED.replace("hazard_", "") + "it_ends_however_much_there_is",),
    ),
)
