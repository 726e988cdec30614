# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The protective lines of a .gitignore, judged by git itself, and the data that is tracked by mistake."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.ignore_lines import (
    BEGIN,
    END,
    ignore_lines,
    with_block,
    without_block,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.preserved import Preserved
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.working_copy import (
    gitignore,
    tracked_data,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profiles import BUILT_IN

# What seed 001 has in its .gitignore.
SEED = "paper_trading_outputs/\nlogs/\n*.jsonl\n*.jsonl.gz\n*.csv\n*.log\n"


def bot(**deploy):
    return resolve_application({"extends": "paper_bot", "deploy": deploy}, become=False)


@pytest.fixture
def ports() -> Ports:
    return Ports(SubprocessRunner(), SystemClock(), NoProgress())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A working copy without any rules."""
    place = tmp_path / "copy"
    place.mkdir()
    git(place, "init", "--quiet")
    return place


def git(place: Path, *words: str, status: int = 0) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(["git", *words], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout


def put(place: Path, *names: str) -> None:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("x")


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_the_written_lines_ignore_what_deploys_preserve_and_nothing_of_the_code(name, copy, ports) -> None:
    application = resolve_application(name, become=False)
    assert gitignore(application, ports, path=str(copy)).changed
    for item in ignore_lines(application):
        for sample in item.samples:
            assert git(copy, "check-ignore", sample).strip() == sample
    for code in ("bot.py", "lib/deep/code.py", "requirements.txt", "README.md", ".github/workflows/ci.yml"):
        assert Preserved(application).reason(code) is None
        git(copy, "check-ignore", code, status=1)
    assert not gitignore(application, ports, path=str(copy)).changed


def test_lines_of_another_spelling_count_when_git_takes_them_so(copy: Path, ports) -> None:
    (copy / ".gitignore").write_text(SEED)
    missing = gitignore(bot(), ports, path=str(copy), dry_run=True).record["missing"]
    assert (copy / ".gitignore").read_text() == SEED
    assert "/logs" not in missing
    assert "*.jsonl.gz" not in missing
    assert {".env", "*.db-wal"} <= set(missing)
    (copy / ".gitignore").write_text("*\n")
    assert gitignore(bot(), ports, path=str(copy)).record["missing"] == []


def test_rules_beside_the_data_count_and_those_of_the_person_do_not(copy: Path, ports) -> None:
    (copy / "logs").mkdir()
    (copy / "logs/.gitignore").write_text("*\n!.gitignore\n")
    (copy / ".git/info").mkdir(exist_ok=True)
    (copy / ".git/info/exclude").write_text("*.jsonl\n")
    assert "/logs" in gitignore(bot(), ports, path=str(copy), dry_run=True).record["missing"]
    git(copy, "add", "logs/.gitignore")
    missing = gitignore(bot(), ports, path=str(copy), dry_run=True).record["missing"]
    assert "/logs" not in missing
    assert "*.jsonl" in missing


def test_a_rule_that_is_taken_back_further_down_is_missing(copy: Path, ports) -> None:
    (copy / ".gitignore").write_text("*.csv\n!any.csv\n")
    assert (
        "*.csv" not in gitignore(bot(), ports, path=str(copy), dry_run=True).record["block"]
    )  # the very line is there
    (copy / ".gitignore").write_text("*.cs[v]\n!any.csv\n")
    assert "*.csv" in gitignore(bot(), ports, path=str(copy), dry_run=True).record["block"]


def test_the_block_moves_nothing_else_and_goes_as_it_came(copy: Path, ports) -> None:
    file = copy / ".gitignore"
    file.write_bytes(b"# mine\r\n*.pyc\n\xff\n!keep.me")
    file.chmod(0o640)
    gitignore(bot(), ports, path=str(copy))
    written = file.read_bytes()
    assert written.startswith(b"# mine\r\n*.pyc\n\xff\n!keep.me\n" + BEGIN.encode())
    assert file.stat().st_mode & 0o777 == 0o640
    assert gitignore(bot(), ports, path=str(copy), present=False).changed
    assert file.read_bytes() == b"# mine\r\n*.pyc\n\xff\n!keep.me\n"
    assert not gitignore(bot(), ports, path=str(copy), present=False).changed


def test_the_block_follows_the_profile_where_it_stands(copy: Path, ports) -> None:
    gitignore(bot(), ports, path=str(copy))
    with (copy / ".gitignore").open("a") as file:
        file.write("# after\n")
    assert gitignore(bot(preserve=["*.parquet", "!seed.parquet"]), ports, path=str(copy)).changed
    lines = (copy / ".gitignore").read_text().splitlines()
    assert lines[-1] == "# after"
    assert lines.index("*.parquet") < lines.index("!seed.parquet") < lines.index(END)
    assert "*.csv" not in lines


def test_odd_names_stand_for_themselves_alone(copy: Path, ports) -> None:
    names = ["#odd", "!not", "end "]
    application = resolve_application(
        {
            "name": "odd",
            "root": "/opt/odd",
            "owner": "odd",
            "components": {"c": {"paths": names, "directories": names}},
            "deploy": {"preserve": ["#*.tmp", "[!a]*.raw"]},
        },
        become=False,
    )
    gitignore(application, ports, path=str(copy))
    for name in (*(f"{name}/x" for name in names), "#a.tmp", "b.raw"):
        git(copy, "check-ignore", name)
    for name in ("not/x", "end/x", "a.raw"):
        git(copy, "check-ignore", name, status=1)


def test_a_block_without_an_end_is_left_to_a_person() -> None:
    with pytest.raises(TradekeepError, match="no end"):
        without_block(f"a\n{BEGIN}\nb\n")
    assert with_block("a\n", []) == "a\n"


def test_a_symlink_and_a_place_without_git_are_refused(copy: Path, tmp_path: Path, ports) -> None:
    (copy / ".gitignore").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TradekeepError, match="plain file"):
        gitignore(bot(), ports, path=str(copy))
    with pytest.raises(TradekeepError, match=r"no \.git"):
        gitignore(bot(), ports, path=str(tmp_path))
    assert not (tmp_path / "elsewhere").exists()


def test_hazard_d5_data_that_is_tracked_by_mistake_is_named(copy: Path, ports) -> None:
    put(copy, "bot.py", "logs/bot.log", "logs/.gitkeep", "paper_trading_outputs/a b/ü.jsonl", "old.cache", "x.csv")
    git(copy, "add", ".")
    (copy / ".gitignore").write_text("*.cache\n!bot.py\n")
    found = tracked_data(bot(preserve=["*.csv"]), ports, path=str(copy))
    assert {item["path"]: item["why"] for item in found.record["tracked"]} == {
        "logs/bot.log": "component logs",
        "paper_trading_outputs/a b/ü.jsonl": "component paper_trading_outputs",
        "old.cache": "tracked although ignored",
        "x.csv": "preserved by *.csv",
    }
    assert "/logs" in found.record["missing"]
    git(copy, "rm", "--quiet", "--cached", "-r", "logs", "paper_trading_outputs", "old.cache", "x.csv")
    assert tracked_data(bot(), ports, path=str(copy)).record["tracked"] == []
