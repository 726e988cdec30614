# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data is not copied away and back: what does not fit, what is written meanwhile, what a failed run has left."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import SpaceError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy import survey

from .conftest import TRADES, listing


def dead_process() -> int:
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


@pytest.mark.parametrize(("free", "inodes"), [(10_000, 10**6), (10**12, 3)])
def test_hazard_d9_what_does_not_fit_is_refused_before_anything_is_touched(
    world, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int
) -> None:
    world.deploy()
    world.push({"bot.py": "print(2)\n" * 1000})
    before = listing(world.live)
    monkeypatch.setattr(survey, "space", lambda _place: SimpleNamespace(bytes_free=free, inodes_free=inodes))
    with pytest.raises(SpaceError, match="needed"):
        world.deploy()
    assert listing(world.live) == before


def test_hazard_d9_what_a_killed_run_has_left_is_removed_and_never_put_back(world) -> None:
    world.deploy()
    number = dead_process()
    left = [
        world.state / f".tradekeep-check-{number}-abc",
        world.state.parent / "mirrors" / f".tradekeep-export-{number}-abc",
    ]
    for place in left:
        (place / Path(TRADES).parent).mkdir(parents=True)
        (place / TRADES).write_text("old\n")
    data = world.read(TRADES)
    world.push({"bot.py": "print(2)\n"})
    world.deploy()
    assert not [place for place in left if place.exists()]
    assert world.read(TRADES) == data


@pytest.mark.parametrize("policy", ["keep_live", "seed_if_absent"])
def test_hazard_d10_who_has_a_log_open_goes_on_writing_to_it(world, policy: str) -> None:
    world.deploy()
    world.push({"bot.py": "print(2)\n", TRADES: "from upstream\n"})
    with (world.live / TRADES).open("a") as log:
        inode = os.fstat(log.fileno()).st_ino

        def write(step: str) -> None:
            log.write(f"{step}\n")
            log.flush()

        world.deploy(on_collision=policy, step=write)
        world.rollback(step=write)
        write("the end")
    assert (world.live / TRADES).stat().st_ino == inode
    lines = world.read(TRADES).splitlines()
    assert (lines[0], lines[-1]) == ('{"n": 1}', "the end")
    assert len(lines) > 10
