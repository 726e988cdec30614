# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in the place of code and no deploy put there: a virtual environment made by hand, code copied by scp."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy import carry_out, layouts
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.dependencies import ENVIRONMENTS
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.records import DeployRecords
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover

from .conftest import FIRST, TRADES, World, listing
from .test_deploy_dependencies import STAND_IN


class Units:
    """One unit of the application; running is what runs of it, broken whether it does not stay up."""

    def __init__(self, *running: str, installed: tuple[str, ...] = ("bot.service",)) -> None:
        self.running = list(running)
        self.there = list(installed)
        self.broken = False

    def __call__(self, *_arguments: object) -> Units:
        return self

    def _entry(self, running: list[str]) -> list[dict[str, object]]:
        return [{"manager": "none", "units": ["bot.service"], "stay_up_seconds": 0, "running": list(running)}]

    def snapshot(self) -> list[dict[str, object]]:
        return self._entry(self.running)

    def installed(self) -> list[dict[str, object]]:
        return self._entry(self.there)

    def is_active(self) -> bool:
        return bool(self.running)

    def stop(self, snapshot: object) -> None:
        self.running = []

    def start(self, snapshot: list[dict[str, list[str]]]) -> None:
        self.running = [name for entry in snapshot for name in entry["running"]]

    def wait_until_steady(self, snapshot: object) -> None:
        """It is."""


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> Units:
    made = Units("bot.service")
    monkeypatch.setattr(carry_out, "services_of", made)
    return made


@pytest.fixture
def by_hand(world: World) -> World:
    """A checkout with an environment that was made in it by hand, and a profile that asks for one of its own."""
    python = world.base / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (world.base / "version").write_text("cpython 3.11.2\n")
    world.settings["dependencies"] = {"python": str(python)}
    world.push({"requirements.txt": "one==1\n", "bot.py": "print(2)\n"})
    world.write({"venv/bin/python": "by hand\n", "venv/pyvenv.cfg": "home = /usr/bin\n"})
    return world


def files(top: Path) -> dict[str, str]:
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def test_an_environment_made_by_hand_is_found_by_the_dry_run_and_adopted_when_asked(by_hand, units):
    before, made = listing(by_hand.live), files(by_hand.live / "venv")
    for dry_run in (True, False):
        outcome = by_hand.deploy(dry_run=dry_run)
        assert (outcome.status, outcome.record["state"]) == (ExitStatus.FAILED, "refused")
        assert "venv: is a real directory" in outcome.lines[0] and "--adopt" in outcome.lines[0]
    assert listing(by_hand.live) == before
    assert units.running == ["bot.service"]
    assert by_hand.deploy(dry_run=True, adopt=True).status is ExitStatus.DONE
    assert listing(by_hand.live) == before
    outcome = by_hand.deploy(adopt=True)
    assert (outcome.status, outcome.record["state"]) == (ExitStatus.DONE, "deployed")
    link = by_hand.live / "venv"
    assert link.is_symlink() and (link / "bin/installed").exists()
    (kept,) = outcome.record["set_aside"]
    assert kept.startswith(str(by_hand.live / ENVIRONMENTS)) and files(Path(kept)) == made
    assert any(kept in line for line in outcome.lines)
    assert not by_hand.deploy().changed and not by_hand.deploy(adopt=True).changed
    by_hand.push({"requirements.txt": "one==2\n"})
    by_hand.deploy()
    assert files(Path(kept)) == made


@pytest.mark.parametrize("at", ["before_start", "after_start"])
def test_an_adopted_environment_comes_back_where_the_deploy_fails(by_hand, units, at):
    made = files(by_hand.live / "venv")
    by_hand.settings["hooks"] = [{"at": at, "command": ["false"]}]
    assert by_hand.deploy(adopt=True).record["state"] == "undone"
    assert not (by_hand.live / "venv").is_symlink() and files(by_hand.live / "venv") == made
    assert units.running == ["bot.service"]


class Killed(BaseException):
    """As good as SIGKILL: not even ``except Exception`` sees it."""


def test_an_adoption_that_was_cut_off_is_finished_by_recover(by_hand):
    def kill(step: str) -> None:
        if step == "exchanged":
            raise Killed

    made = files(by_hand.live / "venv")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import exchange_run

        patch.setattr(exchange_run, "_put_back", lambda *_arguments: None)
        by_hand.deploy(adopt=True, step=kill)
    assert recover(by_hand.application, by_hand.ports).record["data"] == "old"
    assert not (by_hand.live / "venv").is_symlink() and files(by_hand.live / "venv") == made


def test_hazard_d14_an_environment_that_made_way_outlives_a_deploy_that_was_cut_off_once_it_stood(by_hand):
    made = files(by_hand.live / "venv")
    commit = DeployRecords.commit

    def cut_off(*arguments: object) -> None:
        commit(*arguments)
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(DeployRecords, "commit", cut_off)
        by_hand.deploy(adopt=True)
    assert recover(by_hand.application, by_hand.ports).record["data"] == "new"
    assert (by_hand.live / "venv").is_symlink()
    (kept,) = (by_hand.live / ENVIRONMENTS).glob("replaced-*")
    assert files(kept) == made


def test_an_environment_that_cannot_be_kept_beside_the_others_is_refused_by_the_dry_run(by_hand, units, monkeypatch):
    monkeypatch.setattr(layouts, "_filesystem", lambda path: path.name)
    before = listing(by_hand.live)
    for dry_run in (True, False):
        outcome = by_hand.deploy(adopt=True, dry_run=dry_run)
        assert outcome.record["state"] == "refused"
        assert "lies on another filesystem" in outcome.lines[0]
    assert listing(by_hand.live) == before


def test_health_is_not_asked_of_what_was_not_started(by_hand, units):
    """Somebody stopped the bot before the deploy: it stays down, and nothing can be healthy."""
    units.running = []
    shutil.move(by_hand.live / "venv", by_hand.live / "venv.old")
    by_hand.settings["health"] = [{"command": ["false"], "timeout_seconds": 1}]
    outcome = by_hand.deploy()
    assert (outcome.status, outcome.record["state"]) == (ExitStatus.DONE, "deployed")
    assert outcome.record["health"] == [] and units.running == []
    (note,) = [note for note in outcome.record["notes"] if "did not run before" in note]
    assert "bot.service" in note and "not asked" in note


@pytest.mark.parametrize("broken", ["services", "code"])
def test_a_first_deploy_that_fails_has_no_old_code_to_be_healthy(tmp_path, units, broken):
    world = World(tmp_path, health=[{"command": ["false"], "timeout_seconds": 0.1}])
    if broken == "services":
        units.running = []
    else:
        units.snapshot = units.installed = list  # nobody but the person starts it
    outcome = world.deploy()
    assert (outcome.status, outcome.record["state"]) == (ExitStatus.FAILED, "undone")
    assert "there was no code before" in "\n".join(outcome.lines)
    assert world.code() == {}
    assert not recover(world.application, world.ports).changed


def test_old_code_that_ran_and_is_not_healthy_needs_a_person(world, units):
    world.push({"bot.py": "print(2)\n"})
    world.settings["health"] = [{"command": ["false"], "timeout_seconds": 0.1}]
    assert world.deploy().status is ExitStatus.NEEDS_PERSON


@pytest.fixture
def copied(tmp_path: Path) -> World:
    """Code that was copied here by hand, without git, one file of it edited since; and data beside it."""
    world = World(tmp_path)
    world.write({**FIRST, "bot.py": "print('edited')\n", TRADES: '{"n": 1}\n', "notes.txt": "mine\n"})
    return world


@pytest.mark.parametrize("policy", ["fail", "keep_live", "seed_if_absent"])
def test_no_commit_is_recorded_that_is_not_on_the_disk(copied, policy):
    before = listing(copied.live)
    for dry_run in (True, False):
        outcome = copied.deploy(on_collision=policy, dry_run=dry_run)
        assert (outcome.status, outcome.record["state"]) == (ExitStatus.FAILED, "refused")
        assert "--adopt" in outcome.lines[0] and "keep_live" not in outcome.lines[0]
        assert [item["path"] for item in outcome.record["collisions"]] == ["bot.py"]
    assert listing(copied.live) == before
    assert DeployRecords(copied.application).standing() is None


def test_code_that_was_copied_is_adopted_and_what_differs_is_kept_aside(copied):
    plan = copied.deploy(adopt=True, dry_run=True)
    assert plan.record["changes"]["paths"] == {"replace": ["bot.py"]}
    outcome = copied.deploy(adopt=True)
    assert outcome.record["state"] == "deployed"
    assert copied.code() == {**FIRST, TRADES: '{"n": 1}\n', "notes.txt": "mine\n"}
    assert outcome.record["quarantined"] == ["bot.py"]
    kept = next((copied.state / "deploy/records").glob("*/quarantine/bot.py"))
    assert kept.read_text() == "print('edited')\n"


def test_what_the_bot_writes_is_never_adopted(copied):
    """Databases and logs, what upstream ignores itself, and the components' paths: all of it is data."""
    paths = ["state.bin", "trades.db", TRADES]
    copied.push({".gitignore": "*.bin\n", **dict.fromkeys(paths, "upstream's\n")})
    written = dict.fromkeys(paths, "live\n")
    copied.write({".gitignore": "*.bin\n", **written})
    outcome = copied.deploy(adopt=True)
    assert [item["path"] for item in outcome.record["collisions"]] == sorted(written)
    assert copied.deploy(adopt=True, on_collision="keep_live").changed
    assert {path: copied.read(path) for path in written} == written


def test_a_symlink_and_what_is_too_large_to_be_kept_aside_are_not_adopted(copied, monkeypatch):
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy import code_plan

    monkeypatch.setattr(code_plan, "LARGEST_EDIT", 5)
    copied.write({"lib/a.py": "a=2\n"})
    (copied.live / "lib/b.py").unlink()
    (copied.live / "lib/b.py").symlink_to("../elsewhere.py")
    outcome = copied.deploy(adopt=True)
    assert outcome.record["state"] == "refused"
    assert [item["path"] for item in outcome.record["collisions"]] == ["bot.py", "lib/b.py"]
    assert all("move it away" in item["what"] for item in outcome.record["collisions"])


def test_a_copy_with_another_mode_is_the_same_code(copied):
    copied.write({"bot.py": FIRST["bot.py"]})
    (copied.live / "lib/a.py").chmod(0o755)
    outcome = copied.deploy()
    assert (outcome.record["state"], outcome.record["quarantined"]) == ("deployed", [])


def test_what_an_earlier_version_left_alone_can_be_adopted_later(world):
    """It recorded the commit although a file of it was not on the disk."""
    world.write({"config.py": "mine\n"})
    world.push({"config.py": "upstream's\n"})
    world.deploy(on_collision="keep_live")
    assert world.read("config.py") == "mine\n"
    outcome = world.deploy(adopt=True)
    assert outcome.record["quarantined"] == ["config.py"]
    assert world.read("config.py") == "upstream's\n"
