# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of what reads archives and databases of a bot."""

from __future__ import annotations

from .removal import Removal

READERS = "tests/attacks/test_readers.py::test_"
LEFTOVERS = "tests/attacks/test_leftovers.py::test_"

READING = (
    Removal(
        "parsed",
        "what an application wrote is parsed in its owner's name",
        "operations/leftovers.py",
        "return None if owner.is_current else owner",
        "return None",
        (READERS + "a_parser_has_the_owners_rights_and_nothing_of_roots",),
    ),
    Removal(
        "parsed",
        "an archive that root reads without knowing an owner is parsed in nobody's name",
        "operations/reading.py",
        "account or nobody(), heard=heard",
        "account, heard=heard",
        (READERS + "a_parser_has_the_owners_rights_and_nothing_of_roots",),
    ),
    Removal(
        "parsed",
        "an archive that is migrated is parsed in the owner's name",
        "operations/migrate/origin_archive.py",
        "account=worker_account(owner_of(application)),\n            gnupg_home",
        "account=None,\n            gnupg_home",
        (READERS + "a_parser_has_the_owners_rights_and_nothing_of_roots",),
    ),
    Removal(
        "parsed",
        "an old archive that is migrated is unpacked in the owner's name",
        "operations/migrate/origin_archive.py",
        "read_apart(write, opened, backup.path, ports, rights.account)",
        "read_apart(write, opened, backup.path, ports, None)",
        (READERS + "a_parser_has_the_owners_rights_and_nothing_of_roots",),
    ),
    Removal(
        "parsed",
        "a parser that says nothing for too long is ended",
        "operations/apart.py",
        "account=account, progress=ports.progress, seconds=seconds, keep=keep",
        "account=account, progress=ports.progress, keep=keep",
        (READERS + "a_parser_that_dies_or_never_ends_is_one_clear_line",),
    ),
    Removal(
        "parsed",
        "names that a parser says lead nowhere else",
        "archive/reported.py",
        "            all_safe_relative([entry.path for entry in batch])\n",
        "",
        (READERS + "no_entry_is_believed_that_no_archive_may_hold",),
    ),
    Removal(
        "parsed",
        "nothing lies beneath a symlink that a parser names",
        "archive/reported.py",
        "        self.repeated |= self._names.add_or_repeat(path, entry_type)\n",
        "",
        (READERS + "no_entry_is_believed_that_no_archive_may_hold",),
    ),
    Removal(
        "parsed",
        "what a parser finds in credentials is of files in the data",
        "archive/reported.py",
        "            self._names.add_or_repeat(safe_relative(path), FILE)\n",
        "",
        (READERS + "no_finding_on_a_credential_is_believed_that_is_none",),
    ),
    Removal(
        "parsed",
        "no mode that a parser says has setuid",
        "archive/reported.py",
        "        check_mode(mode, entry_type, path)\n",
        "",
        (READERS + "no_entry_is_believed_that_no_archive_may_hold",),
    ),
    Removal(
        "parsed",
        "a signal is no fault of the backup that is verified",
        "operations/verify.py",
        "    except InterruptedBySignal:\n        raise  # that says nothing about the backup\n",
        "",
        (READERS + "a_signal_ends_a_parser_that_hangs",),
    ),
    Removal(
        "parsed",
        "what a killed run left goes with the next one",
        "operations/leftovers.py",
        "    sweep_state(application)\n    with scratch_directory",
        "    with scratch_directory",
        (LEFTOVERS + "what_a_killed_run_left_goes_with_the_next_one",),
    ),
    Removal(
        "parsed",
        "what is in use is not swept",
        "host/filesystem/scratch.py",
        "    if not _locked(descriptor):\n        return False\n",
        "",
        (LEFTOVERS + "a_place_that_is_used_is_left_alone",),
    ),
    Removal(
        "parsed",
        "what an account moved into its scratch directory is removed in its name",
        "host/filesystem/scratch.py",
        "    if uid == 0:\n        return privileged()\n",
        "    return privileged()\n",
        (LEFTOVERS + "a_directory_that_the_account_moved_in_is_not_emptied_with_roots_rights",),
    ),
)
