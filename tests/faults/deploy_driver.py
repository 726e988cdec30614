# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A deploy, its rollback or its recovery as a process of its own that can be killed or stopped.

DRIVER BASE OPERATION JSON, where JSON may hold ``ref``, ``rollback``, ``adopt``, and ``step`` and ``signal``: the
number of the step at which this process sends itself the signal. The checkout is BASE/live, the repository
BASE/upstream.git, and BASE/python what environments are made with, where there is one.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".cache" / "collections"))

from ansible_collections.tradekeep.ops.plugins.module_utils.core.faults import foreseen
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.deploy import deploy
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.request import DeployRequest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.signals import interruptible
from operations_driver import Notes, stepper

COMPONENTS = {"data": {"paths": ["data"], "directories": ["data"], "critical": True}}


def application_in(base: Path) -> Any:
    """The application whose checkout, repository, backups and state lie below one directory."""
    deploy = {"directory": f"{base}/live", "repository": f"{base}/upstream.git", "backup_first": "none"}
    if (base / "python").exists():
        deploy["dependencies"] = {"python": f"{base}/python"}
    profile = {"name": "bot", "components": COMPONENTS, "deploy": deploy}
    places = {f"{name}_dir": f"{base}/{name}" for name in ("backup", "config", "state", "bin")}
    return resolve_application(profile, root=f"{base}/live", become=False, **places)


def run(base: Path, operation: str, ports: Ports, wanted: dict[str, Any]) -> Any:
    """Carry it out."""
    application = application_in(base)
    if operation == "recover":
        return recover(application, ports)
    rollback = bool(wanted.get("rollback"))
    ref, adopt = None if rollback else wanted["ref"], bool(wanted.get("adopt"))
    return deploy(application, ports, DeployRequest(ref=ref, rollback=rollback, adopt=adopt))


def main() -> int:
    base, operation, wanted = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    os.environ["TMPDIR"] = str(base / "tmp")
    ports = Ports(SubprocessRunner(), SystemClock(), Notes())
    if "step" in wanted:
        step = stepper(base, wanted["step"], wanted.get("signal", 9))
        ports = Ports(SubprocessRunner(), SystemClock(), Notes(), step)
    try:
        with interruptible():
            outcome = run(base, operation, ports, wanted)
    except Exception as error:
        known = foreseen(error)
        if known is None:
            raise
        print(known, file=sys.stderr)
        return int(known.exit_status)
    print(*outcome.lines, sep="\n", file=sys.stderr)
    print(json.dumps(outcome.record))
    return int(outcome.status)


if __name__ == "__main__":
    sys.exit(main())
