# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The disk of the new server fills up while a bot moves there, after its space was looked at.

One line says so, the bot runs on where it ran, nothing of it is left on the full disk, and with room made the same
command succeeds. State, backups and data of the new server are on one disk, as on most servers.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from operations_bench import at_once
from operations_handover.servers import LARGE, Pair
from test_full_disk import small_disk

# At each of them the disk is full from there on.
STEPS = (
    "fence#1",
    "stage#1",
    "prepare#1",
    "nearly#1",
    "prepared#1",
    "ask to let go#1",
    "let go#1",
    "committed#1",
    "unmask#1",
)
KEPT = ("filler", "state/kalshi/handover.json", "state/kalshi/installation", "state/kalshi/migrations")


@contextlib.contextmanager
def small_pair(base: Path) -> Iterator[Pair]:
    """The new server is on a small disk; what its systemd remembers is not."""
    outside = base / "outside"
    (outside / "runtime").mkdir(parents=True)
    with small_disk(base / "new", megabytes=16):
        for name in ("seen", "settings", "bot.pid", "runtime", "steps"):
            (base / "new" / name).symlink_to(outside / name)
        pair = Pair(base)
        try:
            yield pair
        finally:
            pair.end()
            pair.wait(lambda: pair.alive == [])


def names(pair: Pair) -> set[str]:
    """All that is on the small disk, but for the notes and records that a migration leaves in any case."""
    found = (str(path.relative_to(pair.new.base)) for path in pair.new.base.rglob("*"))
    return {name for name in found if not name.startswith(KEPT)}


def filled(pair: Pair, **how: Any) -> str:
    """Migrate onto the disk that fills up: refused in one line, and both servers are as before. Returns the line."""
    before = names(pair)
    done = pair.take(fill=str(pair.new.base), **how)
    assert done.returncode == 3, done.stderr + done.stdout
    *notes, said = done.stderr.splitlines()
    assert said.startswith("error: ") and "free some space" in said, done.stderr
    assert all(line.startswith("note: ") for line in notes), done.stderr
    assert pair.alive == ["old"], pair.told()
    assert pair.old.fence is None and not pair.old.masked
    assert pair.new.fence is None and not pair.new.masked
    assert names(pair) == before
    return said


def room_made(pair: Pair) -> None:
    """The same command again."""
    (pair.new.base / "filler").unlink()
    done = pair.take()
    assert done.returncode == 0, done.stderr + done.stdout
    assert pair.alive == ["new"], pair.told()
    pair.check_never_two()
    pair.check_nothing_lost(pair.new)


@pytest.mark.root
def test_hazard_e2_the_new_server_full_in_the_middle_of_the_copy(tmp_path: Path) -> None:
    with small_pair(tmp_path) as pair:
        said = filled(pair, fill_after=120_000)
        assert LARGE in said and "the disk is full" in said
        # In the middle of the large file. The bot on the old server has not noticed.
        assert "serve stop" not in pair.steps(pair.old)
        assert [line for line in pair.lives() if line.startswith("old")] == ["old start"]
        room_made(pair)


@pytest.mark.root
def test_hazard_e2_the_new_server_full_in_the_last_difference(tmp_path: Path) -> None:
    with small_pair(tmp_path) as pair:
        added = pair.old.root / "state" / "added.log"
        said = filled(pair, grow=str(added), grow_at="ask to stop#1", fill_at="final#1")
        assert "added.log" in said and "300000 bytes are to come" in said
        assert pair.lives() == ["old start", "old end", "old start"]
        room_made(pair)
        assert (pair.new.root / "state" / "added.log").read_bytes() == added.read_bytes()


@pytest.mark.root
def test_hazard_e3_a_bot_that_dies_of_the_full_disk_is_given_back(tmp_path: Path) -> None:
    """No room for a note either that it is on its way back."""
    with small_pair(tmp_path) as pair:
        done = pair.take(fill=str(pair.new.base), fill_at="start#1")
        assert done.returncode == 3, done.stderr
        assert "does not stay up" in done.stderr
        pair.wait(lambda: pair.alive == ["old"])
        assert pair.lives()[-2:] == ["new start", "old start"]
        assert pair.old.fence is None and pair.new.fence is None, pair.told()
        assert not (pair.new.root / LARGE).exists()
        room_made(pair)


@pytest.mark.root
def test_hazard_e2_the_new_server_full_from_any_step_on(tmp_path: Path) -> None:
    """Until it runs there it is undone; afterwards it stands, and what is lacking is said."""

    def case(step: str) -> int:
        with small_pair(tmp_path / str(STEPS.index(step))) as pair:
            done = pair.take(fill=str(pair.new.base), fill_at=step)
            last = done.stderr.splitlines()[-1] if done.stderr else ""
            assert "Traceback" not in done.stderr, done.stderr
            pair.check_never_two()
            if done.returncode == 3:
                pair.wait(lambda: pair.alive == ["old"])
                assert pair.new.fence is None and pair.old.fence is None and not pair.old.masked, pair.told()
            else:
                assert pair.old.fence is not None and pair.old.masked
                assert done.returncode == 0 or "tradekeep recover" in last, done.stderr
            (pair.new.base / "filler").unlink()
            if done.returncode != 3:
                recovered = pair.new.run("recover")
                assert recovered.returncode == 0, recovered.stderr
            again = pair.take()
            assert again.returncode == 0, again.stderr + again.stdout
            assert pair.new.fence is None and pair.new.note == "complete"
            pair.check_never_two()
            pair.check_nothing_lost(pair.new)
            return done.returncode

    told = dict(zip(STEPS, at_once(case, STEPS)))
    before = STEPS.index("committed#1")
    assert {told[step] for step in STEPS[:before]} == {3}, told
    assert told["unmask#1"] == 4, told
