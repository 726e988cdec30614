# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Work that outlives its starter: for real without systemd, and what systemd is asked for."""

from __future__ import annotations

import itertools
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CommandError, ServiceError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import transient
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.transient import (
    DetachedProcess,
    TransientUnit,
    background,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed, NoProgress, Ports

REAL = Ports(SubprocessRunner(), SystemClock(), NoProgress())
NAME = "tradekeep-deploy-bot"


def eventually(condition: Any) -> None:
    until = time.monotonic() + 30
    while not condition():
        if time.monotonic() > until:
            pytest.fail("did not happen within 30 seconds")
        time.sleep(0.02)


class StillClock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=timezone.utc)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class FakeSystemd:
    """systemctl and systemd-run: a unit runs for so many looks at it."""

    def __init__(self) -> None:
        self.looks = 0
        self.refusal = ""
        self.calls: list[list[str]] = []
        self.state = "active"
        self.ports = Ports(self, StillClock(), NoProgress())  # type: ignore[arg-type]

    def find(self, program: str) -> str | None:
        return None if program == "absent" else f"/usr/bin/{program}"

    def run(self, argv: list[str], *, check: bool = True, **_keywords: Any) -> Completed:
        self.calls.append(argv)
        if argv[:2] == ["systemctl", "show"]:
            self.looks -= 1
            return Completed(tuple(argv), 0, f"ActiveState={self.state if self.looks >= 0 else 'inactive'}\n", "")
        if argv[0] == "systemd-run" and self.refusal:
            self.looks = 1 if "already" in self.refusal else 0
            raise CommandError(self.refusal, path="systemd-run")
        return Completed(tuple(argv), 0, "", "")


def test_a_unit_is_collected_and_only_its_main_process_is_told_to_stop() -> None:
    systemd = FakeSystemd()
    TransientUnit(NAME, systemd.ports).start(
        ["tradekeep", "deploy", "price $5 ${HOME}"], description="Deploy bot", environment={"TRADEKEEP_BY": "ci"}
    )
    call = systemd.calls[-1]
    options, command = call[: call.index("--")], call[call.index("--") + 1 :]
    assert command == ["/usr/bin/tradekeep", "deploy", "price $$5 $${HOME}"]
    assert {f"--unit={NAME}.service", "--collect", "--service-type=exec", "--property=KillMode=mixed"} <= set(options)
    assert "--setenv=TRADEKEEP_BY=ci" in options
    assert any(option.startswith("--setenv=HOME=/") for option in options)
    assert systemd.calls[-2] == ["systemctl", "reset-failed", "--", f"{NAME}.service"]


@pytest.mark.parametrize("state", ["active", "activating", "deactivating"])
def test_a_unit_that_runs_or_is_being_stopped_is_not_started_again(state: str) -> None:
    systemd = FakeSystemd()
    systemd.looks, systemd.state = 5, state
    with pytest.raises(ServiceError, match="runs already"):
        TransientUnit(NAME, systemd.ports).start(["tradekeep"], description="Deploy bot")
    assert not [call for call in systemd.calls if call[0] == "systemd-run"]


def test_of_two_that_start_a_unit_at_once_one_is_told_that_it_runs() -> None:
    systemd = FakeSystemd()
    systemd.refusal = "failed with exit status 1: Unit was already loaded"
    with pytest.raises(ServiceError, match="runs already"):
        TransientUnit(NAME, systemd.ports).start(["tradekeep"], description="Deploy bot")
    systemd.refusal = "failed with exit status 1: Failed to execute"
    with pytest.raises(ServiceError, match="cannot be started: failed with exit status 1"):
        TransientUnit(NAME, systemd.ports).start(["tradekeep"], description="Deploy bot")
    with pytest.raises(CommandError, match="absent: is not installed"):
        TransientUnit(NAME, systemd.ports).start(["absent"], description="Deploy bot")


def test_waiting_has_lasted_no_seconds_when_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """``waiting for ..., 0 seconds so far`` was a warning of each deploy."""
    systemd = FakeSystemd()
    systemd.looks = 2
    moments = itertools.count(1, 0.001)
    monkeypatch.setattr(systemd.ports.clock, "monotonic", lambda: next(moments))
    notes: list[str] = []
    assert TransientUnit(NAME, systemd.ports).wait(note=notes.append)
    assert notes == [f"waiting for {NAME}"]


def test_waiting_ends_with_the_unit_and_says_so_once_a_minute() -> None:
    systemd = FakeSystemd()
    systemd.looks = 130
    notes: list[str] = []
    assert TransientUnit(NAME, systemd.ports).wait(note=notes.append)
    assert notes == [
        f"waiting for {NAME}",
        f"waiting for {NAME}, 61 seconds so far",
        f"waiting for {NAME}, 121 seconds so far",
    ]
    systemd.looks = 130
    begun = systemd.ports.clock.monotonic()
    assert not TransientUnit(NAME, systemd.ports).wait(note=notes.append, timeout_seconds=100)
    assert 100 <= systemd.ports.clock.monotonic() - begun < 101


def test_systemd_is_asked_only_where_it_runs_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = FakeSystemd().ports
    monkeypatch.setattr(transient.os, "geteuid", lambda: 0)
    assert TransientUnit(NAME, ports, booted=str(tmp_path)).available()
    assert not TransientUnit(NAME, ports, booted=str(tmp_path / "absent")).available()
    monkeypatch.setattr(transient.os, "geteuid", lambda: 1000)
    assert not TransientUnit(NAME, ports, booted=str(tmp_path)).available()
    assert isinstance(background(NAME, ports, tmp_path), DetachedProcess)


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[DetachedProcess]:
    work = DetachedProcess(NAME, REAL, tmp_path / "state")
    yield work
    if work.active():
        os.killpg(int(work.pid_file.read_text()), signal.SIGKILL)


def until_there(path: Path) -> list[str]:
    return ["sh", "-c", 'echo begun; while [ ! -e "$1" ]; do sleep 0.05; done; echo "$WORD"', "sh", str(path)]


def test_a_process_is_active_until_it_ends_and_not_started_twice(detached: DetachedProcess, tmp_path: Path) -> None:
    assert not detached.active()
    detached.start(until_there(tmp_path / "end"), description="Deploy bot", environment={"WORD": "done"})
    assert detached.active()
    with pytest.raises(ServiceError, match="runs already"):
        DetachedProcess(NAME, Ports(REAL.runner, StillClock(), REAL.progress), tmp_path / "state").start(
            ["true"], description="another"
        )
    assert not detached.wait(note=lambda text: None, timeout_seconds=0)
    (tmp_path / "end").touch()
    eventually(lambda: not detached.active())
    assert detached.wait(note=lambda text: None)
    assert detached.log_file.read_text() == "Deploy bot\nbegun\ndone\n"
    assert stat.S_IMODE(detached.log_file.stat().st_mode) == 0o600
    detached.start(["true"], description="next")


def test_a_number_that_now_belongs_to_another_process_is_not_taken_for_it(
    detached: DetachedProcess, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    detached.pid_file.write_text(f"{os.getpid()}\n")
    assert not detached.active()


STARTER = """
import sys
from pathlib import Path
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.transient import DetachedProcess
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())
DetachedProcess(sys.argv[1], ports, Path(sys.argv[2])).start(sys.argv[3:], description="Deploy bot")
print("started", flush=True)
sys.stdin.read()
"""


def test_hazard_d14_the_death_of_the_starter_and_its_session_is_survived(
    detached: DetachedProcess, tmp_path: Path
) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, NAME, str(tmp_path / "state"), *until_there(tmp_path / "end")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"started\n"
    os.killpg(starter.pid, signal.SIGKILL)
    starter.communicate()
    assert detached.active()
    (tmp_path / "end").touch()
    eventually(lambda: not detached.active())
    assert "begun" in detached.log_file.read_text()


def test_a_unit_is_kept_from_the_kernel_and_from_what_else_it_is_told() -> None:
    systemd = FakeSystemd()
    TransientUnit(NAME, systemd.ports, properties=("ProtectSystem=full",)).start(["tradekeep"], description="Deploy")
    options = set(systemd.calls[-1])
    assert {f"--property={name}=yes" for name in ("PrivateDevices", "ProtectKernelTunables", "ProtectClock")} <= options
    assert {"--property=LimitCORE=0", "--property=ProtectSystem=full"} <= options
    assert not any("NoNewPrivileges" in option for option in options), "a hook may use sudo"
