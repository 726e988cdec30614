# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of hazards D7, D8 and D11 to D13 in core/git: repositories that are not ours alone."""

from __future__ import annotations

from .removal import Removal

MIRROR = "tests/unit/git/test_git_mirror.py::test_"
CHECKOUT = "tests/unit/git/test_git_checkout.py::test_"

REPOSITORIES = (
    Removal(
        "d12",
        "hooks of a repository never run",
        "git/process.py",
        '    "core.hooksPath=/dev/null",\n',
        "",
        (CHECKOUT + "hazard_d12_nothing_that_a_repository_brings_along_runs",),
    ),
    Removal(
        "d12",
        "the file system monitor of a repository never runs",
        "git/process.py",
        '    "core.fsmonitor=false",\n',
        "",
        (CHECKOUT + "hazard_d12_nothing_that_a_repository_brings_along_runs",),
    ),
    Removal(
        "d12",
        "external differences of a repository never run",
        "git/rescue.py",
        '    "--no-ext-diff",\n',
        "",
        (CHECKOUT + "hazard_d12_nothing_that_a_repository_brings_along_runs",),
    ),
    Removal(
        "d12",
        "git does not run in a checkout of somebody else's",
        "git/checkout.py",
        "            _check_owner(path, account)\n",
        "            pass\n",
        (CHECKOUT + "hazard_d12_root_does_not_work_in_a_checkout_of_another_account",),
    ),
    Removal(
        "d12",
        "what a rollback needs is kept from gc",
        "git/mirror.py",
        '            self.git.run("update-ref", f"{KEPT}{commit}", commit)',
        "            pass",
        (MIRROR + "hazard_d12_the_rollback_commit_survives_gc",),
    ),
    Removal(
        "d12",
        "an adopted commit is taken over as a tree, whose history may be missing",
        "git/mirror.py",
        'f"+{root}:{KEPT}{commit}"',
        'f"+{commit}:{KEPT}{commit}"',
        (CHECKOUT + "hazard_d12_a_shallow_checkouts_commit_survives_in_the_mirror",),
    ),
    Removal(
        "d13",
        "submodules are refused",
        "git/export.py",
        "    refuse_submodules(chosen)\n",
        "",
        (MIRROR + "hazard_d13_submodules_are_refused_by_name",),
    ),
    Removal(
        "d13",
        "pointers of git-lfs are refused",
        "git/export.py",
        "        if stat.S_ISREG(facts.st_mode):\n",
        "        if False:\n",
        (MIRROR + "hazard_d13_unresolved_lfs_pointers_are_refused_by_name",),
    ),
    Removal(
        "d13",
        "a filter that fails quietly is an error",
        "git/export.py",
        '    if "error:" in completed.stderr:',
        "    if False:",
        (MIRROR + "hazard_d13_a_failing_filter_is_an_error_and_leaves_nothing",),
    ),
    Removal(
        "d13",
        "a failed export leaves nothing",
        "git/export.py",
        "        _empty(into)\n",
        "",
        (MIRROR + "hazard_d13_a_failing_filter_is_an_error_and_leaves_nothing",),
    ),
    Removal(
        "d8",
        "a git that waits holds its lock",
        "git/holders.py",
        ' or (program.startswith("git") and _works_in(entry, inside))',
        "",
        (CHECKOUT + "hazard_d8_a_git_that_waits_for_an_editor_holds_the_lock",),
    ),
    Removal(
        "d8",
        "a lock that a process has open is held",
        "git/holders.py",
        "_has_open(entry, facts) or ",
        "",
        (CHECKOUT + "hazard_d8_an_index_lock_is_stale_or_held",),
    ),
    Removal(
        "d7",
        "edits that skip-worktree hides are seen",
        "git/checkout.py",
        "        if present:\n",
        "        if False:\n",
        (CHECKOUT + "hazard_d7_edits_hidden_by_skip_worktree_and_assume_unchanged_are_seen",),
    ),
    Removal(
        "d7",
        "edits that assume-unchanged hides are seen",
        "git/checkout.py",
        "        if index.assume_unchanged:\n",
        "        if False:\n",
        (CHECKOUT + "hazard_d7_edits_hidden_by_skip_worktree_and_assume_unchanged_are_seen",),
    ),
    Removal(
        "d11",
        "commits of a detached HEAD get a ref",
        "git/rescue.py",
        '        wanted[f"{prefix}HEAD"] = head',
        "        pass",
        (CHECKOUT + "hazard_d11_commits_on_a_detached_head_survive_gc",),
    ),
    Removal(
        "d11",
        "edits in the second of the last commit are seen",
        "git/checkout.py",
        '"cp", "--preserve=timestamps", "--"',
        '"cp", "--"',
        (CHECKOUT + "hazard_d11_an_edit_in_the_second_of_the_last_checkout_is_seen",),
    ),
    Removal(
        "d12",
        "an index that the owner could have exchanged is not read as root",
        "git/export.py",
        "            if facts.st_uid != git.account.uid or facts.st_nlink != 1:\n",
        "            if False:\n",
        (MIRROR + "hazard_d12_a_link_in_the_place_of_an_index_is_not_read",),
    ),
)
