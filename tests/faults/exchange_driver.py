# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A small restore, or its recovery, as a process of its own that can be killed: DRIVER run|recover BASE [STEP]."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".cache" / "collections"))

from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import (
    ServiceManager,
    Services,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.mounts import device_roots
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.services import ServiceController
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import Exchange
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.plan import Replacement
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.recovery import recover_transaction
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.stage import Stage
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.stopped import forget_stop, note_stop

UNITS = ("bot.service",)


def killer(number: int):
    """Kills this process at the given step; a negative number never does."""
    left = [number]

    def step(name: str) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    return step


def controller(base: Path, clock: SystemClock) -> ServiceController:
    wanted = Services(manager=ServiceManager.SYSTEMD, units=UNITS, stay_up_seconds=0)
    return ServiceController([wanted] if (base / "bin").exists() else [], runner_of(base), clock)


def runner_of(base: Path) -> SubprocessRunner:
    return SubprocessRunner(search_path=f"{base}/bin:/usr/bin:/bin")


def restore(base: Path, step) -> None:
    root, state, clock = base / "data", base / "state", SystemClock()
    services = controller(base, clock)
    snapshot = services.snapshot()
    exchange = None
    with Stage.create(state, device_roots(root)) as stage:
        items = replacements(stage, root)
        stage.sync()
        note_stop(state, operation="restore", snapshot=snapshot)
        try:
            step("stop")
            services.stop(snapshot)
            exchange = Exchange.begin(
                state,
                operation="restore",
                replacements=items,
                stages=stage.directories,
                services=snapshot,
                clock=clock,
                step=step,
            )
            exchange.apply(step)
            step("start")
            services.start(snapshot)
            services.wait_until_steady(snapshot)
            exchange.commit(step)
        except TradekeepError:
            if exchange is not None:
                services.stop(snapshot)
                exchange.undo(step)
                services.start(snapshot)
                exchange.clean(step)
            forget_stop(state)
            raise
    forget_stop(state)


def replacements(stage: Stage, root: Path) -> list[Replacement]:
    for name, content in (("fills.db", "new fills"), ("fresh/x.json", "added"), ("mode", "new mode")):
        staged = Path(stage.path_for(name))
        staged.parent.mkdir(exist_ok=True)
        staged.write_text(content)
    changed = ("fills.db", "fresh", "fresh/x.json", "mode")
    gone = ("fills.db-wal", "mode/old.json")
    return [Replacement(str(root / name), stage.path_for(name), stage.kept_for(name)) for name in changed] + [
        Replacement(str(root / name), None, stage.kept_for(name)) for name in gone
    ]


def main() -> int:
    what, base, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else -1
    try:
        if what == "run":
            restore(base, killer(number))
        else:
            found = recover_transaction(
                base / "state", runner=runner_of(base), clock=SystemClock(), step=killer(number)
            )
            print(found.data)
    except TradekeepError as error:
        print(error, file=sys.stderr)
        return int(error.exit_status)
    return 0


if __name__ == "__main__":
    sys.exit(main())
