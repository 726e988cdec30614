# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards where a component has the whole root: code stays code, and nothing is taken for code in silence."""

from __future__ import annotations

from .removal import Removal

TESTS = "tests/unit/operations_deploy/test_deploy_whole_root.py::test_"
UNMANAGED = "tests/unit/operations/test_restore_unmanaged.py::test_"

WHOLE = (
    Removal(
        "c1",
        "what git tracks is no data where the whole root is",
        "git/not_data.py",
        "        return all_tracked(_read(",
        "        return frozenset() and all_tracked(_read(",
        (TESTS + "backup_and_restore_leave_the_code_alone",),
    ),
    Removal(
        "c1",
        "an index that leaves out names is refused",
        "git/index_names.py",
        "            _refuse_extensions(body, end)\n",
        "",
        (TESTS + "an_index_that_does_not_say_all_is_refused_with_a_way_out",),
    ),
    Removal(
        "c1",
        "so is one that is torn",
        "git/index_names.py",
        "digest(), bytes(digest)):\n            continue",
        "digest(), bytes(digest)):\n            pass",
        (TESTS + "an_index_that_does_not_say_all_is_refused_with_a_way_out",),
        more=(("            _refuse_extensions(body, end)\n", ""),),
    ),
    Removal(
        "c1",
        "what has become code since a backup is not restored",
        "operations/restore_plan.py",
        " and not classifier(application.profile).keeps_out(entry.path)",
        "",
        (TESTS + "what_git_has_come_to_track_is_left_alone_by_a_restore_and_named",),
    ),
    Removal(
        "c1",
        "what was replaced is kept, whether or not a component has it",
        "operations/safety.py",
        "found = _of_no_component(application, path, absolute)",
        "return",
        (UNMANAGED + "it_is_restored_when_asked_for_and_what_it_replaces_is_kept",),
    ),
    Removal(
        "d1",
        "what a deploy put there is code without git",
        "git/not_data.py",
        "application.root, put_there)",
        "application.root, ())",
        (TESTS + "on_a_new_server_what_a_deploy_put_there_is_code_without_git",),
    ),
    Removal(
        "d1",
        "data that a deploy found and left alone stays data",
        "git/not_data.py",
        "Looked(looked.tracked - left_alone, ",
        "Looked(looked.tracked, ",
        (TESTS + "a_deploy_does_not_take_the_place_of_data",),
    ),
    Removal(
        "a3",
        "a file that is taken for code from now on is told",
        "operations/backup.py",
        "*left_out_since(application))",
        ")",
        (TESTS + "an_index_that_claims_data_for_code_is_told",),
    ),
    Removal(
        "a3",
        "a database that is taken for code from now on is a loss",
        "operations/shrinking.py",
        """    classified = code_or_data(application.profile, path)
    return None if classified is None or not""",
        """    from ..patterns import classify

    classified = classify(application.profile, path)
    return None if classified is None or not""",
        (TESTS + "an_index_that_claims_a_database_or_much_of_the_data_fails_the_backup",),
    ),
    Removal(
        "a3",
        "databases and keys that are code are named",
        "operations/uncovered.py",
        "            self._see_tracked(path, entry)\n",
        "",
        (TESTS + "nothing_is_uncovered_but_what_git_tracks",),
    ),
    Removal(
        "a9",
        "a link to elsewhere at the top is no data that is captured",
        "operations/scan.py",
        " or _hides_data(component, found)",
        "",
        (TESTS + "a_link_to_elsewhere_is_refused_and_one_inside_is_kept",),
    ),
    Removal(
        "e4",
        "the source's git says what is code there",
        "operations/migrate/origin_directory.py",
        "not_data=BesideData(application, root)",
        "not_data=profile.not_data",
        (TESTS + "data_of_another_server_comes_without_its_code",),
    ),
    Removal(
        "b1",
        "the backup before a deploy holds no secrets of other components",
        "operations/deploy/backup_first.py",
        "item.backup and item.critical) for item in components)",
        "item.backup and item.critical) for item in components if item.critical)",
        (TESTS + "the_backup_before_a_deploy_has_nothing_of_other_components",),
    ),
    Removal(
        "acting",
        "git's index is read by a process of the owner's",
        "git/not_data.py",
        "account=account, progress=",
        "account=None, progress=",
        ("tests/attacks/test_whole_root.py::test_an_index_that_leads_to_root_is_not_read",),
    ),
    Removal(
        "a3",
        "what the index claims of the data is a loss like another",
        "operations/backup.py",
        "    losses = accept(found, allowed)\n",
        "    losses: list[str] = []\n",
        ("tests/attacks/test_whole_root.py::test_data_that_the_index_claims_does_not_vanish_in_silence",),
    ),
)
