# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The on-host door: ``tradekeep ...``.

Reads the command line, carries out one command and says how it went: results on standard output (with ``--json`` one
object and nothing else), progress, notes and errors on standard error, and the exit status of ``errors.ExitStatus``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any, Optional, TextIO

from .command_line import build_parser
from .commands import carry_out
from .errors import ExitStatus, TradekeepError
from .faults import foreseen, unforeseen
from .formatting import LINE_LIMIT, output_line, shortened_values, traceback_lines
from .host.attention import attentive_ports
from .host.confinement import hide_memory
from .host.memory import keep_freed_memory
from .host.trust import leave_untrusted_places
from .operations.outcome import Outcome
from .outputs import discard_unheard, open_standard_streams
from .ports import Ports, Progress
from .signals import interruptible
from .terminal import Bar, NotesOnly, ask, columns, is_journal, is_terminal
from .version import VERSION


def main(
    argv: Optional[Sequence[str]] = None,
    *,
    config_dir: str = "/etc/tradekeep",
    stdout: Optional[TextIO] = None,
    stderr: Optional[TextIO] = None,
    stdin: Optional[TextIO] = None,
) -> int:
    """Carry out one command line and return the exit status."""
    open_standard_streams()
    # Around all of it: a signal is answered within ``serve`` alone, and cuts nothing off before or after.
    with interruptible():
        keep_freed_memory()
        hide_memory()
        leave_untrusted_places()
        words = list(sys.argv[1:] if argv is None else argv)
        door = _Door(
            sys.stdout if stdout is None else stdout,
            sys.stderr if stderr is None else stderr,
            sys.stdin if stdin is None else stdin,
        )
        try:
            status = door.serve(words, config_dir)
            door.explain(status)
            return int(status)
        finally:
            discard_unheard()


class _Door:
    """Where a command's answer goes."""

    def __init__(self, stdout: TextIO, stderr: TextIO, stdin: TextIO) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._json = False
        self._results = stdout
        self._command: Optional[str] = None
        self.status = ExitStatus.DONE

    def serve(self, words: Sequence[str], config_dir: str) -> ExitStatus:
        """Carry out the command; every error becomes one line and an exit status."""
        # Known before parsing, so that a usage error is reported in the form that was asked for.
        self._json = "--json" in words
        try:
            arguments = build_parser(config_dir=config_dir, version=VERSION).parse_args(words)
            self._command = _full_name(arguments)
            if getattr(arguments, "serve", False):
                # Standard output is the channel to another server.
                self._results = self._stderr
            arguments.ask = self._ask
            return self._answer(carry_out(arguments, self._ports(arguments)))
        except Exception as error:
            known = foreseen(error)
            return self._unforeseen(error) if known is None else self._failed(known)

    def explain(self, status: ExitStatus) -> None:
        """In the journal, where systemd is about to say ``status=3/NOTIMPLEMENTED``, what the status means."""
        if status is not ExitStatus.DONE and is_journal(self._stderr):
            self._tell(f"tradekeep: exit status {int(status)}, whatever systemd calls it, means: {status.in_words}")

    def _ask(self, question: str) -> Optional[bool]:
        return ask(question, self._stdin, self._stderr)

    def _ports(self, arguments: argparse.Namespace) -> Ports:
        with_bar = is_terminal(self._stderr) and not arguments.no_progress and not arguments.json
        progress: Progress = Bar(self._stderr) if with_bar else NotesOnly(self._stderr)
        return attentive_ports(progress)

    def _answer(self, outcome: Outcome) -> ExitStatus:
        self.status = outcome.status
        if not self._json:
            width = columns(self._results)
            for line in outcome.lines if width is None or outcome.fitted is None else outcome.fitted(width):
                self._tell(line, self._results)
        self._print_object({"changed": outcome.changed, "record": outcome.record})
        return outcome.status

    def _failed(self, error: TradekeepError) -> ExitStatus:
        self.status = error.exit_status
        self._tell(f"tradekeep: {error}")
        self._print_object({"changed": False, "error": shortened_values(error.as_dict(), LINE_LIMIT)})
        return error.exit_status

    def _unforeseen(self, error: Exception) -> ExitStatus:
        # The traceback is the only trace there is of it.
        for line in traceback_lines(error):
            self._tell(line)
        return self._failed(unforeseen(error))

    def _print_object(self, content: dict[str, Any]) -> None:
        if not self._json:
            return
        answer = {"command": self._command, "exit_status": int(self.status), **shortened_values(content)}
        # ASCII only: a file's name may hold bytes that no encoding can print.
        self._write(self._stdout, json.dumps(answer, ensure_ascii=True, sort_keys=True) + "\n")

    def _tell(self, line: str, stream: Optional[TextIO] = None) -> None:
        """One line for people. The only place where results and errors are made safe to show."""
        self._write(self._stderr if stream is None else stream, output_line(line) + "\n")

    def _write(self, stream: TextIO, text: str) -> None:
        """What was done has been done, and has the status that it has, whether or not anybody can be told."""
        with contextlib.suppress(OSError, ValueError):
            stream.write(text)
            stream.flush()


def _full_name(arguments: argparse.Namespace) -> str:
    subcommand = getattr(arguments, "subcommand", None)
    return f"{arguments.command} {subcommand}" if subcommand else str(arguments.command or "state")
