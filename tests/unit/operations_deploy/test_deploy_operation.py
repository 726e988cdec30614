# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys of a real repository into a real checkout."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Encryption
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ConfigurationError,
    ExitStatus,
    TradekeepError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy import carry_out
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.deploy import deploy_log
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.records import DeployRecords
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.request import DeployRequest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover

from .conftest import FIRST, TRADES, World, listing

DATA = {TRADES: '{"n": 1}\n', "logs/bot.log": "started\n"}


def test_a_checkout_is_adopted_and_the_code_becomes_the_commit(world):
    inode = (world.live / TRADES).stat().st_ino
    second = world.push({"bot.py": "print(2)\n", "lib/b.py": None, "lib/new/c.py": "c = 1\n"})
    outcome = world.deploy()
    assert (outcome.changed, outcome.record["state"]) == (True, "deployed")
    assert (outcome.record["old_commit"], outcome.record["new_commit"]) == (world.first, second)
    wanted = {**FIRST, "bot.py": "print(2)\n", "lib/new/c.py": "c = 1\n"}
    del wanted["lib/b.py"]
    assert world.code() == {**wanted, **DATA}
    assert (world.live / TRADES).stat().st_ino == inode
    assert outcome.record["proof"]["verdict"] == "preserved"
    assert world.git("rev-parse", "HEAD", at=world.live) == second
    assert world.git("status", "--porcelain", at=world.live) == ""


def test_a_second_deploy_does_nothing(world):
    world.push({"bot.py": "print(2)\n"})
    world.deploy()
    before = listing(world.live)
    steps = []
    outcome = world.deploy(step=steps.append)
    assert (outcome.changed, outcome.record["state"]) == (False, "unchanged")
    assert "stop" not in steps
    assert listing(world.live) == before


def test_rollbacks_go_back_one_after_the_other(world):
    second = world.push({"bot.py": "print(2)\n"})
    world.deploy()
    world.push({"bot.py": "print(3)\n", "lib/c.py": "c = 1\n"})
    world.deploy()
    outcome = world.rollback()
    assert (outcome.record["state"], outcome.record["new_commit"]) == ("rolled_back", second)
    assert world.code() == {**FIRST, "bot.py": "print(2)\n", **DATA}
    assert world.rollback().record["new_commit"] == world.first
    assert world.code() == {**FIRST, **DATA}
    with pytest.raises(UsageError):
        world.rollback()


def test_a_rollback_can_ask_for_the_commit_that_it_undoes(world):
    world.push({"bot.py": "print(2)\n"})
    world.deploy()
    with pytest.raises(UsageError):
        world.rollback(expected=world.first)
    assert world.read("bot.py") == "print(2)\n"


def test_a_plan_writes_nothing_and_finds_what_the_deploy_does(world):
    world.push({"bot.py": "print(2)\n", "lib/b.py": None})
    before = listing(world.base)
    plan = world.deploy(dry_run=True)
    assert listing(world.base) == before
    assert plan.changed
    assert plan.record["changes"]["paths"] == {"replace": ["bot.py"], "remove": ["lib/b.py"]}
    assert world.deploy().record["changes"]["paths"] == plan.record["changes"]["paths"]


def test_a_refused_collision_changes_nothing_and_is_named(world):
    world.push({TRADES: "upstream's\n", "bot.py": "print(2)\n"})
    before = listing(world.live)
    for dry_run in (True, False):
        outcome = world.deploy(dry_run=dry_run)
        assert (outcome.status, outcome.changed) == (ExitStatus.FAILED, False)
        assert [item["path"] for item in outcome.record["collisions"]] == [TRADES]
        assert any(TRADES in line for line in outcome.lines)
    assert listing(world.live) == before


@pytest.mark.parametrize("policy", ["keep_live", "seed_if_absent"])
def test_a_kept_collision_stays_kept_through_deploys_and_rollbacks(world, policy):
    world.push({TRADES: "upstream's\n", "paper_trading_outputs/new.csv": "a,b\n"})
    world.deploy(on_collision=policy)
    assert world.read(TRADES) == DATA[TRADES]
    assert (world.live / "paper_trading_outputs/new.csv").exists() == (policy == "seed_if_absent")
    assert not world.deploy(on_collision=policy).changed
    world.push({TRADES: None})
    world.deploy(on_collision=policy)
    assert world.read(TRADES) == DATA[TRADES]
    world.rollback(on_collision=policy)
    world.rollback(on_collision=policy)
    assert world.read(TRADES) == DATA[TRADES]


def test_what_was_edited_here_is_replaced_and_kept_aside(world):
    world.push({"bot.py": "print(2)\n", "lib/b.py": None})
    world.write({"bot.py": "print('hotfix')\n", "lib/b.py": "b = 'mine'\n"})
    done = world.deploy()
    record = done.record
    assert world.read("bot.py") == "print(2)\n"
    assert sorted(record["quarantined"]) == ["bot.py", "lib/b.py"]
    kept = next((world.state / "deploy/records").glob("*/quarantine"))
    assert (kept / "bot.py").read_text() == "print('hotfix')\n"
    assert (kept / "lib/b.py").read_text() == "b = 'mine'\n"
    assert stat.S_IMODE((kept / "bot.py").stat().st_mode) == 0o600
    assert {f"  {kept}/bot.py", f"  {kept}/lib/b.py"} <= set(done.lines), "a person is told where"
    assert f"kept aside: {record['rescued']['differences']}" in done.lines
    assert "hotfix" in Path(record["rescued"]["differences"]).read_text()


def test_local_commits_stay_reachable(world):
    world.write({"lib/mine.py": "m = 1\n"})
    world.git("add", "--all", at=world.live)
    world.git("commit", "--quiet", "--message", "local", at=world.live)
    mine = world.git("rev-parse", "HEAD", at=world.live)
    world.push({"bot.py": "print(2)\n"})
    record = world.deploy().record
    assert mine in record["rescued"]["refs"].values()
    assert mine in world.git("for-each-ref", "refs/rescue", at=world.live)
    assert not (world.live / "lib/mine.py").exists()


def test_compiled_code_of_the_deploy_before_is_never_taken_for_the_new(world):
    """Python compares whole seconds and sizes; deploys can follow each other faster than that."""
    seen = []
    for number in range(4):
        world.push({"lib/a.py": f"a = {number}\n"})
        world.deploy()
        seen.append(int((world.live / "lib/a.py").stat().st_mtime))
        command = [sys.executable, "-c", "import a; print(a.a)"]
        said = subprocess.run(command, cwd=world.live / "lib", capture_output=True, text=True, check=True)
        assert said.stdout.strip() == str(number)
    assert seen == sorted(set(seen))


def test_modes_and_executables(world):
    (world.live / "bot.py").chmod(0o600)
    world.push({"bot.py": "print(2)\n", "run.sh": "#!/bin/sh\n"})
    (world.upstream / "run.sh").chmod(0o755)
    world.push({})
    world.deploy()
    assert stat.S_IMODE((world.live / "bot.py").stat().st_mode) == 0o600
    assert stat.S_IMODE((world.live / "run.sh").stat().st_mode) == 0o755


def test_a_directory_vanishes_with_its_code_but_not_with_its_placeholder(world):
    world.push({"out/.gitkeep": "", "tool/x.py": "x\n"})
    world.deploy()
    world.push({"out/.gitkeep": None, "tool/x.py": None})
    world.deploy()
    assert (world.live / "out").is_dir()
    assert not (world.live / "tool").exists()


def test_files_and_directories_may_change_places(world):
    world.push({"thing": "file\n", "place/x.py": "x\n"})
    world.deploy()
    (world.upstream / "thing").unlink()
    (world.upstream / "place/x.py").unlink()
    (world.upstream / "place").rmdir()
    world.push({"thing/y.py": "y\n", "place": "file now\n"})
    world.deploy()
    assert (world.read("thing/y.py"), world.read("place")) == ("y\n", "file now\n")
    world.rollback()
    assert (world.read("thing"), world.read("place/x.py")) == ("file\n", "x\n")


def failed(outcome, state: str, word: str):
    """A deploy that did not stand says so in its lines, its status and its record, which is also kept."""
    assert not outcome.changed
    assert outcome.status in (ExitStatus.FAILED, ExitStatus.NEEDS_PERSON)
    assert outcome.record["state"] == state
    assert word in outcome.lines[0] and word in outcome.record["error"]
    assert Path(outcome.record["record"]).exists()
    return outcome


def hook(at: str, *command: str) -> dict:
    return {"at": at, "command": list(command)}


@pytest.mark.parametrize("at", ["before_fetch", "after_fetch"])
def test_a_hook_that_fails_before_anything_is_done_refuses_the_deploy(world, at):
    world.push({"bot.py": "print(2)\n"})
    world.settings["hooks"] = [hook(at, "sh", "-c", "echo no good; exit 3")]
    with pytest.raises(TradekeepError, match="no good"):
        world.deploy()
    assert world.code() == {**FIRST, **DATA}


def test_hooks_run_in_order_and_know_the_commits(world):
    said = world.base / "said"
    steps = ["before_fetch", "after_fetch", "before_stop", "after_stop", "before_start", "after_start", "after_commit"]
    script = f"echo $TRADEKEEP_STEP $TRADEKEEP_OLD_COMMIT $TRADEKEEP_NEW_COMMIT >> {said}"
    world.settings["hooks"] = [hook(step, "sh", "-c", script) for step in steps]
    second = world.push({"bot.py": "print(2)\n"})
    record = world.deploy().record
    lines = [line.split() for line in said.read_text().splitlines()]
    assert [line[0] for line in lines] == steps == [item["at"] for item in record["hooks"]]
    assert all(line[1:] == [world.first, second] for line in lines[1:])


def test_a_deploy_that_is_killed_is_on_record(world):
    class Killed(BaseException):
        pass

    def kill(step):
        if step == "export":
            raise Killed

    world.push({"bot.py": "print(2)\n"})
    before = DeployRecords.write
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        # What SIGKILL leaves: the record of the beginning and no other.
        written = []
        patch.setattr(DeployRecords, "write", lambda *a: before(*a) if not written and not written.append(1) else a[0])
        world.deploy(step=kill)
    assert deploy_log(world.application, world.ports).record["deploys"][0]["state"] == "running"
    recover(world.application, world.ports)
    assert deploy_log(world.application, world.ports).record["deploys"][0]["state"] == "cut_off"


def test_hazard_b4_a_deploy_of_a_wrong_clock_does_not_come_before_all_later_ones(world):
    deployed = world.deploy()
    records = DeployRecords(world.application)
    ahead = datetime.now(timezone.utc) + timedelta(days=400)
    records.write(ahead, "ab" * 8, {**deployed.record, "id": "ab" * 8, "at": ahead.isoformat()})
    world.push({"bot.py": "print(2)\n"})
    later = world.deploy()
    told = deploy_log(world.application, world.ports)
    ids = [later.record["id"], deployed.record["id"], "ab" * 8]
    assert [item["id"] for item in told.record["deploys"]] == ids
    assert told.lines[-1].startswith("note: passed over, as dated in the future: 1 record; ")


@pytest.mark.parametrize("at", ["before_stop", "after_stop", "before_start", "after_start"])
def test_a_failing_hook_leaves_the_old_code(world, at):
    world.push({"bot.py": "print(2)\n", "lib/new.py": "n\n"})
    world.settings["hooks"] = [hook(at, "sh", "-c", "echo no good; exit 3")]
    failed(world.deploy(), "undone", "no good")
    assert "no good" in deploy_log(world.application, world.ports).lines[1], "why it failed"
    assert world.code() == {**FIRST, **DATA}
    assert deploy_log(world.application, world.ports).record["deploys"][0]["state"] == "undone"
    assert not recover(world.application, world.ports).changed
    world.settings["hooks"] = []
    assert world.deploy().record["state"] == "deployed"


def test_a_release_that_is_not_healthy_is_rolled_back_and_the_old_one_checked(world):
    world.push({"bot.py": "raise SystemExit('broken')\n"})
    check = {"command": ["python3", str(world.live / "bot.py")], "timeout_seconds": 0.5}
    world.settings["health"] = [check]
    failed(world.deploy(), "undone", "not healthy")
    assert world.read("bot.py") == FIRST["bot.py"]
    assert deploy_log(world.application, world.ports).record["deploys"][0]["state"] == "undone"


def test_a_rollback_that_does_not_help_is_a_state_of_its_own(world):
    world.push({"bot.py": "print(2)\n"})
    world.settings["health"] = [{"command": ["false"], "timeout_seconds": 0.2}]
    assert failed(world.deploy(), "rollback_failed", "not healthy").status is ExitStatus.NEEDS_PERSON
    assert world.read("bot.py") == FIRST["bot.py"]
    assert deploy_log(world.application, world.ports).record["deploys"][0]["state"] == "rollback_failed"


def test_damage_during_the_exchange_fails_the_proof_and_the_deploy(world):
    world.push({"bot.py": "print(2)\n"})

    def vandal(step):
        if step == "exchange":
            (world.live / TRADES).write_text("")

    failed(world.deploy(step=vandal), "undone", "trades")
    assert world.read("bot.py") == FIRST["bot.py"]
    record = deploy_log(world.application, world.ports).record["deploys"][0]
    assert record["proof"]["verdict"] == "damaged"


def test_new_code_that_ruins_data_when_it_starts_is_rolled_back(world):
    world.push({"bot.py": "print(2)\n"})
    world.settings["hooks"] = [hook("after_start", "sh", "-c", f": > {world.live / TRADES}")]
    failed(world.deploy(), "undone", "damages data")
    assert world.read("bot.py") == FIRST["bot.py"]


def test_a_bot_that_goes_on_writing_is_no_damage(world):
    world.push({"bot.py": "print(2)\n"})

    def bot(step):
        with (world.live / TRADES).open("a") as log:
            log.write('{"n": 2}\n')
        world.write({"paper_trading_outputs/state.json": json.dumps({"step": step})})
        if step == "exchange" and not (world.live / "logs/bot.log.1").exists():
            (world.live / "logs/bot.log").rename(world.live / "logs/bot.log.1")
            world.write({"logs/bot.log": "rotated\n"})

    outcome = world.deploy(step=bot)
    assert outcome.record["proof"]["verdict"] == "preserved"


def test_only_commits_of_allowed_branches(world):
    world.git("checkout", "--quiet", "-b", "wild")
    wild = world.push({"bot.py": "wild\n"})
    world.settings["branches"] = ["main"]
    with pytest.raises(TradekeepError, match="main"):
        world.deploy(wild)
    assert world.read("bot.py") == FIRST["bot.py"]


def test_hazard_d8_a_filter_that_only_the_checkout_knows_is_refused_by_name(world):
    """The mirror would deploy what it reads as it lies in the repository."""
    world.git("config", "filter.rot.smudge", "tr a-z b-za", at=world.live)
    world.push({".gitattributes": "*.secret filter=rot\n", "key.secret": "abc\n"})
    before = listing(world.live)
    for dry_run in (True, False):
        with pytest.raises(TradekeepError, match=r"key\.secret: goes through the filter rot"):
            world.deploy(dry_run=dry_run)
    assert listing(world.live) == before
    world.git("config", "--unset", "filter.rot.smudge", at=world.live)
    assert world.deploy().changed


def test_the_commit_is_resolved_once(world):
    """A push that arrives after the fetch is for the next deploy."""
    second = world.push({"bot.py": "print(2)\n"})

    def push_again(step):
        if step == "export":
            world.push({"bot.py": "print(3)\n"})

    assert world.deploy(step=push_again).record["new_commit"] == second
    assert world.read("bot.py") == "print(2)\n"


def test_a_first_deploy_into_nothing(tmp_path):
    world = World(tmp_path)
    outcome = world.deploy()
    assert outcome.record["old_commit"] is None
    assert world.code() == FIRST
    assert not world.deploy().changed


def test_what_must_be_there_first_is_listed_with_its_path(tmp_path):
    world = World(tmp_path, requires=["keys/exchange.pem"])
    outcome = world.deploy()
    assert outcome.record["state"] == "waiting"
    assert outcome.record["missing"] == [str(world.live / "keys/exchange.pem")]
    assert any("0600" in line and "keys/exchange.pem" in line for line in outcome.lines)
    world.write({"keys/exchange.pem": "key\n"})
    assert world.deploy().record["state"] == "deployed"
    assert not world.deploy().changed


def test_a_backup_comes_first_and_is_not_the_latest(world):
    world.settings["backup_first"] = "critical"
    world.settings["keep_releases"] = 1
    for number in range(2, 4):
        world.push({"bot.py": f"print({number})\n"})
        record = world.deploy().record
        assert os.path.exists(record["backup"])
    names = sorted(path.name for path in world.base.joinpath("backup_dir").glob("*.tar.gz"))
    assert len(names) == 1 and "before_deploy" in names[0]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, UsageError),
        ({"ref": "main", "rollback": True}, UsageError),
        ({"ref": "main", "expected": "abc"}, UsageError),
    ],
)
def test_requests_that_make_no_sense(fields, error):
    with pytest.raises(error):
        DeployRequest(**fields)


def test_a_repository_is_needed(world):
    del world.settings["repository"]
    with pytest.raises(ConfigurationError, match="git fetches"):
        world.deploy()


@pytest.mark.parametrize("url", ["ext::sh -c evil", "--upload-pack=evil", "https://a:b@example.com/x"])
def test_addresses_that_are_refused(world, url):
    with pytest.raises(ConfigurationError):
        world.deploy(repository=url)


def test_state_inside_the_checkout_is_refused(world):
    world.live = world.base
    with pytest.raises(ConfigurationError):
        world.deploy()


def test_health_is_not_asked_of_what_is_left_down(tmp_path):
    """A new server gets its data after its code: until then nothing runs that could be healthy."""
    world = World(tmp_path, health=[{"command": ["false"], "timeout_seconds": 1}])
    assert world.deploy(leave_down=True).record["state"] == "deployed"


def test_what_is_left_down_waits_for_no_file(tmp_path):
    """The keys come with the data; a second run must not start again what runs since."""
    world = World(tmp_path, requires=["keys/exchange.pem"])
    assert world.deploy(leave_down=True).record["state"] == "deployed"
    world.write({"keys/exchange.pem": "key\n"})
    assert not world.deploy().changed


class OneUnit:
    """A unit that is installed and does not run; what is started is remembered."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def __call__(self, *_arguments: object) -> OneUnit:
        return self

    def _entry(self, running: list[str]) -> list[dict[str, object]]:
        return [{"manager": "none", "units": ["bot.service"], "stay_up_seconds": 0, "running": running}]

    def snapshot(self) -> list[dict[str, object]]:
        return self._entry(self.started)

    def installed(self) -> list[dict[str, object]]:
        return self._entry(["bot.service"])

    def is_active(self) -> bool:
        return bool(self.started)

    def stop(self, snapshot: object) -> None:
        self.started = []

    def start(self, snapshot: list[dict[str, list[str]]]) -> None:
        self.started = [name for entry in snapshot for name in entry["running"]]

    def wait_until_steady(self, snapshot: object) -> None:
        """It is."""


@pytest.mark.parametrize("left_down", [True, False])
def test_hazard_c5_no_bot_starts_before_its_data_is_there(tmp_path, monkeypatch, left_down):
    unit = OneUnit()
    monkeypatch.setattr(carry_out, "services_of", unit)
    World(tmp_path).deploy(leave_down=left_down)
    assert unit.started == ([] if left_down else ["bot.service"])


class Sealed(World):
    """Whose backups are encrypted to a key that is not there."""

    @property
    def application(self):
        return dataclasses.replace(
            super().application, encryption=Encryption(recipients=("/nonexistent/operator.asc",))
        )


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_a_deploy_whose_backup_cannot_be_encrypted_is_refused_by_the_dry_run_too(tmp_path):
    world = Sealed(tmp_path, backup_first="all")
    world.clone()
    world.push({"bot.py": "print('new')\n"})
    for dry_run in (True, False):
        outcome = world.deploy(dry_run=dry_run)
        assert (outcome.status, world.read("bot.py")) == (ExitStatus.FAILED, FIRST["bot.py"])
        assert "recipient" in "\n".join(outcome.lines)
