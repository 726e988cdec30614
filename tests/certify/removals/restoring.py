# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of hazards C1 and C3 to C6: restoring."""

from __future__ import annotations

from .hostile import HOSTILE
from .removal import Removal

RESTORE = "tests/unit/operations/test_operation_restore.py::test_"
GUARDS = "tests/unit/operations/test_operation_guards.py::test_hazard_"
HAZARDS = "tests/unit/operations/test_operation_hazards.py::test_hazard_"
EXCHANGE = "tests/unit/transaction/test_transaction_exchange.py::test_"
OLD_ARCHIVES = "tests/faults/test_hostile_archives.py::test_hazard_"
BOOT = "tests/unit/operations/test_operation_boot.py::test_hazard_"
UNITS = "tests/unit/operations_r/test_prune_units.py::test_hazard_"
MOUNTS = "tests/unit/operations/test_operation_mounts.py::test_hazard_"

RESTORING = (
    # C1: a server that lost power starts its bot on whole data
    Removal(
        "c1",
        "what was begun is undone before the bot starts",
        "operations/recover.py",
        "while not is_whole(state_dir):",
        "while False:",
        (BOOT + "c1_the_data_is_old_and_whole_before_the_bot_starts",),
    ),
    Removal(
        "c1",
        "the bot does not start when that fails",
        "operations/unit_files.py",
        "install=f\"RequiredBy={' '.join(services)}\\n\",",
        'install="WantedBy=multi-user.target\\n",',
        (UNITS + "c1_the_bot_does_not_start_at_boot_on_an_unfinished_restore",),
    ),
    Removal(
        "c1",
        "nothing that was written on the new state stays beside the old",
        "transaction/renames.py",
        "    if item.companions is not None and _is_exchanged(item, directories):",
        "    if item.companions is None:",
        (RESTORE + "hazard_c1_what_a_bot_wrote_before_it_died_does_not_replay_over_the_old_database",),
    ),
    Removal(
        "c1",
        "recover keeps what was written on a state that it gives up",
        "transaction/recovery.py",
        'if data == "old" and given_up is not None:',
        "if False:",
        (RESTORE + "hazard_c1_recover_keeps_what_a_bot_wrote_too",),
    ),
    # C1: nothing is deleted before what takes its place is proven
    Removal(
        "c1",
        "an archive is what its checksum file says",
        "operations/reading.py",
        "compare_checksum(backup, sha256)",
        "str(backup)",
        (GUARDS + "c1_an_archive_with_the_checksum_of_another_changes_nothing",),
    ),
    Removal(
        "c1",
        "restored databases are checked before anything stops",
        "operations",
        "check_restored(entry, place, told)",
        "str(entry)",
        (RESTORE + "hazard_c1_a_database_that_was_corrupt_in_an_old_archive_is_refused",),
    ),
    Removal(
        "c1",
        "restored rows are compared with the manifest",
        "operations",
        "if not problems and kind == SQLITE and differing_tables(entry.facts, report):",
        "if False:",
        (GUARDS + "c1_a_database_with_other_rows_than_the_manifest_says_is_refused",),
    ),
    Removal(
        "c1",
        "a stale WAL goes with its database",
        "operations",
        "if path + suffix not in named and os.path.lexists(live + suffix))",
        "if False)",
        (RESTORE + "hazard_c1_a_stale_wal_does_not_replay_over_the_restored_database",),
    ),
    Removal(
        "c1",
        "a live file is never absent",
        "transaction",
        "not _keep_by_link(item, live, directories)",
        "item.had",
        (EXCHANGE + "hazard_c1_a_live_file_is_never_absent",),
    ),
    Removal(
        "c1",
        "what was begun is on record before anything moves",
        "transaction",
        "journal.append(_first_record(begun))",
        "str(begun)",
        (EXCHANGE + "hazard_c1_undo_works_after_every_step",),
    ),
    Removal(
        "c1",
        "what was kept is put back",
        "transaction",
        "    _rename(item.kept, item.live, directories)\n\n\ndef _is_exchanged",
        "    str(item)\n\n\ndef _is_exchanged",
        (EXCHANGE + "hazard_c1_undo_works_after_every_step",),
    ),
    Removal(
        "c1",
        "a failure puts the old data back",
        "operations",
        "exchange.undo(ports.step)",
        "exchange.record_commit(ports.step)",
        (RESTORE + "hazard_c1_a_failure_at_any_step_leaves_the_data_as_it_was",),
    ),
    Removal(
        "c1",
        "a failure starts the services again",
        "operations/exchange_run.py",
        "            services.start(snapshot)\n"
        "            change.was_down(round(ports.clock.monotonic() - down_since, 3))\n"
        "            services.wait_until_steady(snapshot)\n",
        "",
        (RESTORE + "hazard_c1_a_service_that_does_not_stay_up_gets_its_old_data_back",),
    ),
    Removal(
        "c1",
        "the restored state must stay up",
        "operations/exchange_run.py",
        "services.wait_until_steady(snapshot if start is None else start)",
        "str(snapshot)",
        (RESTORE + "hazard_c1_a_service_that_does_not_stay_up_gets_its_old_data_back",),
    ),
    Removal(
        "c1",
        "nothing is backed up from between two states",
        "operations/backup_plan.py",
        "refuse_pending(Path(application.application_state_dir))",
        "str(application)",
        (GUARDS + "c1_nothing_runs_over_a_restore_that_was_cut_off",),
    ),
    Removal(
        "c1",
        "nothing is restored over a restore that was cut off",
        "operations/restore.py",
        "refuse_pending(Path(application.application_state_dir))",
        "str(application)",
        (GUARDS + "c1_nothing_runs_over_a_restore_that_was_cut_off",),
    ),
    *HOSTILE,
    # C3: owners by name; the removals take a number for an owner, or root for nobody
    Removal(
        "c3",
        "the owner is kept by name",
        "operations/assemble.py",
        "(name_of_uid)",
        '(lambda uid: f"#{uid}")',
        (GUARDS + "c3_a_backup_knows_owners_by_name",),
    ),
    Removal(
        "c3",
        "the owners in an archive mean nothing",
        "operations/rights_plan.py",
        "GrantedRights(application.owner, application.group, mode, False)",
        "GrantedRights(entry.owner, entry.group, mode, False)",
        (
            HAZARDS + "c3_owners_go_by_name_and_never_fall_to_root",
            "tests/attacks/test_archive_rights.py::test_a_restore_gives_nothing_to_root_or_another_account",
        ),
    ),
    Removal(
        "c3",
        "the profile's owner comes first",
        "operations/rights_plan.py",
        "    if classified is None:\n",
        "    if True:\n",
        ("tests/attacks/test_archive_rights.py::test_a_restore_gives_nothing_to_root_or_another_account",),
    ),
    Removal(
        "c3",
        "an archive lets nobody else write",
        "operations/rights_plan.py",
        "entry.mode & _FROM_ARCHIVE.get(entry.type, 0o775)",
        "entry.mode",
        ("tests/attacks/test_archive_rights.py::test_a_restore_gives_nothing_to_root_or_another_account",),
    ),
    # C4: archives of the old scripts
    Removal(
        "c4",
        "the profile says where an archive has the root",
        "operations/layout.py",
        'return best[0] if best else ""',
        'return ""',
        (RESTORE + "hazard_c4_archives_of_the_old_scripts",),
    ),
    Removal(
        "c4",
        "it is looked for behind several directories",
        "operations/layout.py",
        "for _number in range(_DEEPEST):",
        "for _number in range(1):",
        (RESTORE + "hazard_c4_archives_of_the_old_scripts",),
    ),
    Removal(
        "c4",
        "weaker checks are told",
        "operations",
        'ports.progress.note("made by another program',
        'str("made by another program',
        (RESTORE + "hazard_c4_archives_of_the_old_scripts",),
    ),
    # C5: running bots, full disks, links and mounts
    Removal(
        "c5",
        "the bot is stopped for the exchange",
        "operations/exchange_run.py",
        "services.stop(snapshot)\n        change.were_stopped",
        "change.were_stopped",
        (RESTORE + "hazard_c1_a_service_that_does_not_stay_up_gets_its_old_data_back",),
    ),
    Removal(
        "c5",
        "what the bot wrote until then is taken in",
        "operations",
        "        _settle(run, stage)\n",
        "",
        (RESTORE + "hazard_c5_what_the_bot_writes_between_plan_and_stop_is_taken_in",),
    ),
    Removal(
        "c5",
        "bytes are counted before a restore",
        "operations/restore.py",
        "if needed + (1 << 20) > free.bytes_free:",
        "if False:",
        (GUARDS + "c5_space_is_looked_at_before_a_restore[bytes]",),
    ),
    Removal(
        "c5",
        "inodes are counted before a restore",
        "operations/restore.py",
        "if free.inodes_free is not None and free.inodes_free < len(run.changes) + 16:",
        "if False:",
        (GUARDS + "c5_space_is_looked_at_before_a_restore[inodes]",),
    ),
    Removal(
        "c5",
        "so is the room for what is replaced",
        "operations",
        "if needed > free:",
        "if False:",
        (GUARDS + "c5_a_safety_backup_that_does_not_fit_stops_a_restore_before_it_begins",),
    ),
    Removal(
        "c5",
        "a data directory that is a symlink is refused",
        "operations/scan.py",
        "if stat.S_ISLNK(status.st_mode):\n        raise ConfigurationError(",
        "if False:\n        raise ConfigurationError(",
        (RESTORE + "hazard_c5_a_symlinked_root_is_refused",),
        more=(("if not stat.S_ISDIR(status.st_mode):\n        raise", "if False:\n        raise"),),
    ),
    Removal(
        "c5",
        "mounts are stages of their own",
        "host/mounts.py",
        'mounts = [point for point in mount_points() if point.startswith(top + "/")]',
        "mounts: list[str] = []",
        (MOUNTS + "c5_a_restore_over_a_bind_mount",),
    ),
    Removal(
        "c5",
        "a mount point itself is not exchanged",
        "host/mounts.py",
        "if relative == candidate.relative:",
        "if False:",
        (MOUNTS + "c5_a_mount_point_itself_is_refused",),
    ),
    Removal(
        "c5",
        "another filesystem is found before anything moves",
        "transaction",
        "if parent is not None and parent.st_dev != staged.st_dev:",
        "if False:",
        (EXCHANGE + "hazard_c5_another_filesystem_is_refused_before_anything_moves",),
    ),
    # C6: what is there already
    Removal(
        "c6",
        "what is there already stops nothing",
        "operations",
        "    if not run.changes:\n        return",
        "    if False:\n        return",
        (RESTORE + "hazard_c6_restoring_what_is_there_changes_nothing",),
    ),
    Removal(
        "c6",
        "a live database is compared by its rows",
        "operations",
        '(before["sha256"] != entry.sha256 or _has_open_companions(live))',
        "False",
        (RESTORE + "hazard_c6_a_live_wal_with_the_same_rows_is_the_same",),
    ),
    Removal(
        "c6",
        "rows in the WAL alone are a difference",
        "operations",
        '(before["sha256"] != entry.sha256 or _has_open_companions(live))',
        'before["sha256"] != entry.sha256',
        (GUARDS + "c6_rows_in_the_wal_alone_are_a_difference",),
    ),
    Removal(
        "attributes",
        "a list of a file of somebody else is not passed on",
        "operations/attributes.py",
        " or status.st_uid != uid:",
        ":",
        (
            "tests/unit/operations/test_operation_attributes.py::test_a_list_of_a_file_of_somebody_else_is_not_passed_on",
        ),
    ),
)
