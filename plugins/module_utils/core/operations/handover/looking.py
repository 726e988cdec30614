# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A migration from another server that is only looked at: nothing is written on either, and nothing is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...application import Application
from ...errors import ExitStatus
from ...host.filesystem.identity import acting_as
from ...ports import Ports
from ...transaction.exchange import refuse_pending
from ..controller import services_of
from ..deploy.survey import account_for
from ..migrate.preflight import FAILED
from ..outcome import Outcome
from ..scan import check_root, scan
from ..still_writing import refuse_unmanaged_writers
from ..text import counted, first_lines, human_bytes
from .agreeing import is_complete, more_checks, was_complete, what_to_start
from .channel import ProtocolError, number_of, text_of
from .fences import refuse_running
from .link import Link, connected_to

_SHOWN = 200
_MOST_LISTED = 5_000_000


def look_ahead(application: Application, ports: Ports, link: Link, *, force: bool = False) -> Outcome:
    """What would come, and what stands against it as far as names and sizes tell: then the status is FAILED.

    Raises what the migration itself would raise: the application runs here already, or a process writes its data.
    """
    with acting_as(account_for(application)):
        return _looked_ahead(application, ports, link, force=force)


def _looked_ahead(application: Application, ports: Ports, link: Link, *, force: bool) -> Outcome:
    check_root(application)
    refuse_pending(Path(application.application_state_dir))
    there: dict[str, int] = {}

    def listed(message: dict[str, Any]) -> None:
        there[text_of(message, "listed")] = number_of(message, "size")
        if len(there) > _MOST_LISTED:
            raise ProtocolError(f"lists more than {_MOST_LISTED} files", path="the other server")

    with connected_to(link, application, ports) as remote:
        facts = remote.facts
        if is_complete(Path(application.application_state_dir), facts):
            return was_complete(application, facts)
        refuse_running(application, ports)
        _refuse_writers(application, ports)
        remote.say({"do": "list"})
        remote.channel.last_message("list", listed)
    start, missing = what_to_start(application, ports, facts)
    checks = list(more_checks(application, ports, facts, start, missing))
    here = {item.path: item.size for item in scan(application) if item.type in ("file", "symlink")}
    plan: dict[str, Any] = {
        "new": sorted(path for path in there if path not in here),
        "here_too": sorted(path for path in there if path in here),
        "only_on_target": sorted(path for path in here if path not in there),
    }
    lines = [
        f"{'FAILED' if check.state == FAILED else check.state:<6}  {check.name}: {check.detail}" for check in checks
    ]
    signs = (("+", "new"), ("~", "here_too"), ("-", "only_on_target"))
    named = [f"{sign} {path}" for sign, which in signs for path in plan[which]]
    lines += first_lines(named, _SHOWN, "see --json")
    lines.append(
        f"{counted(len(there), 'file')}, {human_bytes(sum(there.values()))} from {link.name}; "
        "contents are compared when it is done, nothing was written"
    )
    record = {
        "state": "planned",
        "application": application.name,
        "source": {"given": link.name, "host": text_of(facts, "host", 300), "fence": facts.get("fence")},
        "preflight": [check.as_dict() for check in checks],
        "plan": plan,
        "bytes": sum(there.values()),
        "started": [name for entry in start for name in entry["running"]],
    }
    failed = [check for check in checks if check.state == FAILED and not (force and check.forceable)]
    status = ExitStatus.FAILED if failed else ExitStatus.DONE
    return Outcome(changed=not failed, record=record, lines=tuple(lines), status=status)


def _refuse_writers(application: Application, ports: Ports) -> None:
    """Nothing is stopped here, where nothing runs; so what writes now would write then."""
    services = services_of(application, ports)
    refuse_unmanaged_writers(application, ports, services)
