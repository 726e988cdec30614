# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of hazards C5, D10 and G2: bots that the profile's services do not stop, and commands that start them."""

from __future__ import annotations

from .removal import Removal

LOOKS = "tests/unit/host/test_host_writers.py::test_"
COMMANDS = "tests/unit/host/test_host_commanded.py::test_"
RESTORES = "tests/unit/operations/test_operation_writers.py::test_"
EXCHANGES = "tests/unit/operations/test_operation_exchange.py::test_"
DEPLOYS = "tests/unit/operations_deploy/test_deploy_writers.py::test_"

UNMANAGED = (
    Removal(
        "c5",
        "nothing is exchanged under a process that still writes",
        "operations/exchange_run.py",
        "        refuse_writers()\n",
        "",
        (EXCHANGES + "nothing_is_exchanged_under_a_process_that_still_writes",),
    ),
    Removal(
        "c5",
        "where no service runs, a writer is found before the operation begins",
        "operations/restore.py",
        "        refuse_unmanaged_writers(application, ports, services, force=force, dry_run=dry_run, way_out=FORCE)\n",
        "",
        (RESTORES + "hazard_c5_a_restore_under_a_bot_that_nobody_manages_is_not_done",),
    ),
    Removal(
        "c5",
        "recover puts nothing back under a process that writes",
        "transaction/recovery.py",
        "        services.stop(snapshot)\n        refuse_writers(exchange.pending)\n",
        "        services.stop(snapshot)\n",
        (RESTORES + "hazard_c5_recover_puts_nothing_back_under_a_bot",),
    ),
    Removal(
        "c5",
        "a file is found whatever its name is elsewhere",
        "host/writers.py",
        "    if look.unsure:",
        "    if False:",
        (LOOKS + "a_file_with_another_name_is_found_by_its_inode",),
    ),
    Removal(
        "c5",
        "memory that is shared with a file counts",
        "host/writers.py",
        "next(self._written(entry), None) or next(self._shared(entry), None)",
        "next(self._written(entry), None)",
        (LOOKS + "what_is_open_for_writing_or_shared_counts",),
    ),
    Removal(
        "d10",
        "code is not exchanged under a bot that goes on",
        "operations/deploy/carry_out.py",
        "            if services is self._services:\n",
        "            if False:\n",
        (DEPLOYS + "a_hook_that_does_not_is_found_after_the_stop",),
    ),
    Removal(
        "g2",
        "root runs no command with a file that others can change",
        "host/commanded.py",
        "            if reason is not None:",
        "            if False:",
        (COMMANDS + "hazard_g2_root_runs_no_command_that_others_can_change",),
    ),
    Removal(
        "g2",
        "commands of the bot's run as its account",
        "host/commanded.py",
        'command_as(account, ["env", *self._judged(account, command)])',
        '["env", *self._judged(account, command)]',
        (COMMANDS + "hazard_g2_commands_of_the_bots_run_as_its_account",),
    ),
    Removal(
        "c5",
        "a bot that cannot be asked for is not taken for stopped",
        "host/commanded.py",
        "if said.status is None or said.status < 0 or said.status in _CANNOT_RUN:",
        "if False:",
        (COMMANDS + "a_question_that_cannot_be_asked_is_not_a_no",),
    ),
)
