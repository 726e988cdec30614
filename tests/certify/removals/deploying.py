# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of hazards D1 to D6, D9, D10 and D14 in operations/deploy: code where data lives."""

from __future__ import annotations

from .removal import Removal

_PLACE = "tests/unit/operations_deploy/test_deploy_"
PLAN, IN_PLACE = f"{_PLACE}plan.py::test_", f"{_PLACE}in_place.py::test_"
OPERATION, RELEASES, ATTENDED = (f"{_PLACE}{name}.py::test_" for name in ("operation", "releases", "attended"))
ADOPTION = f"{_PLACE}adoption.py::test_"
CODE_PLAN = "operations/deploy/code_plan.py"
_NOTE = 'self.plan.notes.append(f"{entry.path}: no longer tracked upstream; '

DEPLOYING = (
    Removal(
        "d1",
        "a file that nobody deployed is not replaced",
        CODE_PLAN,
        '            self._collide(entry, "untracked", "exists here and nobody deployed it; upstream tracks it now")',
        "            self._change(entry, look, Action.REPLACE)",
        (PLAN + "hazard_d1_newly_tracked_live_data",),
    ),
    Removal(
        "d1",
        "a path that is preserved is not replaced",
        CODE_PLAN,
        "self._collide(entry, *_shape(entry, look, reason))",
        "self._change(entry, look, Action.REPLACE)",
        (PLAN + "hazard_d1_newly_tracked_live_data",),
    ),
    Removal(
        "d1",
        "code that was copied by hand does not pass for the commit's",
        CODE_PLAN,
        "elif code and not self._knows_origin:",
        "elif False:",
        (ADOPTION + "no_commit_is_recorded_that_is_not_on_the_disk",),
    ),
    Removal(
        "d1",
        "what the bot writes is not adopted with the code",
        CODE_PLAN,
        "code = not self._is_written(entry.path)",
        "code = True",
        (ADOPTION + "what_the_bot_writes_is_never_adopted",),
    ),
    Removal(
        "d14",
        "an environment that makes way is kept by the exchange itself",
        "operations/deploy/layouts.py",
        "replace(link, kept=str(kept), filled=True)",
        "replace(link, filled=True)",
        (ADOPTION + "hazard_d14_an_environment_that_made_way_outlives_a_deploy_that_was_cut_off_once_it_stood",),
    ),
    Removal(
        "d1",
        "what a component's pattern matches is data",
        "operations/deploy/preserved.py",
        'return self._by_open_path("/".join(names)) if self._open else None',
        "return None",
        (f"{_PLACE}open_paths.py::test_a_deploy_changes_code_alone",),
    ),
    Removal(
        "d1",
        "the caches and environments below a pattern are no data",
        "patterns.py",
        "_Scope(component, LEFT_OUT)",
        "_Scope(component)",
        (f"{_PLACE}open_paths.py::test_what_is_scanned_is_what_the_profile_says_of_each_path",),
    ),
    Removal(
        "d2",
        "what no deploy put there is not removed",
        CODE_PLAN,
        "if look.thing is Thing.ABSENT or not entry.ours:",
        "if look.thing is Thing.ABSENT:",
        (PLAN + "hazard_d2_the_way_back_leaves_what_no_deploy_put_there",),
    ),
    Removal(
        "d3",
        "data that upstream no longer tracks stays",
        CODE_PLAN,
        f"if reason is not None:\n            {_NOTE}it is data",
        f"if False:\n            {_NOTE}it is data",
        (PLAN + "hazard_d3_data_that_upstream_no_longer_tracks_stays",),
    ),
    Removal(
        "d3",
        "a database that was written here stays, whoever tracked it",
        CODE_PLAN,
        "elif not is_deployed(look, entry) and _is_data(entry.path):",
        "elif False:",
        (PLAN + "hazard_d3_data_that_upstream_no_longer_tracks_stays",),
    ),
    Removal(
        "d3",
        "a directory that upstream kept by a placeholder stays",
        "operations/deploy/carry_out.py",
        "stays = {os.path.dirname(path) for path in gone if os.path.basename(path) in _PLACEHOLDERS}",
        "stays: set[str] = set()",
        (OPERATION + "a_directory_vanishes_with_its_code_but_not_with_its_placeholder",),
    ),
    Removal(
        "d4",
        "a directory above the data stays one",
        CODE_PLAN,
        'self._collide(entry, *_shape(entry, look, "holds data"))',
        "self._change(entry, look, Action.REPLACE)",
        (PLAN + "hazard_d4_a_data_directory_that_becomes_something_else",),
    ),
    Removal(
        "d4",
        "a directory with a file of the bot's stays one",
        CODE_PLAN,
        "if foreign is not None:",
        "if False:",
        (PLAN + "a_directory_with_a_file_of_the_bots_does_not_make_way",),
    ),
    Removal(
        "d5",
        "what is tracked although ignored, and written here, is data",
        CODE_PLAN,
        "elif self._is_written(entry.path):",
        "elif False:",
        (PLAN + "hazard_d5_ignored_but_tracked_and_written_here",),
    ),
    Removal(
        "d6",
        "nothing is written through a symlink",
        CODE_PLAN,
        "elif look.above is not None:\n            self._hidden(entry, look)",
        "elif False:\n            self._hidden(entry, look)",
        (PLAN + "hazard_d6_nothing_is_written_through_a_symlink",),
    ),
    Removal(
        "d6",
        "data behind a symlink is data",
        CODE_PLAN,
        "same_place = look.above is None and entry.mode != SUBMODULE",
        "same_place = entry.mode != SUBMODULE",
        (PLAN + "hazard_d6_nothing_is_written_through_a_symlink",),
    ),
    Removal(
        "d9",
        "what does not fit on the disk is refused beforehand",
        "operations/deploy/survey.py",
        "if 2 * needed > free.bytes_free:",
        "if False:",
        (IN_PLACE + "hazard_d9_what_does_not_fit_is_refused_before_anything_is_touched",),
    ),
    Removal(
        "d9",
        "what a killed run has left is removed",
        "operations/deploy/deploy.py",
        "        sweep_state(application)\n",
        "",
        (IN_PLACE + "hazard_d9_what_a_killed_run_has_left_is_removed_and_never_put_back",),
    ),
    Removal(
        "d10",
        "what has not changed is not replaced",
        CODE_PLAN,
        "return look.oid == entry.oid or unchanged",
        "return False",
        (PLAN + "hazard_d10_what_is_open_and_has_not_changed_is_not_replaced",),
    ),
    Removal(
        "d10",
        "a file that is kept is not exchanged",
        CODE_PLAN,
        "        if kept:\n            self._leave_out(entry, None)",
        "        if kept:\n            self._change(entry, self._looker.at(entry.path), Action.REPLACE)",
        (IN_PLACE + "hazard_d10_who_has_a_log_open_goes_on_writing_to_it",),
    ),
    Removal(
        "d14",
        "new code that is not healthy does not stand",
        "operations/deploy/carry_out.py",
        "self._gate.run(self._ports.clock.now())",
        "pass",
        (OPERATION + "a_release_that_is_not_healthy_is_rolled_back_and_the_old_one_checked",),
    ),
    Removal(
        "d14",
        "after a way back the old code is looked at too",
        "operations/deploy/carry_out.py",
        "            self._gate.run()\n",
        "            pass\n",
        (OPERATION + "a_rollback_that_does_not_help_is_a_state_of_its_own",),
    ),
    Removal(
        "d14",
        "a release that a process uses is not removed",
        "operations/deploy/releases.py",
        "reason = _in_use(release) or _written_here(release)",
        "reason = _written_here(release)",
        (RELEASES + "hazard_d14_the_release_in_use_is_never_removed",),
    ),
    Removal(
        "d14",
        "a current that is a directory is not taken for a link",
        "operations/deploy/releases.py",
        "if os.path.lexists(current) and not os.path.islink(current):",
        "if False:",
        (RELEASES + "hazard_d14_a_current_that_is_a_directory_is_refused",),
    ),
    Removal(
        "d14",
        "a second call waits for the first",
        "operations/deploy/attended.py",
        "            if unit.active():\n",
        "            if False:\n",
        (ATTENDED + "hazard_d14_a_second_call_waits_for_the_first",),
    ),
    Removal(
        "d14",
        "a unit without an answer has not succeeded",
        "operations/requests.py",
        "    try:\n        document = json.loads(_answer_file(path).read_bytes())\n",
        "    try:\n        document = {'outcome': asdict(Outcome(changed=False, record={}, lines=()))}\n"
        "        if _answer_file(path).exists():\n"
        "            document = json.loads(_answer_file(path).read_bytes())\n",
        (ATTENDED + "hazard_d14_a_unit_that_was_killed_is_not_taken_for_a_success",),
    ),
    Removal(
        "d14",
        "a way back from another commit than the expected one is refused",
        "operations/deploy/survey.py",
        "if request.expected and standing.commit != request.expected:",
        "if False:",
        (OPERATION + "a_rollback_can_ask_for_the_commit_that_it_undoes",),
    ),
)
