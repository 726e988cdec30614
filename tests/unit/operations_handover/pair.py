# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Two servers in directories of one test, each a process of its own, with a pipe where ssh would be.

    pair.py BASE ROLE JSON

ROLE is what the server does: serve, take, look, recover, watch, fence, unfence or units. Each server's systemd is a
directory of units and a process for the bot: see ``fake_systemd.py``. JSON may hold ``step`` and ``signal``: at that
step the process sends itself the signal. ``fill_at`` and ``fill``: at that step another program fills the disk of the
directory, and so they do once ``fill_after`` bytes have arrived. ``grow_at`` and ``grow``: at that step a file of that
name comes to be.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / ".cache" / "collections"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import parse_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.faults import foreseen
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.identity import privileged
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.fence import fence, unfence
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.attended import attended_takeover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.channel import (
    SILENCE_SECONDS,
    Channel,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.link import Link
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.serving import serve
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.taking import take_over
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.units import install_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.signals import answer, interruptible
from fake_systemd import MachineRunner


class Notes(NoProgress):
    """Notes go to standard error. Counts what arrives."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self._wanted = wanted
        self._left = int(wanted.get("fill_after", 0))

    def advance(self, amount: int) -> None:
        before, self._left = self._left, self._left - amount
        if before > 0 >= self._left:
            fill_disk(Path(self._wanted["fill"]), free=0)

    def note(self, text: str) -> None:
        print(f"note: {text}", file=sys.stderr, flush=True)


def ports_of(base: Path, wanted: dict[str, Any]) -> Ports:
    return Ports(MachineRunner(base), SystemClock(), Notes(wanted), stepper(base, wanted))


def stepper(base: Path, wanted: dict[str, Any]) -> Callable[[str], None]:
    """Notes every step, and at the given one (by its name, and how often it was seen) sends this process a signal."""
    seen: dict[str, int] = {}

    def step(name: str) -> None:
        with privileged():
            taken(name)

    def taken(name: str) -> None:
        seen[name] = seen.get(name, 0) + 1
        with (base / "steps").open("a") as log:
            log.write(f"{name}#{seen[name]}\n")
        if wanted.get("touch_at") == f"{name}#{seen[name]}":
            Path(wanted["touch"]).write_text("{}")
        if wanted.get("grow_at") == f"{name}#{seen[name]}":
            Path(wanted["grow"]).write_bytes(os.urandom(300_000))
        if wanted.get("fill_at") == f"{name}#{seen[name]}":
            fill_disk(Path(wanted["fill"]), free=wanted.get("free", 0))
        if wanted.get("step") == f"{name}#{seen[name]}":
            os.kill(os.getpid(), wanted.get("signal", 9))
            answer()

    return step


def fill_disk(directory: Path, *, free: int) -> None:
    """Leave so many bytes for everybody else."""
    with (directory / "filler").open("wb", buffering=0) as stream:
        for size in (1 << 16, 1 << 12, 1 << 10):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(size))
        stream.truncate(max(0, stream.tell() - free))
        os.fsync(stream.fileno())


def application_of(base: Path) -> Any:
    config = base / "etc" / "kalshi.json"
    return parse_configuration(config.read_bytes(), path=config)


def command(base: Path, role: str, **wanted: Any) -> list[str]:
    return [sys.executable, "-B", "-S", str(Path(__file__).resolve()), str(base), role, json.dumps(wanted)]


def main() -> int:
    base, role, wanted = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    application, ports, units = application_of(base), ports_of(base, wanted), base / "units"
    try:
        with interruptible():
            if role == "serve":
                channel = Channel(0, 1, silence_seconds=wanted.get("silence", SILENCE_SECONDS))
                outcome = serve(application, ports, channel, watcher=command(base, "watch"), unit_dir=units)
            elif role == "units":
                outcome = install_units(application, ports, unit_dir=str(units))
            elif role in ("fence", "unfence"):
                outcome = (fence if role == "fence" else unfence)(application, ports, unit_dir=units, **wanted)
            elif role == "look":
                link = Link("old", command=tuple(command(Path(wanted["source"]), "serve")))
                outcome = attended_takeover(application, ports, link, dry_run=True)
            elif role == "take":
                source = Path(wanted["source"])
                silence = wanted.get("silence", SILENCE_SECONDS)
                serving = command(source, "serve", silence=silence, **wanted.get("serve", {}))
                link = Link("old", command=tuple(serving), silence_seconds=silence)
                options = {"force": wanted.get("force", False), "patience_seconds": wanted.get("patience", 20.0)}
                outcome = take_over(application, ports, link, unit_dir=units, **options)
            else:
                wait = float("inf") if role == "watch" else 60.0
                outcome = recover(application, ports, wait_seconds=wait, unit_dir=units)
    except Exception as error:
        known = foreseen(error)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr, flush=True)
        return int(known.exit_status)
    if role != "serve":
        print(json.dumps({"record": outcome.record, "lines": outcome.lines, "changed": outcome.changed}))
    return int(outcome.status)


if __name__ == "__main__":
    sys.exit(main())
