# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of hazard D15: what the proof of a deploy does not take for the work of the bot."""

from __future__ import annotations

from .removal import Removal

PROOF = "tests/unit/operations_deploy/test_deploy_proof.py::test_hazard_d15_"

PROVING = (
    Removal(
        "d15",
        "the inode of a file that is gone, given to another, is not that file",
        "operations/deploy/proof.py",
        "kept = renamed and (now.size, now.mtime_ns) == (fact.size, fact.mtime_ns)",
        "kept = renamed",
        (PROOF + "an_inode_used_again_does_not_hide_that_a_file_is_gone",),
    ),
    Removal(
        "d15",
        "a log that was renamed still begins with what it held",
        "operations/deploy/proof.py",
        "kept = renamed and self._holds(name, sample)",
        "kept = renamed",
        (PROOF + "an_inode_used_again_does_not_hide_that_a_log_was_copied",),
    ),
    Removal(
        "d15",
        "a compressed log holds what the log held",
        "operations/deploy/proof.py",
        'kept = self._holds(name, sample, name.rpartition(".")[2])',
        "kept = True",
        (PROOF + "what_is_no_compressed_log_does_not_stand_for_one",),
    ),
    Removal(
        "d15",
        "a file that is gone is damage",
        "operations/deploy/proof.py",
        'return None if _comes_and_goes(path) else "was there before the deploy and is gone"',
        "return None",
        (PROOF + "a_temporary_file_of_its_name_does_not_stand_for_a_file_that_is_gone",),
    ),
    Removal(
        "d15",
        "a log goes on being the same file",
        "operations/deploy/proof.py",
        'return "is another file than before: its inode changed" if appended else None',
        "return None",
        (PROOF + "an_inode_used_again_does_not_hide_that_a_log_was_copied",),
    ),
)
