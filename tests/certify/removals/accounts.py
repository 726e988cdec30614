# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of accounts that people log in with."""

from __future__ import annotations

from .removal import Removal

TEST = "tests/unit/operations/test_prerequisites.py::test_"

ACCOUNTS = (
    Removal(
        "accounts",
        "an account that exists is never made anew",
        "operations/accounts.py",
        "    if plan.owner_missing:\n        group",
        "    if True:\n        group",
        (f"{TEST}an_account_that_exists_is_never_changed",),
    ),
    Removal(
        "accounts",
        "the home of a person is not given to a bot",
        "operations/accounts.py",
        "        if person != canonical_owner(plan.owner):\n",
        "        if False:\n",
        (f"{TEST}everything_that_is_wrong_is_found_at_once_and_nothing_is_made",),
    ),
    Removal(
        "accounts",
        "nothing is made as long as anything is wrong",
        "operations/prerequisites.py",
        "    if makes and not problems and not dry_run:\n",
        "    if makes and not dry_run:\n",
        (f"{TEST}everything_that_is_wrong_is_found_at_once_and_nothing_is_made",),
    ),
    Removal(
        "accounts",
        "data of another account is not taken over without a word",
        "operations/takeover.py",
        "    if problem is not None:\n",
        "    if False:\n",
        ("tests/unit/operations/test_takeover.py::test_data_of_another_account_is_not_taken_from_it",),
    ),
    Removal(
        "accounts",
        "a unit that somebody else put there is not overwritten",
        "operations/bot_units.py",
        "    for problem in unit_problems(application, ports, files, directory):\n        raise problem\n",
        "",
        ("tests/unit/operations/test_bot_units.py::test_a_file_that_was_not_installed_like_this_is_not_overwritten",),
    ),
)
