# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of what a file is and of what is damage: the profile's word, bytes of one moment, what fails a backup."""

from __future__ import annotations

from .removal import Removal

KIND_OF = "tests/unit/operations/test_kind_of.py::test_"
TOGETHER = "tests/unit/kinds/test_together.py::test_"
NEEDS = "tests/unit/kinds/test_sqlite_needs.py::test_hazard_"
DAMAGE = "tests/unit/operations/test_damage.py::test_hazard_"
EVERY_ROW = KIND_OF + "hazard_a1_every_row_comes_back_whatever_the_profile_calls_the_file"

JUDGING = (
    Removal(
        "a1",
        "the profile says what is a part of a database",
        "operations/kind_of.py",
        "return index or kind_at(lookup, base) == SQLITE",
        "return index or default_kind(base) == SQLITE",
        (EVERY_ROW + "[fills.ledger-sqlite-held1]",),
    ),
    Removal(
        "a1",
        "bytes and WAL are of one moment",
        "kinds/together.py",
        "if _held_still(path, opened):",
        "if True:",
        (TOGETHER + "what_was_overwritten_meanwhile_is_taken_again[wal]",),
    ),
    Removal(
        "a1",
        "bytes and WAL are put in place and kept together",
        "operations/restore_plan.py",
        "return with_tied(sorted([*items, *removed.values()], key=lambda item: item.path))",
        "return sorted([*items, *removed.values()], key=lambda item: item.path)",
        (KIND_OF + "hazard_a1_what_is_worth_something_together_alone_is_replaced_and_kept_together[wal]",),
    ),
    Removal(
        "a4",
        "lost pages hide no damage",
        "kinds/sqlite_database.py",
        'found = _checked(connection, f"PRAGMA {name}({_MOST_PROBLEMS + _MOST_LEAKS})")',
        "found = list(found)",
        (NEEDS + "a4_lost_pages_do_not_hide_damage",),
    ),
    Removal(
        "a4",
        "a torn statement is no newer grammar",
        "kinds/sqlite_needs.py",
        "if not unread or None in unread:",
        "if False:",
        (NEEDS + "a4_a_torn_statement_in_the_schema_is_damage[CRXATE VIEW v AS SELECT]",),
    ),
    Removal(
        "a3",
        "a database that is required or was good fails the backup",
        "operations/assemble.py",
        'if found.kind != "sqlite" or found.required or found.path in self._held:',
        'if found.kind != "sqlite":',
        (DAMAGE + "a3_a_hint_names_no_backup_where_there_is_none",),
    ),
    Removal(
        "b4",
        "a backup of a damaged document that is required counts for nothing",
        "storage/backup.py",
        "problems.extend(damage)",
        "pass",
        (DAMAGE + "b4_a_backup_of_a_damaged_document_that_is_required_is_marked_and_never_counts[env]",),
    ),
    Removal(
        "c1",
        "a dry run checks what a restore would",
        "operations/check_ahead.py",
        "if not doubtful:",
        "if True:",
        (DAMAGE + "c1_a_damaged_database_of_an_old_archive_needs_a_word_and_a_dry_run_says_so",),
    ),
)
