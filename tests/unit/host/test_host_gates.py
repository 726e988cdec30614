# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Masked units that can be started the moment they may: never before, and never through something that is left over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.gates import Gates
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed

BOT, TIMER = "bot.service", "bot.timer"


class Systemd:
    """Says of every unit what it is told to, and what lay in the directory at each reload."""

    def __init__(self, directory: Path, *, loads: bool = True) -> None:
        self.directory = directory
        self.loads = loads
        self.seen: list[list[str]] = []

    def find(self, program: str) -> str:
        return f"/usr/bin/{program}"

    def run(self, argv: Sequence[str], **_keywords: Any) -> Completed:
        if argv[1] == "daemon-reload":
            self.seen.append(files(self.directory))
        state = "loaded" if self.loads else "masked"
        shown = "\n".join(f"LoadState={state}\n" for _unit in argv[argv.index("--") + 1 :]) if "--" in argv else ""
        return Completed(tuple(argv), 0, shown, "")


def gates_of(systemd: Systemd, directory: Path) -> Gates:
    return Gates(systemd, directory)  # type: ignore[arg-type]  # it answers what gates ask, and runs nothing else


def files(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())


@pytest.fixture
def aside(tmp_path: Path) -> list[Path]:
    places = [tmp_path / f"{unit}.tradekeep-fenced" for unit in (BOT, TIMER)]
    for place in places:
        place.write_text(f"# {place.name}\n")
    return places


def test_what_may_not_be_started_yet_has_no_key(tmp_path: Path, aside: list[Path]) -> None:
    directory = tmp_path / "runtime"
    systemd = Systemd(directory)
    gates = gates_of(systemd, directory)
    assert gates.put_up([BOT, TIMER], aside)
    key = directory / f"{BOT}.d/tradekeep-handover.open"
    assert (directory / BOT).read_bytes() == aside[0].read_bytes()
    assert (directory / f"{BOT}.d/tradekeep-handover.conf").read_text() == f"[Unit]\nAssertPathExists={key}\n"
    assert not key.exists()
    gates.open([BOT, TIMER])
    assert key.exists()
    # Another handover finds no key of an earlier one.
    assert gates.put_up([BOT, TIMER], aside)
    assert not key.exists()
    gates.open([BOT, TIMER])
    assert gates.take_down([BOT, TIMER])
    assert files(directory) == []
    assert not gates.take_down([BOT, TIMER])


def test_a_copy_that_systemd_does_not_take_is_removed(tmp_path: Path, aside: list[Path]) -> None:
    directory = tmp_path / "runtime"
    systemd = Systemd(directory, loads=False)
    assert not gates_of(systemd, directory).put_up([BOT, TIMER], aside)
    assert files(directory) == [] == systemd.seen[-1]


def test_another_name_of_a_unit_gets_no_copy(tmp_path: Path, aside: list[Path]) -> None:
    """Its copy would be a unit of its own, beside the one that it is a name of."""
    directory = tmp_path / "runtime"
    directory.mkdir()
    aside[0].unlink()
    aside[0].symlink_to(aside[1])
    systemd = Systemd(directory)
    assert not gates_of(systemd, directory).put_up([BOT], aside[:1])
    assert files(directory) == [] and systemd.seen == []


def test_settings_of_others_stay(tmp_path: Path, aside: list[Path]) -> None:
    directory = tmp_path / "runtime"
    others = directory / f"{BOT}.d/50-CPUQuota.conf"
    others.parent.mkdir(parents=True)
    others.write_text("[Service]\n")
    gates = gates_of(Systemd(directory), directory)
    assert gates.put_up([BOT], aside[:1])
    assert gates.take_down([BOT])
    assert files(directory) == [f"{BOT}.d/50-CPUQuota.conf"]


GUARD = "guard.service"


def test_a_guard_is_passed_over_while_the_gates_are_open_and_no_longer(tmp_path: Path, aside: list[Path]) -> None:
    directory = tmp_path / "runtime"
    gates = gates_of(Systemd(directory), directory)
    assert gates.put_up([BOT, TIMER], aside, [GUARD])
    keys = [directory / f"{unit}.d/tradekeep-handover.open" for unit in (BOT, TIMER)]
    told = (directory / f"{GUARD}.d/tradekeep-handover.conf").read_text()
    assert told == "[Unit]\n" + "".join(f"ConditionPathExists=!{key}\n" for key in keys)
    assert not any(key.exists() for key in keys)
    gates.open([BOT, TIMER])
    assert all(key.exists() for key in keys)
    gates.close([BOT, TIMER])
    assert not any(key.exists() for key in keys)
    # Whoever takes the gates down after a crash knows the units alone; another application's guard stays.
    others = directory / "other.service.d/tradekeep-handover.conf"
    others.parent.mkdir()
    others.write_text("[Unit]\nConditionPathExists=!/run/other\n")
    assert gates.take_down([BOT, TIMER])
    assert files(directory) == ["other.service.d/tradekeep-handover.conf"]


def test_a_guard_counts_where_there_are_no_gates(tmp_path: Path, aside: list[Path]) -> None:
    directory = tmp_path / "runtime"
    systemd = Systemd(directory, loads=False)
    assert not gates_of(systemd, directory).put_up([BOT], aside[:1], [GUARD])
    assert files(directory) == []
