# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Kill either server at every step of a handover: never two bots, nothing lost, and the next attempt succeeds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from operations_bench import at_once
from operations_handover.servers import Pair, Server

# Until the source has let go (in words: its fence is for good) it runs again by itself; afterwards never.
LET_GO = "serve granted#1"


def steps_of(server: Server) -> list[str]:
    """Each step once, in order."""
    return list(dict.fromkeys((server.base / "steps").read_text().splitlines()))


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """What both servers do in an undisturbed handover."""
    pair = Pair(tmp_path_factory.mktemp("undisturbed"))
    try:
        done = pair.take()
        assert done.returncode == 0, done.stderr + done.stdout
        return steps_of(pair.new), steps_of(pair.old)
    finally:
        pair.end()


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[list[Pair]]:
    made: list[Pair] = []
    yield made
    for pair in made:
        pair.end()


def after_kill(pair: Pair, *, let_go: bool) -> str:
    """What has become of it once everything has come to rest; and the next attempt."""
    pair.wait(lambda: "provisional" not in (pair.old.fence or {}))
    pair.settle()
    if not let_go:
        pair.wait(lambda: pair.alive == ["old"])
    pair.check_never_two()
    assert pair.new.fence is None
    outcome = pair.alive[0] if pair.alive else "none"
    assert (outcome == "old") == (not let_go), pair.told()
    again = pair.take()
    assert again.returncode == 0, again.stderr + again.stdout
    assert pair.alive == ["new"], pair.told()
    pair.check_never_two()
    pair.check_nothing_lost(pair.new)
    return outcome


def test_hazard_e2_the_new_server_killed_at_every_step(
    steps: tuple[list[str], list[str]], tmp_path: Path, pairs: list[Pair]
) -> None:
    taking, _serving = steps
    granted = taking.index("let go#1")

    def case(number: int) -> str:
        pair = Pair(tmp_path / str(number))
        pairs.append(pair)
        done = pair.take(step=taking[number])
        assert done.returncode == -9, done.stderr
        return after_kill(pair, let_go=number >= granted)

    outcomes = at_once(case, range(len(taking)))
    told = dict(zip(taking, outcomes))
    assert [told[step] for step in taking[:granted]] == ["old"] * granted
    # Killed between the grant and the note of it, nothing runs; from the note on it runs here.
    assert told["let go#1"] == "none"
    assert set(outcomes[granted + 1 :]) == {"new"}, told


def test_hazard_e2_the_old_server_killed_at_every_step(
    steps: tuple[list[str], list[str]], tmp_path: Path, pairs: list[Pair]
) -> None:
    _taking, serving = steps

    def case(step: str) -> tuple[int, str]:
        pair = Pair(tmp_path / str(serving.index(step)))
        pairs.append(pair)
        done = pair.take(serve={"step": step})
        if step == LET_GO:
            # The answer was lost, and asked for again.
            assert done.returncode == 0, done.stderr
            pair.check_never_two()
            assert pair.alive == ["new"]
            pair.check_nothing_lost(pair.new)
            return done.returncode, "new"
        assert done.returncode == 3, done.stderr
        assert pair.new.note == "undone"
        return done.returncode, after_kill(pair, let_go=False)

    outcomes = dict(zip(serving, at_once(case, serving)))
    assert outcomes[LET_GO] == (0, "new")
