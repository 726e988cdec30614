# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A signal at any line of a command, of a library's as well: no traceback, a documented status, whole data, no process.

TRADEKEEP_SIGNALS says at how many lines of each command; 0 is all of them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "torture"))
import deploy_driver
import operations_bench as bench
import signalled
import test_deploy_kills as deploys
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import pending

POINTS = int(os.environ.get("TRADEKEEP_SIGNALS", "5"))
# "died" is the end by the signal itself, before the command listened or after all was done.
ENDS = ("0 new", "3 old", "4 new", "died old", "died new")
NUMBERS = (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Command:
    """A command that changes data, on an installation to copy. look: what of a copy is old or new."""

    template: Path
    words: tuple[str, ...]
    look: Callable[[Path], Any]
    old: Any
    new: Any
    application: Callable[[Path], Any]
    lines: int
    lines_each_time: int

    def copy(self, base: Path) -> Path:
        """An installation whose configuration names its own places."""
        return configured(bench.copy_of(self.template, base), self.application)


def configured(base: Path, application_in: Callable[[Path], Any]) -> Path:
    application = application_in(base)
    config = Path(application.config_file)
    config.parent.mkdir(exist_ok=True)
    config.write_text(render_configuration(application))
    return base


def made(
    template: Path, words: tuple[str, ...], look: Callable[[Path], Any], application: Callable[[Path], Any]
) -> Command:
    """Carried out twice undisturbed, to count its lines and to see its end."""
    counts = []
    for every in (False, True):
        base = configured(bench.copy_of(template, template.with_name(f"count{every}")), application)
        ran = signalled.command(base, words, number=signal.SIGTERM, every=every)
        assert ran.status == 0, ran.said
        counts.append(ran.lines)
    return Command(template, words, look, look(template), look(base), application, *counts)


def data_in(base: Path) -> Any:
    return bench.content(base / "data")


def changed(top: Path, name: str | None = "first") -> Path:
    writer = bench.installation(top / "base", name=name)
    bench.changed_since(top / "base", writer)
    template = bench.copy_of(top / "base", top / "copy")
    writer.close()
    return template


def a_restore(top: Path) -> Command:
    return made(changed(top), ("restore", "first", "--yes"), data_in, bench.application_in)


def a_backup(top: Path) -> Command:
    writer = bench.installation(top / "base")
    template = bench.copy_of(top / "base", top / "copy")
    writer.close()
    return made(template, ("backup", "--name", "second"), lambda base: len(bench.archives(base)), bench.application_in)


def a_migration(top: Path) -> Command:
    bench.installation(top / "there", rows=900, name=None).close()
    (top / "there/data/preferences/moved.json").write_text('{"moved": 1}')
    words = ("migrate", str(top / "there/data"), "--force", "--yes")
    return made(changed(top), words, data_in, bench.application_in)


def a_deploy(top: Path) -> Command:
    commits = deploys.prepared(top / "base")
    writer = deploys.with_writer(top / "base")
    template = bench.copy_of(top / "base", top / "copy")
    writer.close()
    return made(template, ("deploy", commits[1]), deploys.checkout, deploy_driver.application_in)


COMMANDS = {"restore": a_restore, "backup": a_backup, "migration": a_migration, "deploy": a_deploy}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_at_any_line(name: str, tmp_path: Path) -> None:
    ready = COMMANDS[name](tmp_path / "ready")

    def case(point: tuple[int, int, bool]) -> str:
        at, number, every = point
        base = ready.copy(tmp_path / f"{at}{every}")
        ran = signalled.command(base, ready.words, at=at, number=number, every=every)
        try:
            return judged(ready, ran, base, number)
        except AssertionError as error:
            return f"{point} at {ran.place}: status {ran.status}, said {ran.said!r}: {str(error)[:500]}"
        finally:
            bench.shutil.rmtree(base, ignore_errors=True)

    ended = Counter(bench.at_once(case, chosen(ready)))
    print(f"{name}: {ready.lines} lines, {ready.lines_each_time} times; ended as", dict(ended))
    assert set(ended) <= {*ENDS}, "\n".join({*ended} - {*ENDS})
    assert "3 old" in ended and (0 < POINTS < 20 or "0 new" in ended)


def chosen(ready: Command) -> list[tuple[int, int, bool]]:
    """Lines by number, with the signal to send; each line once, and some of those that are carried out often."""
    most = POINTS or ready.lines
    points = [
        (at, every)
        for every, count in ((False, ready.lines), (True, ready.lines_each_time))
        for at in signalled.spread(count, most if not every else max(2, most // 4))
    ]
    return [(at, NUMBERS[place % len(NUMBERS)], every) for place, (at, every) in enumerate(points)]


def judged(ready: Command, ran: signalled.Ran, base: Path, number: int) -> str:
    """How it ended: the status, and the state of what it works on; ``recover`` ends what was begun."""
    assert "Traceback" not in ran.said and "internal error" not in ran.said
    assert ran.left == ()
    state = state_of(ready, base)
    status = "died" if ran.status == -number else str(ran.status)
    assert status in ("died", "0", "3", "4")
    assert {"0": "new", "3": "old"}.get(status, state) == state
    application = ready.application(base)
    if status == "4":
        assert "tradekeep recover" in ran.said
    else:
        assert pending(Path(application.state_dir) / application.name) is None
    recovered = signalled.command(base, ["recover"])
    assert recovered.status == 0, recovered.said
    assert state_of(ready, base) == state
    again = signalled.command(base, ready.words)
    assert again.status == 0, again.said
    assert leftovers(base) == []
    return f"{status} {state}"


def state_of(ready: Command, base: Path) -> str:
    """Whether it is as it was before the command or as after it; what lies aside until a recovery is neither."""
    present = ready.look(base)
    if isinstance(present, dict):
        present = {name: facts for name, facts in present.items() if not name.startswith(".tradekeep")}
    assert present in (ready.old, ready.new)
    return "new" if present == ready.new else "old"


def leftovers(base: Path) -> list[str]:
    """Temporary names that the next command has not removed."""
    found = [path for path in base.rglob(".tradekeep*") if ".tradekeep-release" not in path.name]
    found += [path for path in (base / "state").rglob("*") if path.name.startswith(("stage-", "transaction"))]
    return [str(path) for path in found]
