# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A fenced host runs nothing of the application, whoever tries; what ran is known, and comes back when it may."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CommandError,
    ExitStatus,
    NeedsPersonError,
    ServiceError,
    TradekeepError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.deploy import deploy
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.request import DeployRequest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.fence import fence, unfence
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import pending
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.stopped import note_stop, read_stop
from operations_migrate.servers import FILLS, listing

BOT, TIMER = "trading_system.service", "trading_system.timer"


class Machine:
    """A systemd of two units, as far as it is asked; everything else of the host is the real one."""

    def __init__(self, real: Any, directory: Path) -> None:
        self.real = real
        self.directory = directory
        self.running = {BOT, TIMER}
        self.calls: list[str] = []
        self.refuses: set[str] = set()
        self.dies = ""
        directory.mkdir()
        for unit in (BOT, TIMER):
            (directory / unit).write_text(f"# {unit}\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def find(self, program: str) -> str | None:
        known = {"systemctl": "/bin/systemctl", "supervisorctl": None}
        return known[program] if program in known else self.real.find(program)

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        if argv[0] not in ("systemctl", "journalctl"):
            done: Completed = self.real.run(argv, **options)
            return done
        verb, unit = argv[1], argv[-1]
        if verb == "show":
            return Completed(tuple(argv), 0, self._shown(unit), "")
        if verb in ("stop", "start"):
            self.calls.append(f"{verb} {unit}")
            if f"{verb} {unit}" in self.refuses or (verb == "start" and self._load(unit) != "loaded"):
                raise CommandError(f"{unit} is masked or refuses")
            (self.running.discard if verb == "stop" else self.running.add)(unit)
        return Completed(tuple(argv), 0, "", "")

    def _load(self, unit: str) -> str:
        place = self.directory / unit
        if place.is_symlink() and os.readlink(place) == "/dev/null":
            return "masked"
        return "loaded" if place.exists() else "not-found"

    def _shown(self, unit: str) -> str:
        active = "active" if unit in self.running else "inactive"
        triggered = TIMER if unit == BOT else ""
        return (
            f"LoadState={self._load(unit)}\nActiveState={active}\nSubState=x\nType=simple\nMainPID=1\n"
            f"NRestarts=0\nResult=success\nTriggeredBy={triggered}\n"
        )


class Host:
    """A server under a systemd of its own."""

    def __init__(self, server: Any, machine: Machine) -> None:
        self.server = server
        self.machine = machine
        self.application = server.application
        self.ports = dataclasses.replace(server.ports, runner=machine)
        self.state: Path = server.state

    def fence(self, **options: Any) -> Any:
        return fence(self.application, self.ports, unit_dir=self.machine.directory, **options)

    def unfence(self, **options: Any) -> Any:
        return unfence(self.application, self.ports, unit_dir=self.machine.directory, **options)

    def killed_at(self, wanted: str) -> Any:
        def step(name: str) -> None:
            if name == wanted:
                raise KeyboardInterrupt

        return dataclasses.replace(self.ports, step=step)

    @property
    def units(self) -> dict[str, str]:
        places = sorted(self.machine.directory.iterdir())
        return {item.name: os.readlink(item) if item.is_symlink() else item.read_text() for item in places}


@pytest.fixture
def host(tmp_path: Path, make_server: Callable[..., Any]) -> Host:
    services = [{"manager": "systemd", "units": [BOT], "stay_up_seconds": 0}]
    profile = {"extends": "kalshi", "name": "kalshi", "services": services, "deploy": {"repository": "/nowhere"}}
    server = make_server("fenced", profile, owner="root", group="root", become=True)
    server.database(rows=3).close()
    return Host(server, Machine(server.ports.runner, tmp_path / "units"))


@pytest.mark.root
def test_hazard_e_a_fence_stops_and_masks_and_knows_what_ran(host: Host) -> None:
    before = host.units
    done = host.fence(reason="moved to new.example")
    assert (done.status, done.changed) == (ExitStatus.DONE, True)
    assert host.machine.running == set()
    assert host.units == {
        BOT: "/dev/null",
        f"{BOT}.tradekeep-fenced": f"# {BOT}\n",
        TIMER: "/dev/null",
        f"{TIMER}.tradekeep-fenced": f"# {TIMER}\n",
    }
    kept = json.loads((host.state / "fenced.json").read_text())
    assert kept["reason"] == "moved to new.example"
    assert kept["masked"] == [BOT, TIMER]
    assert oct((host.state / "fenced.json").stat().st_mode)[-3:] == "600"
    again = host.fence()
    assert (again.changed, again.record["reason"]) == (False, "moved to new.example")
    assert json.loads((host.state / "fenced.json").read_text()) == kept
    back = host.unfence()
    assert back.changed
    assert host.units == before
    assert host.machine.running == {BOT, TIMER}
    assert not (host.state / "fenced.json").exists()
    assert read_stop(host.state) is None
    assert not host.unfence().changed


@pytest.mark.root
def test_what_is_started_just_before_the_mask_is_stopped_after_it(host: Host) -> None:
    def start(step: str) -> None:
        if step == "mask":
            host.machine.running.add(BOT)

    host.ports = dataclasses.replace(host.ports, step=start)
    host.fence()
    assert host.machine.running == set()


@pytest.mark.root
def test_a_dry_run_of_either_writes_nothing(host: Host) -> None:
    before, units = listing(host.server.base), host.units
    planned = host.fence(dry_run=True)
    assert planned.changed
    assert {f"would mask {BOT}", f"would stop {BOT}"} <= set(planned.lines)
    assert (listing(host.server.base), host.units, host.machine.running) == (before, units, {BOT, TIMER})
    host.fence()
    before = listing(host.server.base)
    assert host.unfence(dry_run=True).changed
    assert listing(host.server.base) == before


@pytest.mark.root
def test_a_unit_that_somebody_had_masked_stays_masked(host: Host) -> None:
    (host.machine.directory / TIMER).unlink()
    (host.machine.directory / TIMER).symlink_to("/dev/null")
    host.machine.running = {BOT}
    assert host.fence().record["masked"] == [BOT]
    host.unfence()
    assert host.units[TIMER] == "/dev/null"
    assert host.machine.running == {BOT}


@pytest.mark.root
def test_a_unit_whose_file_lies_elsewhere_is_masked_and_comes_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (BOT, TIMER):
        (host.machine.directory / name).unlink()
    load = host.machine._load
    monkeypatch.setattr(host.machine, "_load", lambda unit: "masked" if load(unit) == "masked" else "loaded")
    host.fence()
    assert host.units == {BOT: "/dev/null", TIMER: "/dev/null"}
    host.unfence()
    assert host.units == {}


@pytest.mark.root
@pytest.mark.parametrize("at", ["stop", "mask"])
def test_a_fence_that_was_cut_off_holds_and_is_finished_by_the_next(host: Host, at: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        fence(host.application, host.killed_at(at), unit_dir=host.machine.directory)
    with pytest.raises(TradekeepError, match="nothing is deployed: this host is fenced"):
        deploy(host.application, host.ports, DeployRequest(ref="main"))
    host.fence()
    assert host.machine.running == set()
    assert host.units[BOT] == "/dev/null"
    host.unfence()
    assert host.machine.running == {BOT, TIMER}


@pytest.mark.root
@pytest.mark.parametrize("at", ["unmask", "unfence", "start"])
def test_an_unfence_that_was_cut_off_is_finished(host: Host, at: str) -> None:
    before = host.units
    host.fence()
    with pytest.raises(KeyboardInterrupt):
        unfence(host.application, host.killed_at(at), unit_dir=host.machine.directory)
    if at == "start":
        recover(host.application, host.ports)
    else:
        host.unfence()
    assert host.units == before
    assert host.machine.running == {BOT, TIMER}


@pytest.mark.root
def test_a_service_that_does_not_come_back_is_for_recover(host: Host) -> None:
    host.fence()
    host.machine.refuses = {f"start {BOT}"}
    with pytest.raises(ServiceError):
        host.unfence()
    host.machine.refuses = set()
    recover(host.application, host.ports)
    assert host.machine.running == {BOT, TIMER}


@pytest.mark.root
def test_a_service_that_does_not_stop_leaves_the_fence_up(host: Host) -> None:
    host.machine.refuses = {f"stop {BOT}"}
    with pytest.raises(ServiceError):
        host.fence()
    assert (host.state / "fenced.json").exists()


@pytest.mark.root
def test_hazard_e_a_fenced_host_deploys_nothing(host: Host) -> None:
    host.fence(reason="moved")
    for dry_run in (True, False):
        with pytest.raises(TradekeepError) as caught:
            deploy(host.application, host.ports, DeployRequest(ref="main"), dry_run=dry_run)
        assert "nothing is deployed: this host is fenced since" in str(caught.value)
        assert "tradekeep unfence" in str(caught.value)


@pytest.mark.root
def test_hazard_e_a_fenced_host_restores_without_starting_anything(host: Host) -> None:
    archive = host.server.back_up()
    host.fence()
    host.server.database(rows=4).close()
    # Somebody started it by hand, in spite of the fence.
    host.machine.running = {BOT}
    host.machine.calls.clear()
    done = restore(host.application, host.ports, reference=str(archive))
    assert done.record["state"] == "restored"
    assert host.machine.running == set()
    assert not [call for call in host.machine.calls if call.startswith("start")]
    assert any("is fenced since" in text for text in host.server.notes)


@pytest.mark.root
@pytest.mark.parametrize("at", ["stopped", "exchanged"])
def test_hazard_e_a_recovery_on_a_fenced_host_starts_nothing(host: Host, at: str) -> None:
    archive = host.server.back_up()
    host.server.database(rows=4).close()
    before = listing(host.server.root)
    if at == "stopped":
        # Killed after the stop, before its transaction was on record.
        note_stop(host.state, operation="restore", snapshot=_snapshot(host))
        host.machine.running = set()
        host.fence()
    else:
        pid = os.fork()
        if pid == 0:
            restore(host.application, _dying(host, "start"), reference=str(archive))
            os._exit(0)
        os.waitpid(pid, 0)
        assert pending(host.state) is not None
        host.fence()
    host.machine.running = set()
    host.machine.calls.clear()
    recover(host.application, host.ports)
    assert not [call for call in host.machine.calls if call.startswith("start")]
    assert pending(host.state) is None
    assert {path: seen for path, seen in listing(host.server.root).items() if "-shm" not in path} == before
    host.unfence()
    assert host.machine.running == {BOT, TIMER}


def _snapshot(host: Host) -> Any:
    return [
        {
            "manager": "systemd",
            "units": [BOT],
            "supervisor_config": None,
            "stay_up_seconds": 0,
            "stop_timeout_seconds": 9,
            "running": [TIMER, BOT],
        }
    ]


def _dying(host: Host, at: str) -> Any:
    def step(name: str) -> None:
        if name == at:
            os._exit(9)

    return dataclasses.replace(host.ports, step=step)


@pytest.mark.root
def test_a_migration_to_a_fenced_host_leaves_it_down(host: Host, old: Any) -> None:
    host.fence()
    (host.server.root / FILLS).unlink()
    host.server.ports = host.ports
    refused = host.server.migrate(old.root, start=True)
    assert refused.status is ExitStatus.FAILED
    assert [text for text in refused.record["against"] if text.startswith("fence: ")]
    # Somebody started it by hand, in spite of the fence.
    host.machine.running = {BOT}
    host.machine.calls.clear()
    assert host.server.migrate(old.root).record["state"] == "migrated"
    assert not [call for call in host.machine.calls if call.startswith("start")]
    assert host.machine.running == set()


@pytest.mark.root
def test_the_tree_and_backups_go_on_and_say_so(host: Host) -> None:
    host.fence()
    assert host.server.back_up().exists()
    tree(host.application, host.ports, fix=True)
    assert any("is fenced since" in text for text in host.server.notes)


def test_a_bot_that_the_profile_does_not_name_is_still_seen(new: Any) -> None:
    script = f"import sys; f = open({str(new.root / 'state/live.log')!r}, 'a'); print(1, flush=True); sys.stdin.read()"
    bot = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert bot.stdout is not None
    try:
        bot.stdout.readline()
        done = fence(new.application, new.ports)
        assert done.status is ExitStatus.FINDINGS
        assert f"(process {bot.pid})" in done.record["writers"][0]
        assert "names no services" in done.record["notes"][0]
    finally:
        bot.communicate()
    assert fence(new.application, new.ports).status is ExitStatus.DONE


@pytest.mark.parametrize(
    ("services", "masked", "said"),
    [
        ({"manager": "supervisor", "units": ["bot"]}, False, "starts bot again when this host boots"),
        ({"manager": "supervisor", "units": ["all"]}, True, ""),
    ],
)
@pytest.mark.root
def test_programs_of_supervisor_that_no_mask_holds_are_named(
    host: Host, make_server: Callable[..., Any], services: Any, masked: bool, said: str
) -> None:
    profile = {"extends": "kalshi", "name": "kalshi", "services": [services]}
    server = make_server("supervised", profile, owner="root", group="root", become=True)
    (host.machine.directory / "supervisor.service").write_text("")
    ports = dataclasses.replace(server.ports, runner=host.machine)
    done = fence(server.application, ports, unit_dir=host.machine.directory)
    assert done.record["masked"] == (["supervisor.service"] if masked else [])
    assert said in " ".join(done.record["notes"])


def test_a_fence_that_cannot_be_read_is_a_fence(new: Any) -> None:
    (new.state / "fenced.json").write_text("{")
    with pytest.raises(NeedsPersonError, match="the fence cannot be read"):
        unfence(new.application, new.ports)
