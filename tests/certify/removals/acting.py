# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of deploys against the bot itself and against upstream: what lies in the checkout is its owner's."""

from __future__ import annotations

from .removal import Removal

ATTACK = "tests/attacks/test_deploy.py::test_"

ACTING = (
    Removal(
        "acting",
        "a deploy works with the owner's rights to files",
        "operations/deploy/deploy.py",
        "    with acting_as(account_for(application)):\n",
        "    if True:\n",
        (
            f"{ATTACK}a_stage_that_is_swapped_brings_nothing_into_roots_directories",
            f"{ATTACK}releases_that_are_swapped_cost_root_no_directory",
        ),
    ),
    Removal(
        "acting",
        "rules are written with the rights of the working copy's owner",
        "operations/deploy/working_copy.py",
        "    account = _owner(path)\n    with acting_as(account):\n",
        "    account = _owner(path)\n    if True:\n",
        (f"{ATTACK}rules_are_not_written_into_a_directory_that_was_swapped",),
    ),
    Removal(
        "acting",
        "names of an index do not lead out of the directory",
        "operations/deploy/working_copy.py",
        "target = tree.joinpath(*components_of(name))",
        "target = tree / name",
        (f"{ATTACK}a_made_up_index_leads_root_nowhere",),
    ),
    Removal(
        "acting",
        "a symlink of the bot's does not make root the owner",
        "operations/deploy/working_copy.py",
        "        descriptor = open_directory(directory)\n",
        "        descriptor = os.open(directory, os.O_RDONLY)\n",
        (f"{ATTACK}a_working_copy_behind_a_symlink_of_the_bots_is_not_taken_for_roots",),
    ),
    Removal(
        "acting",
        "an export is read without following symlinks",
        "operations/deploy/code_stage.py",
        "open_at(source, entry.path, os.O_RDONLY | os.O_NONBLOCK, shown=_EXPORT)",
        "os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK, dir_fd=source)",
        (f"{ATTACK}an_export_that_is_swapped_shows_none_of_roots_files",),
    ),
    Removal(
        "acting",
        "databases are read by a process of the owner's",
        "operations/deploy/data_reader.py",
        "account=worker_account(self._account),",
        "account=None,",
        (f"{ATTACK}databases_are_read_with_the_owners_rights",),
    ),
    Removal(
        "acting",
        "releases are no symlink when old ones are removed",
        "operations/deploy/releases.py",
        "            descriptor = open_directory(directory)\n",
        "            descriptor = os.open(directory, os.O_RDONLY)\n",
        (f"{ATTACK}releases_that_are_a_symlink_are_refused_by_name",),
    ),
    Removal(
        "acting",
        "root gives away no directory that others could exchange",
        "host/filesystem/given.py",
        "            _refuse_meddlers(parent, target, account)\n",
        "            pass\n",
        (f"{ATTACK}a_checkout_is_not_made_where_the_bot_can_exchange_it",),
    ),
)
