# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of hazard D15: what the proof of a deploy does not take for the work of the bot, and what it does not miss."""

from __future__ import annotations

from .removal import Removal

PROOF = "tests/unit/operations_deploy/test_deploy_proof.py::test_hazard_d15_"
FOLLOWING = "tests/unit/operations_deploy/test_deploy_following.py::test_"
WINDOW = "tests/unit/operations_deploy/test_deploy_window.py::test_hazard_d15_"
DELETES = "tests/unit/operations_deploy/test_deploy_deletes.py::test_hazard_d15_"
_LOOK = "        try:\n            entries = sorted(os.scandir(top), key=lambda entry: entry.name)\n"

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
        'return None if comes_and_goes(path) else "was there before the deploy and is gone"',
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
    Removal(
        "d15",
        "what the bot did until it ended is its own",
        "operations/deploy/watched.py",
        "            try:\n                self._followed.catch_up()\n            except TradekeepError as error:",
        "            try:\n                pass\n            except TradekeepError as error:",
        (WINDOW + "what_a_bot_does_as_it_ends_and_as_it_starts_is_no_damage",),
    ),
    Removal(
        "d15",
        "what the bot left as it ended is read again then",
        "operations/deploy/watched.py",
        "        self._samples.update(self._witness.samples(wanted, self._hear))\n",
        "",
        (DELETES + "what_the_bot_left_as_it_ended_is_what_has_to_be_there",),
    ),
    Removal(
        "d15",
        "what was written before the start is not the bot's",
        "operations/deploy/watched.py",
        "latest is None or latest > self._handed_over",
        "True",
        (WINDOW + "what_the_kernel_does_not_tell_is_found_after_the_start",),
    ),
    Removal(
        "d15",
        "new code that loses data by the rule of backups is put back",
        "operations/deploy/watched.py",
        'proof.damaged.append(f"{path}: {problem}")',
        "pass",
        (DELETES + "new_code_that_ruins_data_is_rolled_back",),
    ),
    Removal(
        "d15",
        "what is touched while the bot is stopped is judged before it starts",
        "operations/deploy/following.py",
        "return frozenset(self._touched | below)",
        "return frozenset(below)",
        (WINDOW + "what_is_damaged_while_the_bot_is_stopped_is_found_before_it_starts",),
    ),
    Removal(
        "d15",
        "so is what goes with its directory",
        "operations/deploy/following.py",
        "return frozenset(self._touched | below)",
        "return frozenset(self._touched)",
        (WINDOW + "what_is_damaged_while_the_bot_is_stopped_is_found_before_it_starts",),
    ),
    Removal(
        "d15",
        "so are rows in a WAL",
        "operations/deploy/watched.py",
        "for path in looked_at | databases for",
        "for path in looked_at for",
        (FOLLOWING + "hazard_d15_rows_that_go_in_the_wal_alone_are_missed",),
    ),
    Removal(
        "d15",
        "where the kernel has dropped events, all is looked at",
        "host/watch.py",
        "if mask & _OVERFLOW:",
        "if False:",
        (FOLLOWING + "hazard_d15_when_too_much_is_written_for_the_kernel_to_tell_all_is_looked_at",),
    ),
    Removal(
        "d15",
        "events that were dropped once are missing for good",
        "host/watch.py",
        "            except TradekeepError as error:\n                self._missed = error\n        raise self._missed",
        "            except TradekeepError:\n                raise\n        return []",
        (FOLLOWING + "what_is_missed_while_the_bot_runs_is_looked_at_while_it_runs",),
    ),
    Removal(
        "d15",
        "where there are too many directories to watch, all is looked at",
        "host/watch.py",
        "if self._left <= 0:",
        "if False:",
        (FOLLOWING + "hazard_d15_where_not_all_directories_can_be_watched_all_is_looked_at",),
    ),
    Removal(
        "d15",
        "where other hosts can write, all is looked at",
        "operations/deploy/following.py",
        "if mount.filesystem not in _LOCAL:",
        "if False:",
        (FOLLOWING + "hazard_d15_where_others_can_write_without_the_kernels_knowledge_all_is_looked_at",),
    ),
    Removal(
        "d15",
        "a directory is watched before it is looked into",
        "operations/deploy/proof.py",
        f"        enter(top)\n{_LOOK}",
        f"{_LOOK}            enter(top)\n",
        (FOLLOWING + "hazard_d15_what_is_made_while_a_directory_is_looked_into_is_not_overlooked",),
    ),
    Removal(
        "d15",
        "directories that the bot made until it ended are watched",
        "operations/deploy/following.py",
        "                self._take_in(path)",
        "                pass",
        (FOLLOWING + "hazard_d15_what_the_bot_made_until_it_ended_is_watched_too",),
    ),
    Removal(
        "d15",
        "a directory that was renamed is no longer followed by its old name",
        "operations/deploy/following.py",
        "        for path in moved:\n            self._leave_out(path)\n",
        "",
        (FOLLOWING + "hazard_d15_a_directory_has_one_name_after_it_was_renamed",),
    ),
    Removal(
        "d15",
        "data that is moved as a whole, or mounted over, is missed",
        "operations/deploy/following.py",
        "if self._look_at_places() != self._places:",
        "if False:",
        (
            FOLLOWING + "hazard_d15_data_that_is_moved_as_a_whole_is_missed",
            FOLLOWING + "hazard_d15_data_that_is_mounted_over_is_missed",
        ),
    ),
    Removal(
        "d15",
        "after the start all is looked at, whatever the kernel told",
        "operations/deploy/carry_out.py",
        "later = watched.later()",
        "later = watched.after()",
        (WINDOW + "what_the_kernel_does_not_tell_is_found_after_the_start",),
    ),
)
