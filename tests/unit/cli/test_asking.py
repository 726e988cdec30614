# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whoever sits at a terminal is asked before live data is replaced; a script, a unit and a play are not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

MODE = "state/account_mode.json"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Host:
    def __init__(self, base: Path) -> None:
        places = {"root": "data", "backup_dir": "backups", "state_dir": "state", "config_dir": "etc", "bin_dir": "bin"}
        self.application = resolve_application(
            "kalshi", become=False, **{name: str(base / place) for name, place in places.items()}
        )
        install_configuration(self.application)
        self.mode = base / "data" / MODE

    def run(self, *words: str, typed: Any = None) -> tuple[int, str]:
        """typed: what the person at the terminal answers; None where there is no terminal."""
        out = io.StringIO()
        err, answers = (Terminal(), Terminal(typed)) if typed is not None else (io.StringIO(), io.StringIO("y\n"))
        status = cli.main(
            ["--no-progress", *words],
            config_dir=str(self.application.config_dir),
            stdout=out,
            stderr=err,
            stdin=answers,
        )
        return int(status), err.getvalue()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    assert made.run("tree", "--fix")[0] == 0
    assert made.run("backup")[0] == 0
    made.mode.write_text('{"mode": "changed"}')
    return made


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "no\n", "yesterday\n"])
def test_nothing_but_yes_replaces_live_data(host: Host, answer: str) -> None:
    status, said = host.run("restore", "latest", typed=answer)
    assert status == 3 and "nothing was done" in said
    assert "replaces its live data" in said and str(host.application.root) in said and " ago)" in said
    assert "changed" in host.mode.read_text()


@pytest.mark.parametrize(
    ("words", "typed", "asked"),
    [
        (["restore", "latest"], "y\n", True),
        (["restore", "latest", "--path", "state/*"], "YES\n", True),
        (["restore", "latest", "--yes"], "n\n", False),
        (["restore", "latest"], None, False),
    ],
)
def test_yes_an_option_and_no_terminal_go_on(host: Host, words: list[str], typed: Any, asked: bool) -> None:
    status, said = host.run(*words, typed=typed)
    assert (status, "Go on? [y/N]" in said) == (0, asked)
    assert "changed" not in host.mode.read_text()


def test_what_replaces_nothing_is_not_asked_about(host: Host, tmp_path: Path) -> None:
    assert "Go on?" not in host.run("restore", "latest", "--dry-run", typed="n\n")[1]
    status, said = host.run("restore", "latest", "--to", str(tmp_path / "aside"), typed="n\n")
    assert (status, "Go on?" in said) == (0, False)


def test_a_migration_asks_only_where_it_is_forced(host: Host, tmp_path: Path) -> None:
    (tmp_path / "old/state").mkdir(parents=True)
    (tmp_path / "old" / MODE).write_text('{"mode": "old"}')
    status, said = host.run("migrate", str(tmp_path / "old"), "--force", typed="n\n")
    assert (status, "replaces and removes live data" in said) == (3, True)
    for words, typed in (([], "n\n"), (["--force", "--dry-run"], "n\n"), (["--force", "--yes"], "n\n")):
        assert "Go on?" not in host.run("migrate", str(tmp_path / "old"), *words, typed=typed)[1]
    assert "old" in host.mode.read_text()
