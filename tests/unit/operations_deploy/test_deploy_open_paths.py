# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data that lies beside the code at the top of a checkout, named by patterns: every operation agrees on what it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tarfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import (
    parse_configuration,
    render_configuration,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError, ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.claims import holds_data
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.preserved import Preserved
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.working_copy import (
    gitignore,
    tracked_data,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.scan import scan
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.uncovered import find_uncovered
from ansible_collections.tradekeep.ops.plugins.module_utils.core.patterns import classify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

from .conftest import FIRST, World

DATA = {
    "data-2024/a.json": "{}\n",
    "data-2025/deep/b.json": '{"b": 1}\n',
    "bots/one/state/s.json": "{}\n",
    "bots/two/state/s.json": "{}\n",
}
NO_DATA = {
    "data-2025/__pycache__/x.pyc": "compiled\n",
    "data-2025/.venv/x": "by hand\n",
    "data-old/a.json": "excluded\n",
    "venv/bin/python": "by hand\n",
    "node_modules/x.sqlite/y": "cache\n",
    "lib/sample.sqlite": "below a directory of code\n",
    "bots/one/bot.py": "print('one')\n",
}
COMPONENTS = {
    "databases": {"paths": ["*.sqlite"], "critical": True},
    "state": {"paths": ["data-*", "bots/*/state"], "exclude": ["data-old"], "file_mode": "0640"},
}


class Beside(World):
    """The root of the data is the checkout."""

    components = COMPONENTS

    @property
    def application(self):
        paths = {name: str(self.base / name) for name in ("state_dir", "backup_dir", "config_dir", "bin_dir")}
        profile = {"name": "beside", "components": self.components, "deploy": self.settings}
        return resolve_application(profile, root=str(self.live), become=False, **paths)


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    made = Beside(tmp_path)
    made.git("clone", "--quiet", str(made.upstream), str(made.live), at=made.base)
    made.write({**DATA, **NO_DATA})
    with sqlite3.connect(made.live / "fills.sqlite") as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE fills (n)")
        database.executemany("INSERT INTO fills VALUES (?)", [(n,) for n in range(50)])
    database.close()
    return made


def everything(top: Path) -> list[str]:
    return [str(path.relative_to(top)) for path in top.rglob("*") if path.is_file() and ".git" not in path.parts]


def test_what_is_scanned_is_what_the_profile_says_of_each_path(beside: Beside) -> None:
    application = beside.application
    found = {item.path: item.component for item in scan(application) if item.type == "file"}
    assert found == {"fills.sqlite": "databases", **dict.fromkeys(DATA, "state")}
    by_path = {path: classify(application.profile, path) for path in everything(beside.live)}
    assert {path: item.component.name for path, item in by_path.items() if item is not None} == found
    preserved = Preserved(application)
    assert {path for path in by_path if preserved.reason(path)} == set(found)
    assert preserved.reason("fills.sqlite-wal") == "component databases"
    assert preserved.holds("bots") and preserved.holds("bots/three") and not preserved.holds("lib")


def test_nothing_that_a_pattern_names_is_uncovered(beside: Beside) -> None:
    """Not even what the component excludes: that is said in so many words."""
    beside.write({"data-old/old.sqlite": "excluded\n", "cache/new.sqlite": "nobody names it\n"})
    found = find_uncovered(beside.application, beside.ports.clock)
    assert found.databases == ["cache/new.sqlite", "lib/sample.sqlite"]
    assert holds_data(beside.application)
    for path in (*beside.live.glob("data-*"), *beside.live.glob("*.sqlite"), beside.live / "bots"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not holds_data(beside.application)


def test_backup_and_restore_leave_the_code_alone(beside: Beside) -> None:
    made = backup(beside.application, beside.ports)
    with tarfile.open(made.record["backup"]["path"]) as archive:
        held = {item.name for item in archive if item.isfile()}
    assert held - {"MANIFEST.json"} == {"fills.sqlite", *DATA}
    shutil.rmtree(beside.live / "data-2025")
    (beside.live / "fills.sqlite").unlink()
    beside.write({"data-2026/new.json": "{}\n", "bot.py": "print('edited')\n"})
    code = {path: beside.read(path) for path in ("bot.py", "lib/sample.sqlite", "data-old/a.json")}
    assert restore(beside.application, beside.ports, reference="latest").status is ExitStatus.DONE
    assert {path: beside.read(path) for path in DATA} == DATA
    assert not (beside.live / "data-2026/new.json").exists()
    assert {path: beside.read(path) for path in code} == code
    assert not restore(beside.application, beside.ports, reference="latest").changed


def test_the_tree_mends_the_data_and_not_the_code(beside: Beside) -> None:
    (beside.live / "data-2024/a.json").chmod(0o666)
    (beside.live / "bot.py").chmod(0o666)
    tree(beside.application, beside.ports, fix=True)
    modes = {path: stat.S_IMODE((beside.live / path).stat().st_mode) for path in ("data-2024/a.json", "bot.py")}
    assert modes == {"data-2024/a.json": 0o640, "bot.py": 0o666}
    assert not tree(beside.application, beside.ports, fix=True).changed


def test_a_deploy_changes_code_alone(beside: Beside) -> None:
    beside.push({"bot.py": "print(2)\n", "bots/one/bot.py": "print('one')\n"})
    outcome = beside.deploy()
    assert outcome.record["state"] == "deployed"
    assert beside.read("bot.py") == "print(2)\n"
    counts = outcome.record["proof"]["components"]
    assert (counts["databases"]["files"], counts["state"]["files"]) == (1, len(DATA))
    beside.push({"data-2025/deep/b.json": "upstream's\n", "data-2027/c.json": "upstream's\n"})
    refused = beside.deploy()
    assert [item["path"] for item in refused.record["collisions"]] == ["data-2025/deep/b.json"]
    beside.deploy(on_collision="keep_live")
    assert beside.read("data-2025/deep/b.json") == DATA["data-2025/deep/b.json"]
    assert not (beside.live / "data-2027").exists()


def test_git_is_told_of_the_patterns(beside: Beside) -> None:
    copy = beside.base / "copy"
    beside.git("clone", "--quiet", str(beside.upstream), str(copy), at=beside.base)
    gitignore(beside.application, beside.ports, path=str(copy))
    lines = (copy / ".gitignore").read_text().splitlines()
    assert {"/*.sqlite", "/*.sqlite-wal", "/data-*", "/bots/*/state"} <= set(lines)
    assert not gitignore(beside.application, beside.ports, path=str(copy)).changed
    beside.push({"data-2025/deep/b.json": "upstream's\n", "lib/sample.sqlite": "code\n"})
    beside.git("pull", "--quiet", at=copy)
    tracked = tracked_data(beside.application, beside.ports, path=str(copy)).record["tracked"]
    assert [item["path"] for item in tracked] == ["data-2025/deep/b.json"]


def test_data_of_another_server_is_known_by_its_patterns(beside: Beside) -> None:
    source = beside.base / "source"
    shutil.copytree(beside.live, source, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    for path in ("data-2024", "data-2025", "fills.sqlite", "bots"):
        shutil.rmtree(beside.live / path) if (beside.live / path).is_dir() else (beside.live / path).unlink()
    application = beside.application
    Path(application.config_dir).mkdir()
    Path(application.config_file).write_text(render_configuration(application), encoding="utf-8")
    assert parse_configuration(render_configuration(application), path="x").profile == application.profile
    outcome = migrate(application, beside.ports, source=str(source))
    assert outcome.status is ExitStatus.DONE, outcome.lines
    assert {path: beside.read(path) for path in DATA} == DATA
    assert (beside.live / "fills.sqlite").exists() and not (beside.live / "bots/one/bot.py").exists()


def test_a_component_that_names_a_path_has_it_before_a_pattern(beside: Beside) -> None:
    beside.components = {**COMPONENTS, "keys": {"paths": ["data-2024/keys"], "secret": True, "file_mode": "0600"}}
    beside.write({"data-2024/keys/k": "key\n"})
    found = {item.path: item.component for item in scan(beside.application) if item.type == "file"}
    assert (found["data-2024/keys/k"], found["data-2024/a.json"]) == ("keys", "state")
    tree(beside.application, beside.ports, fix=True)
    assert stat.S_IMODE((beside.live / "data-2024/keys/k").stat().st_mode) == 0o600
    made = backup(beside.application, beside.ports)
    shutil.rmtree(beside.live / "data-2024")
    restore(beside.application, beside.ports, reference=made.record["backup"]["path"])
    assert beside.read("data-2024/keys/k") == "key\n" and beside.read("data-2024/a.json") == "{}\n"


def test_a_symlink_that_a_pattern_matches_is_refused(beside: Beside) -> None:
    os.rename(beside.live / "data-2024", beside.base / "elsewhere")
    (beside.live / "data-2024").symlink_to(beside.base / "elsewhere")
    with pytest.raises(Exception, match="is a symlink, what it leads to would not be captured"):
        backup(beside.application, beside.ports)


@pytest.mark.parametrize("paths", [["*"], ["*", "*/*"]])
def test_a_pattern_that_names_all_code_is_refused_by_a_deploy(beside: Beside, paths: list[str]) -> None:
    beside.components = {"all": {"paths": paths}}
    with pytest.raises(ConfigurationError, match="code apart from the data"):
        beside.deploy()
    assert beside.read("bot.py") == FIRST["bot.py"]


def test_releases_need_paths_that_they_can_link_to(beside: Beside) -> None:
    beside.settings.update(layout="releases", directory=str(beside.base / "releases"))
    with pytest.raises(ConfigurationError, match=r"links to, found '\*\.sqlite'"):
        beside.deploy()
