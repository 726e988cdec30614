# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Kill a forced migration anywhere: the data is the host's own or the source's, whole; what was replaced is kept."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import operations_bench as bench
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.names import MIGRATE_LABEL
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import pending

needs_strace = pytest.mark.skipif(bench.STRACE is None, reason="strace is not installed")
CALLS = {"renameat": 6, "renameat2": 8, "unlinkat": 4, "fsync": 6, "openat": 4, "write": 4}


@dataclass(frozen=True)
class Move:
    """A host with data of its own, a source that differs from it, and both states of the data."""

    template: Path
    source: Path
    old: bench.Content
    new: bench.Content
    steps: tuple[str, ...]

    @property
    def options(self) -> dict[str, object]:
        return {"source": str(self.source), "force": True}

    def host(self, base: Path) -> Path:
        """A copy of the host, whose configuration names its own places."""
        bench.copy_of(self.template, base)
        return configured(base)


def configured(base: Path) -> Path:
    application = bench.application_in(base)
    config = Path(application.config_file)
    config.parent.mkdir(exist_ok=True)
    config.write_text(render_configuration(application))
    return base


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Move:
    top = tmp_path_factory.mktemp("move")
    bench.installation(top / "there", rows=900, name=None).close()
    (top / "there/data/preferences/moved.json").write_text('{"moved": 1}')
    writer = bench.installation(top / "base", name="first")
    bench.changed_since(top / "base", writer)
    template = bench.copy_of(top / "base", top / "copy")
    writer.close()
    source = top / "there/data"
    counted = configured(bench.copy_of(template, top / "count"))
    done = bench.drive(counted, "migrate", step=-1, options={"source": str(source), "force": True})
    assert done.returncode == 0, done.stderr
    steps = tuple((counted / "steps").read_text().splitlines())
    return Move(template, source, bench.content(template / "data"), bench.content(counted / "data"), steps)


def settle_and_check(ready: Move, base: Path) -> str:
    """Recover, twice, and migrate again; says which state the recovery led to."""
    application = bench.application_in(base)
    recover(application, bench.ports())
    present = bench.content(base / "data")
    assert present in (ready.old, ready.new)
    assert pending(base / "state/kalshi") is None
    assert bench.own_leftovers(base) == []
    again = recover(application, bench.ports())
    assert (again.changed, again.record["data"]) == (False, "untouched")
    state = "new" if present == ready.new else "old"
    done = migrate(application, bench.ports(), source=str(ready.source), force=True)
    assert done.record["state"] == ("unchanged" if state == "new" else "migrated")
    assert bench.content(base / "data") == ready.new
    saved = [name for name in bench.archives(base) if MIGRATE_LABEL in name]
    assert saved, bench.archives(base)
    restore(application, bench.ports(), reference=saved[-1], to=str(base / "kept"))
    assert bench.content(base / "kept") == ready.old
    return state


def test_killed_at_every_step(ready: Move, tmp_path: Path) -> None:
    def case(number: int) -> str:
        base = ready.host(tmp_path / str(number))
        assert bench.was_killed(bench.drive(base, "migrate", step=number, options=ready.options))
        return settle_and_check(ready, base)

    states = bench.at_once(case, range(len(ready.steps)))
    # One boundary: old before it, new from it on.
    assert states == sorted(states, reverse=True)
    assert set(states) == {"old", "new"}


@needs_strace
def test_killed_in_its_system_calls(ready: Move, tmp_path: Path) -> None:
    counted = ready.host(tmp_path / "count")
    calls = bench.calls_of(counted, "migrate", most=CALLS, options=ready.options)

    def case(call: tuple[str, int]) -> int:
        base = ready.host(tmp_path / f"{call[0]}-{call[1]}")
        inject = f"{call[0]}:signal=KILL:when={call[1]}"
        done = bench.drive(base, "migrate", inject=inject, options=ready.options)
        settle_and_check(ready, base)
        return bench.was_killed(done)

    killed = bench.at_once(case, calls)
    assert sum(killed) > 0.8 * len(calls)
    assert len(calls) > 4


def test_a_signal_undoes_it(ready: Move, tmp_path: Path) -> None:
    at = ready.steps.index("exchange")
    base = ready.host(tmp_path / "base")
    done = bench.drive(base, "migrate", step=at, signal=int(signal.SIGTERM), options=ready.options)
    assert done.returncode == 3, done.stderr
    assert bench.content(base / "data") == ready.old
    assert bench.own_leftovers(base) == []
    assert settle_and_check(ready, base) == "old"
