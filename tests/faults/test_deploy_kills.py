# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Kill or stop a deploy anywhere, or fill its disk: the code is one commit or the other, whole, the data as it was."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "torture"))
import deploy_driver
import operations_bench as bench
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.scratch import sweep
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import pending
from world import FIRST, SECOND, World, git

needs_strace = pytest.mark.skipif(bench.STRACE is None, reason="strace is not installed")
DRIVER = Path(deploy_driver.__file__)
FAMILIES = {
    "names": {"rename": 7, "renameat": 14, "renameat2": 10, "link": 4, "linkat": 4, "symlink": 4},
    "removals": {"unlink": 10, "unlinkat": 4, "rmdir": 8},
    "syncs": {"fsync": 10, "fdatasync": 4, "syncfs": 4},
    "opens": {"openat": 8, "mkdir": 6, "fchmod": 3},
    "writes": {"write": 8, "pwrite64": 4},
}
# Both commits have what the other lacks, a file that becomes a directory, and one that is edited on the server.
MORE_FIRST = {"tools": "a file\n", "old/deep/one.py": "1\n"}
MORE_SECOND = {"tools": None, "tools/run.py": "a directory\n", "old/deep/one.py": None}


@dataclass(frozen=True)
class Bench:
    """An installation before a deploy or its rollback, and how the checkout is before and after."""

    template: Path
    arguments: dict[str, Any]
    old: bench.Content
    new: bench.Content
    commits: tuple[str, str]
    steps: tuple[str, ...]


def checkout(base: Path) -> bench.Content:
    """All of the checkout but for the repository in it, and what that says is checked out."""
    found = {name: facts for name, facts in bench.content(base / "live").items() if not name.startswith(".git/")}
    return {**found, "HEAD": git(base / "live", "rev-parse", "HEAD")}


def prepared(base: Path) -> tuple[str, str]:
    """A checkout with data in it, as a person cloned it, and a newer commit upstream."""
    world = World(base)
    first = world.push({**FIRST, **MORE_FIRST})
    world.clone()
    (base / "live/data").mkdir()
    (base / "live/main.py").write_text("print('edited on the server')\n")
    (base / "live/data/lines.jsonl").write_text('{"line": 1}\n' * 50)
    (base / "live/untracked.txt").write_text("nobody knows it\n")
    return first, world.push({**SECOND, **MORE_SECOND})


def with_writer(base: Path) -> sqlite3.Connection:
    """Rows that are in the WAL alone as long as the connection is open."""
    writer = sqlite3.connect(base / "live/data/fills.db")
    writer.execute("pragma journal_mode=wal")
    writer.execute("create table fills(id integer primary key, trade_id text not null)")
    bench.add_rows(writer, 100)
    return writer


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    base = tmp_path_factory.mktemp("template") / "base"
    commits = prepared(base)
    writer = with_writer(base)
    template = bench.copy_of(base, base.with_name("copy"))
    writer.close()
    return counted(template, {"ref": commits[1]}, commits)


@pytest.fixture(scope="module")
def deployed(ready: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    template = bench.copy_of(ready.template, tmp_path_factory.mktemp("deployed") / "copy")
    assert drive(template, ready.arguments).returncode == 0
    return counted(template, {"rollback": True}, (ready.commits[1], ready.commits[0]))


def counted(template: Path, arguments: dict[str, Any], commits: tuple[str, str]) -> Bench:
    """Carried out once undisturbed, to know its steps and its end."""
    base = bench.copy_of(template, template.with_name("count"))
    done = drive(base, {**arguments, "step": -1})
    assert done.returncode == 0, done.stderr
    steps = tuple((base / "steps").read_text().splitlines())
    made = Bench(template, arguments, checkout(template), checkout(base), commits, steps)
    assert (made.old["HEAD"], made.new["HEAD"]) == commits
    assert data_of(made.old) == data_of(made.new)
    return made


def drive(base: Path, arguments: dict[str, Any], operation: str = "deploy", **options: Any) -> Any:
    done = bench.drive(base, operation, driver=DRIVER, **options, **arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def data_of(content: bench.Content) -> bench.Content:
    return {name: facts for name, facts in content.items() if name.startswith("data/") or name == "untracked.txt"}


def recover_and_check(made: Bench, base: Path) -> str:
    """Recover, twice, and deploy once more; says which commit the recovery led to."""
    application = deploy_driver.application_in(base)
    assert data_of(checkout(base)) == data_of(made.old)
    recover(application, bench.ports())
    state = settled(made, base)
    again = recover(application, bench.ports())
    assert (again.changed, again.record["data"]) == (False, "untouched")
    deploy_driver.run(base, "deploy", bench.ports(), {"ref": made.commits[1]})
    # A rollback keeps no edit, and neither does the deploy that takes its place.
    assert without_edit(checkout(base)) == without_edit(made.new)
    assert subprocess.run(["git", "-C", base / "live", "fsck", "--no-progress"], capture_output=True).returncode == 0
    assert leftovers(base) == []
    return state


def without_edit(content: bench.Content) -> bench.Content:
    return {name: facts for name, facts in content.items() if name != "main.py"}


def settled(made: Bench, base: Path) -> str:
    present = checkout(base)
    assert present in (made.old, made.new), sorted(
        name for name in {*present, *made.old} if present.get(name) != made.old.get(name)
    )
    assert pending(base / "state" / "bot") is None
    return "new" if present == made.new else "old"


def leftovers(base: Path) -> list[str]:
    """Whatever is left of a deploy once the next one has ended."""
    sweep(base / "tmp", purpose="git")  # as the next one does where its temporary directory is the same
    found = [path for path in base.rglob(".tradekeep*") if ".tradekeep-release" not in path.name]
    found += [path for path in (base / "state").rglob("*") if path.name.startswith(("stage-", "transaction"))]
    found += (base / "live" / ".git").rglob("*.lock")
    return [str(path) for path in found]


def kill_at_every_step(made: Bench, tmp_path: Path) -> list[str]:
    def case(number: int) -> str:
        base = bench.copy_of(made.template, tmp_path / str(number))
        assert bench.was_killed(drive(base, {**made.arguments, "step": number}))
        return recover_and_check(made, base)

    return list(bench.at_once(case, range(len(made.steps))))


def test_killed_at_every_step(ready: Bench, tmp_path: Path) -> None:
    states = kill_at_every_step(ready, tmp_path)
    # One boundary: old before it, new from it on.
    assert states == sorted(states, reverse=True)
    assert set(states) == {"old", "new"}


def test_a_rollback_killed_at_every_step(deployed: Bench, tmp_path: Path) -> None:
    states = kill_at_every_step(deployed, tmp_path)
    assert states == sorted(states, reverse=True)
    assert set(states) == {"old", "new"}


STAND_IN = """#!/bin/sh
case "$*" in
"-I -m venv "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
"-I -c "?*) echo cpython 3 ;;
esac
"""


def test_an_environment_that_makes_way_survives_a_kill_at_every_step(tmp_path: Path) -> None:
    """It lies where it was, or is kept whole beside the new one; never neither, never both."""
    template = tmp_path / "template"
    world = World(template)
    world.push({"main.py": "1\n"})
    world.clone()
    commit = world.push({"requirements.txt": ""})
    (template / "live/venv/bin").mkdir(parents=True)
    (template / "live/venv/bin/python").write_text("by hand\n")
    (template / "python").write_text(STAND_IN)
    (template / "python").chmod(0o755)
    wanted = {"ref": commit, "adopt": True}

    def kept(base: Path) -> str:
        """Where it lies now."""
        live = base / "live"
        places = [live / "venv"] if not (live / "venv").is_symlink() else []
        (place,) = (*places, *live.glob(".tradekeep-venvs/replaced-*"))
        assert (place / "bin/python").read_text() == "by hand\n"
        return "old" if places else "new"

    def case(number: int) -> str:
        base = bench.copy_of(template, tmp_path / str(number))
        assert bench.was_killed(drive(base, {**wanted, "step": number}))
        recover(deploy_driver.application_in(base), bench.ports())
        state = kept(base)
        assert (git(base / "live", "rev-parse", "HEAD") == commit) is (state == "new")
        return state

    counted = bench.copy_of(template, tmp_path / "count")
    assert drive(counted, {**wanted, "step": -1}).returncode == 0
    assert kept(counted) == "new"
    steps = (counted / "steps").read_text().splitlines()
    # Until the exchange begins nothing of it is touched.
    states = list(bench.at_once(case, range(steps.index("exchanging"), len(steps))))
    assert states == sorted(states, reverse=True) and set(states) == {"old", "new"}


@needs_strace
@pytest.mark.parametrize("family", FAMILIES)
def test_hazard_d14_killed_at_every_system_call(ready: Bench, tmp_path: Path, family: str) -> None:
    """Of the command or of a git that works for it."""
    counted = bench.copy_of(ready.template, tmp_path / "count")
    calls = bench.calls_of(counted, "deploy", most=FAMILIES[family], driver=DRIVER, **ready.arguments)

    def case(call: tuple[str, int]) -> int:
        base = bench.copy_of(ready.template, tmp_path / f"{call[0]}-{call[1]}")
        done = drive(base, ready.arguments, inject=f"{call[0]}:signal=KILL:when={call[1]}")
        recover_and_check(ready, base)
        return bool(done.returncode)

    killed = bench.at_once(case, calls)
    # Ordinals may shift by a few between runs; nearly all must have hit.
    assert sum(killed) > 0.7 * len(calls)
    assert len(calls) > 4


# One handler serves both signals: every step is tried with one of them, some with the other as well.
@pytest.mark.parametrize(("number", "every"), [(signal.SIGTERM, 1), (signal.SIGINT, 6)])
def test_stopped_politely_at_every_step(ready: Bench, tmp_path: Path, number: int, every: int) -> None:
    """Stopped before the new code is in place, all is as before at once; later, it is done, or one word finishes it."""

    def case(at: int) -> int:
        base = bench.copy_of(ready.template, tmp_path / str(at))
        done = drive(base, {**ready.arguments, "step": at, "signal": int(number)})
        if done.returncode == 4:
            assert "tradekeep recover" in done.stderr
        else:
            expected = "old" if done.returncode == 3 else "new"
            assert settled(ready, base) == expected, done.stderr
        recover_and_check(ready, base)
        return int(done.returncode)

    statuses = bench.at_once(case, range(0, len(ready.steps), every))
    assert set(statuses) <= {0, 3, 4} and (every > 1 or {0, 3} <= set(statuses))


@needs_strace
@pytest.mark.parametrize("call", ["mkdir", "renameat", "fsync"])
def test_hazard_d8_a_disk_that_fills_up_at_any_call(ready: Bench, tmp_path: Path, call: str) -> None:
    counted = bench.copy_of(ready.template, tmp_path / "count")
    calls = bench.calls_of(counted, "deploy", most={call: 7}, driver=DRIVER, **ready.arguments)

    def case(item: tuple[str, int]) -> int:
        base = bench.copy_of(ready.template, tmp_path / f"{item[0]}-{item[1]}")
        done = drive(base, ready.arguments, inject=f"{item[0]}:error=ENOSPC:when={item[1]}+")
        assert done.returncode in (0, 1, 3, 4), done.stderr
        if done.returncode in (1, 3):
            # 1: it stands, and its record did not fit.
            assert settled(ready, base) == ("old" if done.returncode == 3 else "new")
        elif done.returncode == 4:
            assert "tradekeep recover" in done.stderr
        recover_and_check(ready, base)
        return int(done.returncode)

    statuses = bench.at_once(case, calls)
    assert set(statuses) & {3, 4}
