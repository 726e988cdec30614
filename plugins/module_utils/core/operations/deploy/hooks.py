# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Commands of the application's own at the steps of a deploy."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from ...deploy_settings import HOOK_STEPS, Hook
from ...errors import CommandError
from ...formatting import output_text
from ...host.account import Account, command_as, environment_of
from ...host.files import atomic_write, make_private_directory
from ...host.filesystem.identity import with_privileges
from ...ports import Ports, Said
from ..text import counted

KEPT_BYTES = 64 * 1024
"""So much of the end of a hook's output is kept."""


@dataclass(frozen=True)
class HookResult:
    """What became of a hook. ``status`` is None when it ran out of time; ``log`` holds its output."""

    at: str
    command: str
    status: Optional[int]
    seconds: float
    last_line: str
    log: str

    def as_dict(self) -> dict[str, Any]:
        """The result as the record of a deploy shows it."""
        return asdict(self)


class Hooks:
    """The hooks of a deploy, run as the account in the checkout.

    directory: the checkout, or for releases the one of the new code once it is there. logs: the directory of the
    deploy's record.
    """

    def __init__(
        self, hooks: Sequence[Hook], *, application: str, directory: Path, account: Account, logs: Path, ports: Ports
    ) -> None:
        self._hooks = tuple(hooks)
        self._application = application
        self._directory = directory
        self._account = account
        self._logs = logs
        self._ports = ports
        self.results: list[HookResult] = []
        """Of all steps so far, in order, the failed one included."""

    def run(
        self,
        step: str,
        *,
        old_commit: Optional[str] = None,
        new_commit: Optional[str] = None,
        directory: Optional[Path] = None,
    ) -> list[HookResult]:
        """Run what belongs to a step, one after the other; raises CommandError for the first that fails.

        Whether a failure refuses the deploy or undoes it is for the caller to say: it depends on the step alone.
        """
        if step not in HOOK_STEPS:
            raise ValueError(step)
        environment = {
            **environment_of(self._account),
            "TRADEKEEP_APP": self._application,
            "TRADEKEEP_STEP": step,
            "TRADEKEEP_OLD_COMMIT": old_commit or "",
            "TRADEKEEP_NEW_COMMIT": new_commit or "",
        }
        before = len(self.results)
        for hook in self._hooks:
            if hook.at == step:
                self._run(hook, environment, directory or self._directory)
        return self.results[before:]

    def _run(self, hook: Hook, environment: dict[str, str], directory: Path) -> None:
        self._ports.step(f"hook {hook.at}")
        clock = self._ports.clock
        begun = clock.monotonic()
        said = self._ports.runner.listen(
            command_as(self._account, hook.command, directory=str(directory)),
            environment=environment,
            timeout_seconds=hook.timeout_seconds,
            keep_bytes=KEPT_BYTES,
        )
        log = self._keep(hook, said)
        self.results.append(
            HookResult(
                at=hook.at,
                command=shlex.join(hook.command),
                status=said.status,
                seconds=round(clock.monotonic() - begun, 3),
                last_line=said.last_line,
                log=str(log),
            )
        )
        if said.status != 0:
            raise _failure(hook, said, log)

    @with_privileges
    def _keep(self, hook: Hook, said: Said) -> Path:
        make_private_directory(self._logs)
        log = self._logs / f"hook-{len(self.results) + 1}-{hook.at}.log"
        atomic_write(log, output_text(said.output).encode("utf-8"), mode=0o600)
        return log


def _failure(hook: Hook, said: Said, log: Path) -> CommandError:
    if said.status is None:
        how = f"did not end within {counted(float(hook.timeout_seconds), 'second')}"
    elif said.status < 0:
        how = f"was killed by signal {-said.status}"
    else:
        how = f"failed with exit status {said.status}"
    words = f": {said.last_line}" if said.last_line else ""
    return CommandError(
        f"the hook {hook.at} {how}{words}", path=shlex.join(hook.command), hint=f"its output is in {log}"
    )
