# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of moves between servers, against the hazards of E."""

from __future__ import annotations

from .removal import Removal

HANDOVER = "operations/handover/"
MOVE = "tests/faults/test_handover.py::test_"
AGREEMENT = "tests/unit/operations_handover/test_agreement.py::test_"
HOSTILE = "tests/unit/operations_handover/test_hostile_source.py::test_"
SERVICES = "tests/unit/host/test_host_services.py::test_"
FULL = "tests/faults/test_handover_full_disk.py::test_"
KILLS = "tests/faults/test_handover_kills.py::test_"

MOVING = (
    Removal(
        "e1",
        "a server that runs something takes nothing over",
        HANDOVER + "taking.py",
        "refuse_running(application, ports)\n            return",
        "return",
        (MOVE + "hazard_e1_a_new_server_that_runs_something_is_refused",),
    ),
    Removal(
        "e1",
        "a source that was moved elsewhere is no source",
        HANDOVER + "serving.py",
        'if migration is not None and migration.get("installation") != self._other["installation"]:',
        "if False:",
        (MOVE + "hazard_e1_a_source_that_was_moved_elsewhere_is_refused",),
    ),
    Removal(
        "e1",
        "nothing writes on after the stop",
        HANDOVER + "serving.py",
        "if self._application.system:\n            refuse_writers",
        "if False:\n            refuse_writers",
        (MOVE + "hazard_e1_a_source_that_writes_on_does_not_let_go",),
    ),
    Removal(
        "e1",
        "a source lets go of nothing that has changed since",
        HANDOVER + "serving.py",
        "if running or touched is not None:",
        "if False:",
        (MOVE + "hazard_e1_what_is_written_after_the_stop_is_not_left_behind",),
    ),
    Removal(
        "e1",
        "a source lets go of nothing that systemd could start",
        HANDOVER + "holding.py",
        'self._work.masks.hold(fence["masked"])',
        "True",
        (MOVE + "hazard_e1_a_source_that_is_to_let_go_cannot_be_started_again",),
    ),
    Removal(
        "e4",
        "a database that was written since is compared again",
        HANDOVER + "shipping.py",
        "if item.copy_of == signature_of(status) else",
        "if item.copy_of is not None else",
        (
            "tests/unit/operations_handover/test_copies.py::"
            "test_hazard_e4_what_was_written_after_the_last_round_is_brought",
        ),
    ),
    Removal(
        "e4",
        "a write through a mapping shows",
        HANDOVER + "copies.py",
        "os.fsync(source)",
        "pass",
        ("tests/unit/operations_handover/test_copies.py::test_hazard_e4_what_is_written_through_a_mapping_shows_too",),
    ),
    Removal(
        "e1",
        "what is ready to start asks for a key",
        "host/gates.py",
        "AssertPathExists=",
        "Description=",
        (MOVE + "hazard_e1_what_is_ready_to_start_cannot_be_started_yet",),
    ),
    Removal(
        "e3",
        "nothing can be started while the old data is put back",
        HANDOVER + "starting.py",
        "self._masks.close(self._masked())",
        "pass",
        (MOVE + "hazard_e3_nothing_can_be_started_while_the_old_data_is_put_back",),
    ),
    Removal(
        "e1",
        "supervisor takes in what came later when it is to be started",
        "host/supervisor.py",
        'self._control("reread", timeout_seconds=60)',
        'self._control("update", timeout_seconds=60)',
        (SERVICES + "hazard_e1_programs_whose_file_came_later_run_only_once_they_are_started",),
    ),
    Removal(
        "e2",
        "somebody watches over the source's side",
        HANDOVER + "serving.py",
        "if self._watcher is not None:",
        "if False:",
        # Waits in vain once; the test of every step would do so at each of them.
        (MOVE + "a_second_attempt_brings_only_what_is_lacking",),
    ),
    Removal(
        "e2",
        "a recovery starts nothing that the source has not let go of",
        HANDOVER + "fences.py",
        'note.get("state") in (GRANTED, COMPLETE)',
        'note.get("state") is not None',
        (KILLS + "hazard_e2_the_new_server_killed_at_every_step",),
    ),
    Removal(
        "e2",
        "a lost answer is asked for again",
        HANDOVER + "remote_end.py",
        "if self._state_after(error) == GRANTED:\n                return",
        "if False:\n                return",
        (KILLS + "hazard_e2_the_old_server_killed_at_every_step",),
    ),
    Removal(
        "e3",
        "what does not start is given back",
        HANDOVER + "taking.py",
        "self._source.give_back()",
        "pass",
        (MOVE + "hazard_e3_a_bot_that_does_not_start_is_given_back",),
    ),
    Removal(
        "e2",
        "who takes a fence of a migration down is told what to see to",
        "operations/fence.py",
        "if migration is None:\n        for text",
        "if False:\n        for text",
        (MOVE + "hazard_e2_a_new_server_that_dies_before_it_knows_is_given_up_by_hand",),
    ),
    Removal(
        "e2",
        "what has arrived does not stay on a full disk",
        HANDOVER + "taking.py",
        "self._receiving.remove()  # to everybody",
        "pass  # to everybody",
        (FULL + "hazard_e2_the_new_server_full_in_the_middle_of_the_copy",),
    ),
    Removal(
        "e3",
        "what is given back is noted on a full disk too",
        HANDOVER + "note.py",
        "        if state == COMPLETE:\n            raise",
        "        if state:\n            raise",
        (FULL + "hazard_e3_a_bot_that_dies_of_the_full_disk_is_given_back",),
    ),
    Removal(
        "e3",
        "what has no note is given back",
        HANDOVER + "taking.py",
        'if note is not None and note.get("state") not in (ASKED, RETURNING):',
        'if note is None or note.get("state") not in (ASKED, RETURNING):',
        (FULL + "hazard_e3_a_bot_that_dies_of_the_full_disk_is_given_back",),
    ),
    Removal(
        "e4",
        "both hold the same content",
        HANDOVER + "agreeing.py",
        'if (number_of(said, "files"), text_of(said, "digest", 64)) != (here["files"], here["digest"]):',
        "if False:",
        (AGREEMENT + "hazard_e4_both_must_hold_the_same",),
    ),
    Removal(
        "e4",
        "both hold the same rows",
        HANDOVER + "agreeing.py",
        "if tables is not None and databases.get(entry.path) != tables:",
        "if False:",
        (AGREEMENT + "hazard_e4_both_must_hold_the_same",),
    ),
    Removal(
        "e4",
        "what is in the WAL alone is brought",
        HANDOVER + "shipping.py",
        'bring_in_wal(sidecar(live, "-wal"), item.copy)',
        "pass",
        (MOVE + "hazard_e1_a_bot_moves_while_it_trades",),
    ),
    Removal(
        "e5",
        "data of the new server stands against it",
        HANDOVER + "taking.py",
        "if run.against:",
        "if False:",
        (MOVE + "hazard_e5_data_of_the_new_server_is_not_merged_over",),
    ),
    Removal(
        "e6",
        "links stay inside",
        HANDOVER + "receiving.py",
        "if is_left_out(entry):",
        "if False:",
        (HOSTILE + "hazard_e6_links_that_lead_out_are_refused",),
    ),
    Removal(
        "e6",
        "nothing arrives beneath a link",
        HANDOVER + "receiving.py",
        "self._claim(entry)\n",
        "pass\n",
        (HOSTILE + "hazard_e6_nothing_arrives_beneath_a_link",),
    ),
    Removal(
        "e6",
        "tradekeep's own names are refused",
        HANDOVER + "receiving.py",
        'if any(part.startswith(OWN_PREFIX) for part in entry.path.split("/")):',
        "if False:",
        (HOSTILE + "hazard_e6_names_that_lead_elsewhere_are_refused",),
    ),
)
