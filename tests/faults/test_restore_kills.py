# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Kill or stop a restore, and its recovery, anywhere: the data is old or new, whole, and can be restored."""

from __future__ import annotations

import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import operations_bench as bench
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.names import SAFETY_LABEL
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import pending

needs_strace = pytest.mark.skipif(bench.STRACE is None, reason="strace is not installed")
FAMILIES = {
    "names": {"rename": 9, "renameat": 40, "renameat2": 40, "link": 9, "linkat": 9, "symlink": 9},
    "removals": {"unlink": 14, "unlinkat": 14, "rmdir": 12},
    "syncs": {"fsync": 30, "fdatasync": 8, "syncfs": 4},
    "opens": {"openat": 12, "mkdir": 8, "fchmod": 4, "chmod": 4},
    "writes": {"write": 10, "pwrite64": 12},
}


@dataclass(frozen=True)
class Bench:
    """An installation whose data moved on since its backup, and both states of the data."""

    template: Path
    old: bench.Content
    new: bench.Content
    steps: tuple[str, ...]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    base = tmp_path_factory.mktemp("template") / "base"
    writer = bench.installation(base)
    new = bench.content(base / "data")
    bench.changed_since(base, writer)
    template = bench.copy_of(base, base.with_name("copy"))
    writer.close()
    counted = bench.copy_of(template, base.with_name("count"))
    done = bench.drive(counted, "restore", step=-1)
    assert done.returncode == 0, done.stderr
    assert bench.content(counted / "data") == new
    steps = tuple((counted / "steps").read_text().splitlines())
    return Bench(template, bench.content(template / "data"), new, steps)


def recover_and_check(ready: Bench, base: Path) -> str:
    """Recover, twice, and restore once more; says which state the recovery led to."""
    application = bench.application_in(base)
    recover(application, bench.ports())
    state = check_settled(ready, base)
    again = recover(application, bench.ports())
    assert (again.changed, again.record["data"]) == (False, "untouched")
    if state == "new":
        safety = [name for name in bench.archives(base) if SAFETY_LABEL in name]
        assert safety, bench.archives(base)  # the old state is kept
        kept = base / "kept"
        restore(application, bench.ports(), reference=safety[-1], to=str(kept))
        assert bench.content(kept) == ready.old
    bench.check_backups(base)
    restore(application, bench.ports(), reference="first")
    assert bench.content(base / "data") == ready.new
    assert bench.own_leftovers(base) == []
    return state


def check_settled(ready: Bench, base: Path) -> str:
    present = bench.content(base / "data")
    assert present in (ready.old, ready.new)
    assert pending(base / "state" / "kalshi") is None
    assert bench.own_leftovers(base) == []
    return "new" if present == ready.new else "old"


def test_killed_at_every_step(ready: Bench, tmp_path: Path) -> None:
    def case(number: int) -> str:
        base = bench.copy_of(ready.template, tmp_path / str(number))
        assert bench.was_killed(bench.drive(base, "restore", step=number))
        return recover_and_check(ready, base)

    states = bench.at_once(case, range(len(ready.steps)))
    # One boundary: old before it, new from it on.
    assert states == sorted(states, reverse=True)
    assert set(states) == {"old", "new"}


@needs_strace
@pytest.mark.parametrize("family", FAMILIES)
def test_hazard_c1_killed_at_every_system_call(ready: Bench, tmp_path: Path, family: str) -> None:
    counted = bench.copy_of(ready.template, tmp_path / "count")
    calls = bench.calls_of(counted, "restore", most=FAMILIES[family])

    def case(call: tuple[str, int]) -> int:
        base = bench.copy_of(ready.template, tmp_path / f"{call[0]}-{call[1]}")
        done = bench.drive(base, "restore", inject=f"{call[0]}:signal=KILL:when={call[1]}")
        recover_and_check(ready, base)
        return bench.was_hit(done)

    killed = bench.at_once(case, calls)
    # Ordinals may shift by a few between runs; nearly all must have hit.
    assert sum(killed) > 0.8 * len(calls)
    assert len(calls) > 4


@pytest.mark.parametrize("cut", ["exchange", "start", "committed"])
def test_a_recovery_killed_at_every_step_can_be_repeated(ready: Bench, tmp_path: Path, cut: str) -> None:
    at = len(ready.steps) - 1 - ready.steps[::-1].index(cut)
    # The journal names absolute paths, so that each case is played in the same place.
    base, saved = tmp_path / "base", tmp_path / "saved"
    bench.copy_of(ready.template, base)
    assert bench.was_killed(bench.drive(base, "restore", step=at))
    base.rename(saved)
    states = set()
    for number in range(40):
        shutil.rmtree(base, ignore_errors=True)
        bench.copy_of(saved, base)
        done = bench.drive(base, "recover", step=number)
        if not bench.was_killed(done):
            assert done.returncode == 0, done.stderr
            break
        states.add(recover_and_check(ready, base))
    assert check_settled(ready, base) in states
    assert number >= 2
    assert len(states) == 1


# One handler serves both signals: every step is tried with one of them, some with the other as well.
@pytest.mark.parametrize(("number", "every"), [(signal.SIGTERM, 1), (signal.SIGINT, 6)])
def test_stopped_politely_at_every_step(ready: Bench, tmp_path: Path, number: int, every: int) -> None:
    """Stopped before the new state runs, all is as before at once; later, it is done, or one word finishes it."""

    def case(at: int) -> int:
        base = bench.copy_of(ready.template, tmp_path / str(at))
        done = bench.drive(base, "restore", step=at, signal=int(number))
        assert "Traceback" not in done.stderr
        if done.returncode == 4:
            assert "tradekeep recover" in done.stderr
            present = bench.content(base / "data")
            assert {k: v for k, v in present.items() if not k.startswith(".tradekeep")} == ready.new
        else:
            expected = "old" if done.returncode == 3 else "new"
            assert check_settled(ready, base) == expected, done.stderr
        recover_and_check(ready, base)
        return done.returncode

    statuses = bench.at_once(case, range(0, len(ready.steps), every))
    assert set(statuses) <= {0, 3, 4} and (every > 1 or {0, 3, 4} == set(statuses))
