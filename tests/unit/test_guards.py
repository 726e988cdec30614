# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The proof that tests fail without their guards must not itself be content with less."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import guards
import hazards
from guards import FAILS, NOT_RUN, PASSES, WRONG, Copy, judge, prove
from parts import PARTS, RUN_WHOLE, unit
from removals import REMOVALS, Moved, Removal, changed

ENGINE = "def half(number):\n    if number % 2:\n        raise ValueError(number)\n    return number // 2\n"
TESTS = """
import sys, pytest
sys.path.insert(0, "plugins/module_utils/core")
from engine import half
def test_odd(): pytest.raises(ValueError, half, 3)
def test_even(): assert half(4) == 2
@pytest.mark.skip(reason="not here")
def test_elsewhere(): assert half(4) == 3
@pytest.fixture
def made(): return half(3) and half(5) / 0
def test_made(made): pass
"""


def removal(old: str = "if number % 2:", new: str = "if False:", test: str = "test_odd", **options: object) -> Removal:
    return Removal("a1", "odd numbers are refused", "engine.py", old, new, (f"test_engine.py::{test}",), **options)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Copy]:
    top = tmp_path / "checkout"
    (top / "plugins/module_utils/core").mkdir(parents=True)
    (top / "plugins/module_utils/core/engine.py").write_text(ENGINE)
    (top / "test_engine.py").write_text(TESTS)
    monkeypatch.setattr(guards.checkout, "copy", lambda names, place: top)
    made = Copy(tmp_path, ())
    yield made
    made.close()


def test_every_hazard_has_guards_and_no_guard_is_named_twice() -> None:
    guarded = {item.hazard for item in REMOVALS}
    assert [hazard for hazard in hazards.HAZARDS if hazard[0] in "abc" and hazard not in guarded] == []
    named = [(item.hazard, item.guard) for item in REMOVALS]
    assert len(named) == len(set(named))
    assert all(item.tests and item.old != item.new for item in REMOVALS)
    files = {test.partition("::")[0] for item in REMOVALS for test in item.tests}
    assert [name for name in files if not (hazards.TOP / name).is_file()] == []


@pytest.mark.once
def test_what_becomes_of_a_guard_that_is_taken_out(copy: Copy) -> None:
    engine = copy.top / "plugins/module_utils/core/engine.py"
    wanted = {
        FAILS: removal(),
        PASSES: removal(test="test_even"),
        NOT_RUN: removal(test="test_elsewhere"),
    }
    wrong = (
        removal(old="if number % 3:"),  # moved
        removal(old="number"),  # more than once
        removal(new="if :"),  # no Python any more
        removal(new="if nothing:"),  # another failure than that of the guard
        removal(test="test_unknown"),  # pytest ends with 4
        removal(test="test_made"),  # fails in a fixture
    )
    verdicts = prove([*wanted.values(), *wrong], [copy])
    assert [item.outcome for item in verdicts] == [*wanted, *(WRONG for _item in wrong)]
    assert engine.read_text() == ENGINE
    assert guards.intact([removal()], [copy]) == []
    (unheard,) = guards.missing([removal()], copy)
    assert unheard == "no part of make test runs test_engine.py::test_odd"
    unheard, unknown = guards.missing([removal(test="test_unknown")], copy)
    assert "not found" in unknown
    assert guards.report(verdicts[:1], 1.0) == 0
    assert [guards.report([item], 1.0) for item in verdicts if item.outcome in (PASSES, WRONG)] == [1] * 7


def test_the_counts_are_what_the_closing_table_of_make_test_reads(
    copy: Copy, capsys: pytest.CaptureFixture[str]
) -> None:
    from counting import Counts, count, not_run

    verdicts = [judge(removal(), guards.Run(status, outcomes, "")) for status, outcomes in (
        (1, (("failure", "Failed: DID NOT RAISE"),)),
        (0, (("passed", ""),)),
        (0, (("skipped", "needs root"),)),
        (2, (("error", "collection failure"),)),
    )]  # fmt: skip
    guards.report(verdicts, 12.0)
    said = capsys.readouterr().out
    assert count(said, succeeded=False) == Counts(1, 2)
    assert not_run(said) == ["SKIPPED [1] A1 odd numbers are refused: needs root"]


def test_a_guard_may_need_several_changes(tmp_path: Path) -> None:
    (tmp_path / "plugins/module_utils/core").mkdir(parents=True)
    engine = tmp_path / "plugins/module_utils/core/engine.py"
    engine.write_text(ENGINE)
    (text,) = changed(removal(more=(("number // 2", "number"),)), tmp_path).values()
    assert "if False" in text
    assert "return number\n" in text
    with pytest.raises(Moved):
        changed(removal(more=(("number // 3", "number"),)), tmp_path)


def test_the_tests_of_the_guards_are_run_by_other_parts() -> None:
    """With all guards in place they are run there and nowhere else."""
    whole = {argument for part in PARTS for command in part.commands for argument in " ".join(command).split()}
    whole.update(unit("3.13", Path("python"), newest=True).commands[0])
    assert "not once" not in whole
    assert [place for place in RUN_WHOLE if place.rstrip("/") not in whole] == []
    assert [test for item in REMOVALS for test in item.tests if not test.startswith(RUN_WHOLE)] == []


def test_a_run_sees_the_files_as_they_are_and_ends_in_its_time(copy: Copy) -> None:
    """Each is a fork of one process, which must not remember what was there before."""
    engine = copy.top / "plugins/module_utils/core/engine.py"
    assert copy.pytest(["test_engine.py::test_odd"]).status == 0
    engine.write_text(ENGINE.replace("if number", "if not number"))
    copy._stamp(engine)
    assert copy.pytest(["test_engine.py::test_odd"]).status == 1
    (copy.top / "test_engine.py").write_text("import signal\ndef test_odd(): signal.pause()\n")
    with pytest.raises(subprocess.TimeoutExpired):
        copy.pytest(["test_engine.py::test_odd"], seconds=0.5)
    (copy.top / "test_engine.py").write_text("def test_odd(): pass\n")
    assert copy.pytest(["test_engine.py::test_odd"]).status == 0
