# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What stands between a module and the engine: ports on one side, one answer or one error on the other."""

from __future__ import annotations

from typing import Any, Callable, Optional

from .core.errors import ExitStatus, TradekeepError
from .core.faults import foreseen, unforeseen
from .core.formatting import LINE_LIMIT, counted, output_line, printable_values, shortened, traceback_lines
from .core.host.attention import attentive_ports
from .core.host.memory import keep_freed_memory
from .core.host.trust import leave_untrusted_places
from .core.operations.outcome import Outcome
from .core.ports import Ports
from .core.signals import interruptible
from .summaries import notes_in

Answer = tuple[bool, dict[str, Any], dict[str, Any]]
"""Changed, record, diff."""


_SHOWN = 5
"""So many lines of an account fit into one message."""


class FailedOutcome(TradekeepError):
    """An operation came to its end and found something that a play must not pass over."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(_summary(outcome.lines))
        self.exit_status = outcome.status
        self.outcome = outcome


def _summary(lines: tuple[str, ...]) -> str:
    if not lines:
        return "the operation found problems"
    more = f"; and {counted(len(lines) - _SHOWN, 'more line')} in the record" if len(lines) > _SHOWN else ""
    return "; ".join(shortened(line.strip(), LINE_LIMIT // _SHOWN) for line in lines[:_SHOWN]) + more


class WarningProgress:
    """Progress of a module: nothing can be shown, and what is worth noting becomes a warning."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._warned: set[str] = set()

    def start(self, label: str, total: Optional[int] = None, unit: str = "bytes") -> None:
        """Nothing."""

    def advance(self, amount: int) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """A warning, each text once."""
        line = output_line(text)
        if line not in self._warned:
            self._warned.add(line)
            self._warn(line)

    def mention(self, text: str) -> None:
        """Nothing: that a run waited for another is no reason to warn."""


def answer(outcome: Outcome) -> Answer:
    """An operation's outcome as a module's answer; raises FailedOutcome for findings and worse."""
    if outcome.status != ExitStatus.DONE:
        raise FailedOutcome(outcome)
    return outcome.changed, outcome.record, {"before": outcome.before, "after": outcome.after}


def serve(module: Any, run: Callable[[Any, Ports], Answer]) -> None:
    """Run a module to its end: one answer, or one line that says what went wrong."""
    keep_freed_memory()
    leave_untrusted_places()
    progress = WarningProgress(module.warn)
    ports = attentive_ports(progress)
    try:
        with interruptible():
            changed, record, diff = run(module, ports)
    except FailedOutcome as failed:
        _warn_of_notes(progress, failed.outcome.record)
        _fail(module, failed, changed=failed.outcome.changed, record=failed.outcome.record)
    except Exception as error:
        known = foreseen(error)
        if known is None:
            # Ansible shows the traceback; the status says that a person must look.
            _fail(module, unforeseen(error), changed=False, record={}, exception="\n".join(traceback_lines(error)))
        else:
            _fail(module, known, changed=False, record={})
    else:
        _warn_of_notes(progress, record)
        module.exit_json(
            changed=changed, record=printable_values(record), exit_status=int(ExitStatus.DONE), diff=_shown_diff(diff)
        )


def _warn_of_notes(progress: WarningProgress, record: dict[str, Any]) -> None:
    """What a record calls a note is read by nobody where it only stands in the result."""
    for note in notes_in(record):
        progress.note(note)


def _shown_diff(diff: dict[str, Any]) -> dict[str, Any]:
    """Facts like those of a record; texts line by line, as Ansible compares them."""
    return {
        key: "\n".join(map(printable_values, value.split("\n"))) if isinstance(value, str) else printable_values(value)
        for key, value in diff.items()
    }


def _fail(module: Any, error: TradekeepError, *, changed: bool, record: dict[str, Any], **more: str) -> None:
    module.fail_json(
        # Ansible shows all of it on the terminal of whoever runs the play.
        msg=output_line(error),
        changed=changed,
        record=printable_values(record),
        error=printable_values(error.as_dict(), LINE_LIMIT),
        exit_status=int(error.exit_status),
        **more,
    )
