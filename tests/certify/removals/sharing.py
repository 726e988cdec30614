# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards that keep several applications of a host, and the backups of a wrong clock, apart."""

from __future__ import annotations

from .removal import Removal

SHARED = "tests/unit/storage/test_shared_directory.py::test_"

MAKER = "tests/unit/operations/test_operation_other_maker.py::test_"

HOSTS = "tests/unit/operations/test_operation_hosts.py::test_"

RENAME = "tests/unit/operations/test_operation_rename.py::test_"

SHARING = (
    Removal(
        "b5",
        "two applications never have one root",
        "operations/claims.py",
        "if _real(other.root) == _real(application.root):",
        "if False:",
        (RENAME + "a_second_application_with_the_same_root_is_refused",),
    ),
    Removal(
        "b5",
        "no application has what is part of another's component",
        "operations/claims.py",
        "if lookup.directory(relative) is not None or lookup.file(relative) is not None:",
        "if False:",
        (RENAME + "a_root_below_a_component_of_another_is_refused",),
    ),
    Removal(
        "b4",
        "backups are not left behind in a directory that nobody looks at",
        "operations/installation.py",
        "if not renamed:",
        "if False:",
        (RENAME + "what_would_be_left_behind_is_refused",),
    ),
    Removal(
        "b1",
        "a backup that is moved replaces no other",
        "operations/rename.py",
        "if taken_by_another(backup, target):",
        "if False:",
        (RENAME + "what_cannot_be_renamed_is_refused",),
    ),
    Removal(
        "c2",
        "the backup of another profile is not restored",
        "operations/provenance.py",
        "if profile is None or profile == application.profile.name:",
        "if True:",
        (MAKER + "hazard_c2_the_backup_of_another_profile_is_refused",),
    ),
    Removal(
        "b3",
        "no backup goes to the disk beneath one that is not mounted",
        "operations/backup_plan.py",
        "if output is None and NEW_DIRECTORY not in allowed:",
        "if False:",
        (
            "tests/unit/operations/test_operation_vanished.py::"
            "test_hazard_b3_no_backup_is_written_where_the_disk_of_all_others_is_not_mounted",
        ),
    ),
    Removal(
        "b1",
        "a name goes to one of two where there are no hard links",
        "storage/placing.py",
        "give_name(temporary, path, claim=True)",
        "give_name(temporary, path)",
        (
            "tests/unit/operations/test_operation_without_links.py::"
            "test_hazard_b1_a_name_goes_to_one_of_two_where_there_are_no_links",
        ),
    ),
    Removal(
        "c5",
        "a restore over what is locked with chattr is refused before it begins",
        "operations/restore.py",
        "    refuse_locked(os.path.join(application.root, item.path) for item in run.changes)\n",
        "",
        (
            "tests/unit/operations/test_operation_immutable.py::"
            "test_hazard_c5_a_restore_over_a_locked_file_changes_nothing_and_says_how_to_unlock_it",
        ),
    ),
    Removal(
        "b8",
        "the host's own key does not stand for those of people",
        "archive/recipients.py",
        "people = [key for key in keys if key.recipient != own] or list(keys)",
        "people = list(keys)",
        (
            "tests/unit/operations/test_operation_expiry.py::"
            "test_hazard_b8_the_hosts_own_key_does_not_stand_for_peoples",
        ),
    ),
    Removal(
        "b4",
        "what another host has made is not pruned",
        "storage/maker.py",
        "return number == self.installation",
        "return True",
        (HOSTS + "hazard_b4_prune_leaves_what_another_host_has_made",),
    ),
    Removal(
        "c2",
        "the latest backup is never that of another host",
        "storage/maker.py",
        "return host == self.host if isinstance(host, str) else True",
        "return True",
        (HOSTS + "backups_of_earlier_versions_go_by_the_name_of_the_host",),
    ),
    Removal(
        "b1",
        "what another host is writing is not swept",
        "storage/parts.py",
        "if part[2] is not None and part[2] == maker.tag:",
        "if True:",
        (HOSTS + "hazard_b1_what_another_host_is_writing_is_not_swept",),
    ),
    Removal(
        "b1",
        "a name that another application uses is not taken over",
        "storage/local.py",
        "write_new(facts, text, self.temporary(facts.name))",
        "facts.write_bytes(text)",
        (SHARED + "a_name_of_the_same_second_goes_to_one_of_them",),
    ),
    Removal(
        "b1",
        "what another application is about to publish is not swept",
        "storage/local.py",
        "return archive not in present and self._is_our_name(archive, maker)",
        "return archive not in present",
        (SHARED + "sidecars_that_another_is_about_to_use_are_not_swept",),
    ),
    Removal(
        "b3",
        "the link to the latest backup is one application's",
        "storage/belonging.py",
        "if all(_is_ours(directory / name, maker, otherwise=stem != LATEST_STEM) for name in _links(present, stem)):",
        "if True:",
        (SHARED + "each_has_its_own_backups_and_its_own_latest_link",),
    ),
    Removal(
        "b4",
        "what is dated in the future is not the latest backup",
        "storage/choice.py",
        "return moment > now + CLOCK_TOLERANCE",
        "return False",
        (SHARED + "latest_passes_over_what_is_dated_in_the_future",),
    ),
)
