# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards that keep several applications of a host, and the backups of a wrong clock, apart."""

from __future__ import annotations

from .removal import Removal

SHARED = "tests/unit/storage/test_shared_directory.py::test_"

MAKER = "tests/unit/operations/test_operation_other_maker.py::test_"

SHARING = (
    Removal(
        "c2",
        "the backup of another profile is not restored",
        "operations/provenance.py",
        "if profile is None or profile == application.profile.name:",
        "if True:",
        (MAKER + "hazard_c2_the_backup_of_another_profile_is_refused",),
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
        "return archive not in present and self._is_our_name(archive)",
        "return archive not in present",
        (SHARED + "sidecars_that_another_is_about_to_use_are_not_swept",),
    ),
    Removal(
        "b3",
        "the link to the latest backup is one application's",
        "storage/belonging.py",
        'if name.startswith(f"{LATEST_STEM}.tar.") and not _is_ours(directory / name, application, prefix):',
        "if False:",
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
