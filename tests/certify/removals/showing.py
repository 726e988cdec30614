# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of what is shown: text of bots and strangers is data where it leaves the engine."""

from __future__ import annotations

from .removal import Removal

ATTACK = "tests/attacks/test_text.py::test_"

SHOWING = (
    Removal(
        "shown",
        "lines of the command are escaped and bounded where they are printed",
        "cli.py",
        'self._write(self._stderr if stream is None else stream, output_line(line) + "\\n")',
        'self._write(self._stderr if stream is None else stream, line + "\\n")',
        (f"{ATTACK}a_name_is_text_in_every_command",),
    ),
    Removal(
        "shown",
        "errors are escaped where they are printed",
        "cli.py",
        'self._write(self._stderr if stream is None else stream, output_line(line) + "\\n")',
        'self._write(self._stderr if stream is None else stream, line + "\\n")',
        (f"{ATTACK}a_name_is_text_in_an_error",),
    ),
    Removal(
        "shown",
        "a message that is too long is cut",
        "formatting.py",
        "    return printable(whole if level is None else",
        "    return printable(limit=1 << 30, text=whole if level is None else",
        (f"{ATTACK}a_message_has_an_end",),
    ),
    Removal(
        "shown",
        "texts of records have an end",
        "cli.py",
        "**shortened_values(content)",
        "**content",
        (f"{ATTACK}a_message_has_an_end",),
    ),
    Removal(
        "shown",
        "no line sets its own level in the journal",
        "formatting.py",
        "level = _LEVEL.match(whole)",
        "level = None",
        (f"{ATTACK}no_line_begins_as_a_level_of_the_journal",),
    ),
    Removal(
        "shown",
        "a traceback is indented",
        "formatting.py",
        'yield from (f"  {printable(line)}" for line in lines)',
        "yield from lines",
        (f"{ATTACK}a_traceback_is_told_from_what_tradekeep_says",),
    ),
    Removal(
        "shown",
        "notes and labels are escaped, and bounded",
        "terminal.py",
        "printable(label, _LONGEST_LABEL)",
        "label",
        (f"{ATTACK}a_note_and_the_bar_are_one_line",),
    ),
    Removal(
        "shown",
        "cells are escaped before their width is computed",
        "operations/text.py",
        "printable(cell, _WIDEST_CELL)",
        "cell",
        (f"{ATTACK}a_table_is_as_wide_as_what_is_shown_of_it",),
    ),
    Removal(
        "shown",
        "what may be a secret is a digest in the diff of a configuration",
        "configuration.py",
        "(_shown if key in _SHOWN else _digest)(value)",
        "_shown(value)",
        ("tests/unit/modules/test_modules.py::test_a_changed_schedule_is_shown_in_full_and_a_command_as_a_digest",),
    ),
    Removal(
        "shown",
        "whoever sits at a terminal is asked before live data is replaced",
        "commands.py",
        "if not arguments.yes and arguments.ask(question) is False:",
        "if False:",
        ("tests/unit/cli/test_asking.py::test_nothing_but_yes_replaces_live_data",),
    ),
)
