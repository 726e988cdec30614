# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys that a unit carries out: asked for, waited for, asked for again, and what their end says."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ConfigurationError,
    ExitStatus,
    FindingsError,
    InterruptedBySignal,
    NeedsPersonError,
    ServiceError,
    TradekeepError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy import attended
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.request import DeployRequest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

DONE = Outcome(
    changed=True,
    record={"state": "deployed"},
    lines=("deployed",),
    before={"commit": "a"},
    after={"commit": "b"},
    fitted=lambda _width: (),
)


class Server:
    """systemd, of which a unit takes so many looks, and the program that the unit starts."""

    def __init__(self, base: Path) -> None:
        self.looks = 0
        self.takes = 3
        self.killed = False
        self.refuses = False
        self.interrupted = False
        self.end: Outcome | Exception = DONE
        self.asked: list[DeployRequest] = []
        self.started: list[list[str]] = []
        self.notes: list[str] = []
        self.seconds = 0.0
        self.request: Path | None = None
        self.ports = Ports(self, self, self)  # type: ignore[arg-type]
        paths = {name: str(base / name) for name in ("state_dir", "backup_dir", "config_dir", "bin_dir")}
        profile = {"extends": "paper_bot", "deploy": {"repository": "https://example.com/bot.git"}}
        self.application = resolve_application(profile, root=str(base / "live"), owner="nobody", **paths)
        program = Path(self.application.bin_dir) / "tradekeep"
        program.parent.mkdir()
        program.touch()

    def deploy(self, _application: object, _ports: Ports, request: DeployRequest, **_more: object) -> Outcome:
        """In the place of the operation."""
        self.asked.append(request)
        if isinstance(self.end, Exception):
            raise self.end
        return self.end

    def call(self, *, wait_seconds: float | None = None, **fields) -> Outcome:
        request = DeployRequest(ref="main", by="somebody", **fields)
        return attended.attended_deploy(self.application, self.ports, request, wait_seconds=wait_seconds)

    def find(self, program: str) -> str:
        return program if program.startswith("/") else f"/usr/bin/{program}"

    def run(self, argv: list[str], **_keywords) -> Completed:
        state = ""
        if argv[0] == "systemd-run":
            self._start(argv)
        if argv[:2] == ["systemctl", "show"]:
            state = f"ActiveState={'active' if self.looks else 'inactive'}\n"
            self.looks = max(0, self.looks - 1)
            if not self.looks:
                self._end()
        return Completed(tuple(argv), 0, state, "")

    def _start(self, argv: list[str]) -> None:
        if self.refuses:
            raise ServiceError("no", path="systemd-run")
        self.started.append(argv)
        self.request = Path(argv[-1])
        self.looks = self.takes

    def _end(self) -> None:
        """Whatever the unit has to say it has said before it ends."""
        request, self.request = self.request, None
        if request is None or self.killed:
            return
        with contextlib.suppress(TradekeepError):  # the unit's journal has it
            attended.carry_out_request(self.application, dataclasses.replace(self.ports), request)

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=timezone.utc)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        if self.interrupted:
            raise InterruptedBySignal("stopped by SIGHUP")
        self.seconds += seconds

    def note(self, text: str) -> None:
        self.notes.append(text)

    mention = note


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server(tmp_path)
    monkeypatch.setattr(attended.TransientUnit, "available", lambda _self: True)
    monkeypatch.setattr(attended, "deploy", made.deploy)
    return made


def test_the_unit_carries_out_what_was_asked_for_and_answers_in_full(server: Server) -> None:
    outcome = server.call(on_collision="keep_live")
    assert outcome == dataclasses.replace(DONE, fitted=None)
    assert server.asked == [DeployRequest(ref="main", by="somebody", on_collision="keep_live")]
    (started,) = server.started
    assert f"--unit=tradekeep-{server.application.name}-deploy.service" in started
    assert any(word.startswith("--property=ExecStopPost=") and '"recover"' in word for word in started)


@pytest.mark.parametrize("dry_run, missing", [(True, ""), (False, "unit"), (False, "program")])
def test_without_a_unit_the_deploy_is_carried_out_here(
    server: Server, monkeypatch: pytest.MonkeyPatch, dry_run: bool, missing: str
) -> None:
    if missing == "unit":
        monkeypatch.setattr(attended.TransientUnit, "available", lambda _self: False)
    if missing == "program":
        (Path(server.application.bin_dir) / "tradekeep").unlink()
    request = DeployRequest(ref="main")
    assert attended.attended_deploy(server.application, server.ports, request, dry_run=dry_run) is DONE
    assert (server.asked, server.started) == ([request], [])


@pytest.mark.parametrize(
    "error",
    [
        FindingsError("found", path="/x", hint="look"),
        UsageError("wrong"),
        TradekeepError("failed", path="/x"),
        NeedsPersonError("broken", hint="mend"),
    ],
)
def test_an_error_of_the_unit_is_the_callers_error(server: Server, error: TradekeepError) -> None:
    server.end = error
    with pytest.raises(type(error)) as caught:
        server.call()
    assert caught.value.as_dict() == error.as_dict()


def test_a_failed_outcome_keeps_its_status_and_its_record(server: Server) -> None:
    server.end = Outcome(changed=False, record={"state": "undone"}, lines=("no",), status=ExitStatus.FAILED)
    assert server.call() == server.end


def test_hazard_d14_a_unit_that_was_killed_is_not_taken_for_a_success(server: Server) -> None:
    server.killed = True
    with pytest.raises(NeedsPersonError, match="ended without an answer"):
        server.call()


def test_hazard_d14_a_second_call_waits_for_the_first(server: Server) -> None:
    server.looks = 5
    server.call()
    assert "is at work; waiting for it to end" in server.notes[0]
    assert len(server.started) == 1


def test_hazard_d14_who_no_longer_waits_ends_nothing(server: Server) -> None:
    server.interrupted = True
    with pytest.raises(InterruptedBySignal, match="the deploy goes on by itself"):
        server.call()
    assert len(server.started) == 1


def test_who_has_no_patience_asks_again_and_starts_nothing_twice(server: Server) -> None:
    server.takes = 1000
    running = server.call(wait_seconds=20)
    assert (running.changed, running.record["state"], running.status) == (False, "running", ExitStatus.DONE)
    assert server.seconds < 22
    name = running.record["request"]
    for _time in range(2):
        answer = attended.await_deploy(server.application, server.ports, name)
        assert answer == dataclasses.replace(DONE, fitted=None)
    assert (len(server.started), len(server.asked)) == (1, 1)


def test_a_request_that_waits_behind_another_is_begun_when_it_is_asked_for_again(server: Server) -> None:
    server.looks = 1000
    running = server.call(wait_seconds=20)
    assert server.started == []
    assert attended.await_deploy(server.application, server.ports, running.record["request"]).changed
    assert len(server.started) == 1


def test_a_unit_that_cannot_be_started_is_tried_again_the_next_time(server: Server) -> None:
    server.looks, server.refuses = 1000, True
    name = server.call(wait_seconds=20).record["request"]
    with pytest.raises(TradekeepError):
        attended.await_deploy(server.application, server.ports, name)
    server.refuses = False
    assert attended.await_deploy(server.application, server.ports, name).changed


@pytest.mark.parametrize("name", ["0123456789abcdef", "../deployed", ""])
def test_an_unknown_request_is_wrong_usage(server: Server, name: str) -> None:
    server.call()
    with pytest.raises(UsageError, match="no such request"):
        attended.await_deploy(server.application, server.ports, name)


def test_wrong_usage_is_told_before_a_unit_is_started(server: Server) -> None:
    profile = {"extends": "paper_bot"}
    server.application = resolve_application(
        profile, root=str(server.application.root), owner="nobody", bin_dir=str(server.application.bin_dir)
    )
    with pytest.raises(ConfigurationError, match="where git fetches from"):
        server.call()
    assert server.started == []


def test_old_requests_are_forgotten_and_nobody_else_reads_them(server: Server) -> None:
    server.takes = 1
    for _time in range(30):
        server.call()
    files = sorted((Path(server.application.application_state_dir) / "deploy/requests").iterdir())
    assert len({file.stem for file in files}) <= 22
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert json.loads(next(file for file in files if file.suffix == ".json").read_text())["ref"] == "main"
