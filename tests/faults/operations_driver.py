# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""One operation as a process of its own that can be killed or stopped.

DRIVER BASE OPERATION JSON, where JSON may hold ``options`` of the operation, ``settings`` of the application, and
``step`` and ``signal``: the number of the step at which this process sends itself the signal.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".cache" / "collections"))

from ansible_collections.tradekeep.ops.plugins.module_utils.core.faults import foreseen
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import Credential, tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.signals import answer, interruptible


def install_credential(application: Any, ports: Ports, *, path: str, content: str) -> Any:
    """A run of ``tree`` that is handed a secret; nothing but the code itself keeps files from others."""
    before = os.umask(0)
    try:
        return tree(application, ports, fix=True, credentials=[Credential(path, content.encode(), replace=True)])
    finally:
        os.umask(before)


OPERATIONS = {"backup": backup, "restore": restore, "recover": recover, "migrate": migrate, "tree": install_credential}


class Notes(NoProgress):
    """Notes go to standard error."""

    def note(self, text: str) -> None:
        say(f"note: {text}", sys.stderr)


def application_in(base: Path, **settings: Any) -> Any:
    """The application whose data, backups and state lie below one directory."""
    places = {"root": "data", "backup_dir": "backups", "state_dir": "state", "config_dir": "etc", "bin_dir": "bin"}
    places = {name: str(base / place) for name, place in places.items()}
    return resolve_application(settings.pop("profile", "kalshi"), become=False, **{**places, **settings})


def stepper(base: Path, number: int, signal_number: int) -> Callable[[str], None]:
    """Notes every step in a file, and sends this process a signal at the given one."""
    seen = [0]

    def step(name: str) -> None:
        with (base / "steps").open("a") as log:
            log.write(name + "\n")
        if seen[0] == number:
            os.kill(os.getpid(), signal_number)
        seen[0] += 1
        answer()

    return step


def main() -> int:
    base, operation, wanted = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    # What lies in here beforehand is what is left behind afterwards.
    os.environ["TMPDIR"] = str(base / "tmp")
    ports = Ports(SubprocessRunner(), SystemClock(), Notes())
    if "step" in wanted:
        step = stepper(base, wanted["step"], wanted.get("signal", 9))
        ports = Ports(SubprocessRunner(), SystemClock(), Notes(), step)
    try:
        with interruptible():
            application = application_in(base, **wanted.get("settings", {}))
            outcome = OPERATIONS[operation](application, ports, **wanted.get("options", {}))
    except Exception as error:
        known = foreseen(error)
        if known is None:
            raise
        say(str(known), sys.stderr)
        return int(known.exit_status)
    say(json.dumps(outcome.record), sys.stdout)
    return int(outcome.status)


def say(text: str, stream: TextIO) -> None:
    """As far as it can be said: no write may succeed at all."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
