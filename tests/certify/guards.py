#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Proves that each guard against a hazard has a test that fails without it: takes one out at a time and runs the test.

    python tests/certify/guards.py [--jobs N] [WORD ...]     (WORD: a hazard such as c2, or part of a guard's words)

First it runs those tests with all guards in place. With --passing-elsewhere it only sees that each is there, and in a
directory that another part of `make test` runs as a whole: that they pass is shown, and demanded, there.

Works in copies of the checkout and never changes the checkout itself. Needs what the tests need. The exit status is 1
when a test passes without its guard, when a guard's text is no longer where removals/ says, or when anything else than
a failing test ends a run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import checkout
from parts import RUN_WHOLE
from removals import REMOVALS, Moved, Removal, changed

# For the tests of one guard; together they have as long as they need, run.py ends a part that takes too long.
SECONDS = 600
FAILS, PASSES, WRONG, NOT_RUN = "fails without it", "PASSES WITHOUT IT", "ERROR", "not run"
# A test that fails for one of these was not failed by the absence of the guard.
BROKEN = ("NameError", "UnboundLocalError", "ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError")


@dataclass(frozen=True)
class Verdict:
    """What became of one removal."""

    removal: Removal
    outcome: str
    said: str = ""


@dataclass(frozen=True)
class Run:
    """How pytest ended: its exit status, and of each test the outcome and the first line of what it said."""

    status: int
    outcomes: tuple[tuple[str, str], ...]
    log: str


class Copy:
    """A copy of the checkout in which one guard at a time is taken out."""

    def __init__(self, place: Path, names: Sequence[str]) -> None:
        self.place = place
        self.top = checkout.copy(list(names), place / "c")
        self._changes = 0
        self._stopped = 0
        self._warmed: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """End the process that runs the tests."""
        if self._warmed is not None:
            with self._warmed, contextlib.suppress(BrokenPipeError):
                self._warmed.communicate()
            self._warmed = None

    def pytest(self, tests: Sequence[str], *options: str, seconds: float | None = None) -> Run:
        """Run these tests and nothing else."""
        report, log = self.place / "report.xml", self.place / "log"
        report.unlink(missing_ok=True)
        arguments = ["-q", *options, *self._plugins(tests)]
        arguments += [f"--junitxml={report}", f"--basetemp={self.place / f't{self._stopped}'}", *tests]
        request = {"arguments": arguments, "log": str(log), "seconds": seconds}
        answer = self._ask(json.dumps(request) + "\n")
        if answer is None:
            self._stopped += 1  # what the test had started may still write where it worked
            raise subprocess.TimeoutExpired(arguments, seconds or 0)
        return Run(answer, _outcomes(report), log.read_text(encoding="utf-8", errors="replace"))

    def _ask(self, request: str) -> int | None:
        if self._warmed is None:
            self._warmed = self._start()
        assert self._warmed.stdin is not None
        assert self._warmed.stdout is not None
        self._warmed.stdin.write(request)
        self._warmed.stdin.flush()
        answer = self._warmed.stdout.readline()
        if not answer:
            raise SystemExit("error: the process that runs the tests is gone (tests/certify/warmed.py)")
        found = json.loads(answer)
        return None if found is None else int(found)

    def _start(self) -> subprocess.Popen[str]:
        """Byte code is kept and plugins are left out: starting takes far longer than most of the tests."""
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
        variables = {
            **kept,
            "ANSIBLE_COLLECTIONS_PATH": str(self.top / ".cache/collections"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        program = [sys.executable, str(Path(__file__).with_name("warmed.py"))]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen(program, cwd=self.top, env=variables, text=True, **streams)

    def _plugins(self, tests: Sequence[str]) -> list[str]:
        """Property tests draw the same examples each time."""
        files = {self.top / test.partition("::")[0] for test in tests}
        if any("hypothesis" in path.read_text(encoding="utf-8") for path in files if path.is_file()):
            return ["-p", "_hypothesis_pytestplugin", "--hypothesis-seed=0"]
        return []

    def without(self, removal: Removal) -> Verdict:
        """Take the guard out, run its tests, put it back."""
        try:
            edits = changed(removal, self.top)
        except (Moved, SyntaxError) as error:
            return Verdict(removal, WRONG, str(error))
        before = {path: (path.read_bytes(), path.stat()) for path in edits}
        try:
            for path, text in edits.items():
                path.write_text(text, encoding="utf-8")
                self._stamp(path)
            return judge(removal, self.pytest(removal.tests, "-x", seconds=SECONDS))
        except subprocess.TimeoutExpired:
            return Verdict(removal, WRONG, f"its tests did not end within {SECONDS} s")
        finally:
            for path, (content, status) in before.items():
                path.write_bytes(content)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _stamp(self, path: Path) -> None:
        """A time that no other content of the file has: Python tells stale byte code by time and size alone."""
        self._changes += 1
        os.utime(path, (self._changes, self._changes))


def _outcomes(report: Path) -> tuple[tuple[str, str], ...]:
    if not report.exists():
        return ()
    found = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        ended = [
            (child.tag, child.get("message") or "") for child in case if child.tag in ("failure", "error", "skipped")
        ]
        found.extend((tag, text.strip().partition("\n")[0]) for tag, text in ended or [("passed", "")])
    return tuple(found)


def judge(removal: Removal, run: Run) -> Verdict:
    """A guard is proven by a test that failed, and by nothing else."""
    failed = [text for outcome, text in run.outcomes if outcome == "failure"]
    broken = [text for outcome, text in run.outcomes if text.startswith(BROKEN)]
    if run.status == 1 and failed and not broken:
        return Verdict(removal, FAILS, failed[0])
    if broken:
        return Verdict(removal, WRONG, f"the program is broken rather than without a guard: {broken[0]}")
    if run.status != 0 or not run.outcomes:
        return Verdict(removal, WRONG, f"pytest ended with {run.status}: {run.log.strip()[-800:]}")
    skipped = [text for outcome, text in run.outcomes if outcome == "skipped"]
    if len(skipped) == len(run.outcomes):
        return Verdict(removal, NOT_RUN, skipped[0])
    return Verdict(removal, PASSES)


def chosen(words: Sequence[str]) -> list[Removal]:
    """The removals of these hazards or guards; all without words."""
    wanted = [word.lower() for word in words]
    return [
        item
        for item in REMOVALS
        if not wanted or any(word == item.hazard or word in item.guard.lower() for word in wanted)
    ]


def prove(removals: Sequence[Removal], copies: Sequence[Copy]) -> list[Verdict]:
    """Every removal, side by side in the copies."""
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(removal: Removal) -> Verdict:
        copy = free.get()
        try:
            return copy.without(removal)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(one, removals))


def intact(removals: Sequence[Removal], copies: Sequence[Copy]) -> list[str]:
    """Run every named test with all guards in place; returns the logs of what did not pass."""
    tests = sorted({test for removal in removals for test in removal.tests})
    shares = [tests[number :: len(copies)] for number in range(len(copies))]
    with ThreadPoolExecutor(len(copies)) as pool:
        runs = list(pool.map(lambda pair: pair[0].pytest(pair[1]) if pair[1] else None, zip(copies, shares)))
    return [run.log for run in runs if run is not None and run.status != 0]


def missing(removals: Sequence[Removal], copy: Copy) -> list[str]:
    """Why tests cannot be relied on to pass with all guards in place: no part runs them, or they are not there."""
    tests = sorted({test for removal in removals for test in removal.tests})
    unheard = [f"no part of make test runs {test}" for test in tests if not test.startswith(RUN_WHOLE)]
    run = copy.pytest(tests, "--collect-only")
    return [*unheard, *([run.log] if run.status else [])]


def report(verdicts: Sequence[Verdict], seconds: float) -> int:
    """The table, what is wrong, and one line of counts; returns the exit status."""
    width = max(len(item.removal.guard) for item in verdicts)
    for item in verdicts:
        test = item.removal.tests[0].rpartition("::")[2]
        print(f"{item.removal.hazard.upper():3} {item.removal.guard:{width}}  {item.outcome:17}  {test}")
        if item.outcome in (WRONG, PASSES):
            print(f"    {item.said or ' '.join(item.removal.tests)}")
    counts = Counter(item.outcome for item in verdicts)
    hazards = len({item.removal.hazard for item in verdicts})
    for item in verdicts:
        if item.outcome == NOT_RUN:
            print(f"SKIPPED [1] {item.removal.hazard.upper()} {item.removal.guard}: {item.said}")
    failed = counts[PASSES] + counts[WRONG]
    print(
        f"\n{len(verdicts)} guards against {hazards} hazards: {counts[FAILS]} proven by a test that fails without them"
    )
    print(f"{counts[FAILS]} passed, {failed} failed, {counts[NOT_RUN]} skipped in {seconds:.2f}s")
    return 1 if failed else 0


def main(words: Sequence[str] | None = None) -> int:
    """Prove the chosen guards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=max(2, os.cpu_count() or 2), help="guards taken out at once")
    parser.add_argument(
        "--passing-elsewhere", action="store_true", help="the tests are run, with all guards in place, by other parts"
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="hazards, or parts of the words for a guard")
    options = parser.parse_args(words)
    removals = chosen(options.words)
    if not removals:
        parser.error(f"no such hazard or guard: {' '.join(options.words)}")
    began = time.monotonic()
    names = checkout.files()
    with tempfile.TemporaryDirectory(prefix="tk-") as scratch:
        os.chmod(scratch, 0o755)  # some tests act for another account
        with contextlib.ExitStack() as stack:
            copies = [Copy(Path(scratch) / str(number), names) for number in range(min(options.jobs, len(removals)))]
            for copy in copies:
                stack.callback(copy.close)
            logs = missing(removals, copies[0]) if options.passing_elsewhere else intact(removals, copies)
            if logs:
                print("\n".join(logs))
                print("error: with every guard in place these tests do not pass, or no other part runs them")
                return 1
            verdicts = prove(removals, copies)
    return report(verdicts, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
