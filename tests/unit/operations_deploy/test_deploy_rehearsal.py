# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dry run fails where the deploy itself would fail, in the same words, and writes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus, TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import current_account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import backup_plan
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.rehearsal import lacking_programs

from .conftest import World, listing
from .test_deploy_dependencies import STAND_IN


def said(world: World, **asked) -> tuple[ExitStatus, str]:
    """How a deploy fails: by an outcome, or by an error."""
    try:
        outcome = world.deploy(**asked)
    except TradekeepError as error:
        return error.exit_status, str(error)
    return outcome.status, "\n".join(outcome.lines)


@pytest.fixture
def bot(world: World) -> World:
    """A checkout whose environments are made by a stand-in for Python."""
    python = world.base / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (world.base / "version").write_text("cpython 3.11.2\n")
    world.settings["dependencies"] = {"python": str(python)}
    world.push({"requirements.txt": "one==1\n", "bot.py": "print(2)\n"})
    return world


def _no_python(world: World, _patch: pytest.MonkeyPatch) -> str:
    world.settings["dependencies"] = {"python": "python9.9"}
    return "cannot be run by"


def _no_venv(world: World, _patch: pytest.MonkeyPatch) -> str:
    python = world.base / "python"
    python.write_text(STAND_IN.replace('"-I -c "*) cat', '"-I -c "*ensurepip*) exit 1 ;;\n"-I -c "*) cat'))
    return "cannot make a virtual environment"


def _no_lock_file(world: World, _patch: pytest.MonkeyPatch) -> str:
    world.push({"requirements.txt": None})
    return "requirements.txt: is not in the commit"


def _no_included_file(world: World, _patch: pytest.MonkeyPatch) -> str:
    world.push({"requirements.txt": "-r further.list\n"})
    return "further.list: is not in the commit"


def _the_repository_itself(world: World, _patch: pytest.MonkeyPatch) -> str:
    world.push({"requirements.txt": "-e .\n"})
    return "would install a directory of the repository"


def _environments_elsewhere(world: World, _patch: pytest.MonkeyPatch) -> str:
    (world.live / ".tradekeep-venvs").symlink_to(world.base)
    return "is a symlink"


def _no_space_for_the_backup(world: World, patch: pytest.MonkeyPatch) -> str:
    world.settings["backup_first"] = "critical"
    patch.setattr(backup_plan, "space", lambda _place: SimpleNamespace(bytes_free=100, inodes_free=10**6))
    return "needed, 100"


def _first_files_for_data_elsewhere(world: World, _patch: pytest.MonkeyPatch) -> str:
    del world.settings["dependencies"]
    releases = world.base / "releases"
    world.settings.update(layout="releases", directory=str(releases), root=str(world.live))
    world.push({"paper_trading_outputs/first.csv": "a,b\n"})
    return "upstream brings first files"


@pytest.mark.parametrize(
    "break_it",
    [
        _no_python,
        _no_venv,
        _no_lock_file,
        _no_included_file,
        _the_repository_itself,
        _environments_elsewhere,
        _no_space_for_the_backup,
        _first_files_for_data_elsewhere,
    ],
)
def test_a_dry_run_finds_what_the_deploy_finds(bot, monkeypatch, break_it):
    word = break_it(bot, monkeypatch)
    before = listing(bot.base)
    plan = bot.deploy(dry_run=True)
    assert listing(bot.base) == before
    assert plan.status is not ExitStatus.DONE and plan.record["state"] == "refused"
    assert word in "\n".join(plan.lines)
    status, told = said(bot)
    assert (status, word in told) == (plan.status, True)
    assert bot.read("bot.py") == "print(1)\n"


def test_everything_that_is_in_the_way_is_told_at_once(bot, monkeypatch):
    _no_python(bot, monkeypatch)
    _no_space_for_the_backup(bot, monkeypatch)
    bot.write({"venv/bin/python": "by hand\n"})
    bot.push({"paper_trading_outputs/trades.jsonl": "upstream's\n"})
    outcome = bot.deploy(dry_run=True)
    assert len(outcome.record["obstacles"]) == 3 and len(outcome.record["collisions"]) == 1
    assert [line.partition(":")[0] for line in outcome.lines[:4]] == ["refused"] * 4


def test_a_lock_file_that_includes_others_is_no_obstacle(bot):
    bot.push({"requirements.txt": "-r further.list\n", "further.list": "two==2\n"})
    assert bot.deploy(dry_run=True).status is ExitStatus.DONE
    assert bot.deploy().record["state"] == "deployed"
    assert bot.deploy(dry_run=True).record["state"] == "unchanged"


def test_what_the_host_lacks_is_known_without_a_commit(bot, monkeypatch):
    def lacking() -> list[str]:
        return [str(error) for error in lacking_programs(bot.application, current_account(), bot.ports)]

    assert lacking() == []
    _no_venv(bot, monkeypatch)
    (problem,) = lacking()
    assert "cannot make a virtual environment" in problem
    found = check_configuration(bot.application, bot.ports).record["warnings"]
    assert [text for text in found if text.startswith("every deploy will fail: ") and problem in text]
    del bot.settings["dependencies"]
    assert lacking() == []
