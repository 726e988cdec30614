# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a part's log says of its tests: how many, and which did not run."""

from __future__ import annotations

import re
from dataclasses import dataclass

PYTEST_SUMMARY = re.compile(r"^.*\b\d+ (?:passed|failed|errors?|skipped)\b.* in [\d.]+s\b.*$", re.MULTILINE)
# Of ansible-test: what it begins with each test, and its account of those that failed.
STARTED = re.compile(r"^Running (?:sanity test |\S+ integration test role$)", re.MULTILINE)
BROKEN = re.compile(r"^FATAL: The (\d+) (?:sanity|integration) test\(s\)", re.MULTILINE)
ANSI = re.compile(r"\x1b\[[0-9;]*m")
NOT_RUN = re.compile(r"^(?:SKIPPED \[|NOT COLLECTED|WARNING: (?:Skipping|All targets skipped))", re.MULTILINE)


@dataclass(frozen=True)
class Counts:
    """Tests of a part."""

    passed: int = 0
    failed: int = 0


def count(log: str, *, succeeded: bool) -> Counts:
    """Count from the log; a tool that counts nothing is one test, and a failure is never counted as none."""
    log = ANSI.sub("", log)
    passed, failed = _pytest(log)
    started = len(STARTED.findall(log))
    broken = sum(int(number) for number in BROKEN.findall(log))
    passed, failed = passed + max(started - broken, 0), failed + broken
    if succeeded:
        return Counts(max(passed, 1), failed)
    return Counts(passed, max(failed, 1))


def _pytest(log: str) -> tuple[int, int]:
    """Sum over the summary lines; one part may run pytest many times."""
    lines = PYTEST_SUMMARY.findall(log)
    return (
        sum(int(number) for line in lines for number in re.findall(r"(\d+) passed", line)),
        sum(int(number) for line in lines for number in re.findall(r"(\d+) (?:failed|errors?)\b", line)),
    )


def not_run(log: str) -> list[str]:
    """The lines in which a tool says that it left something out, each once."""
    return list(dict.fromkeys(line for line in ANSI.sub("", log).splitlines() if NOT_RUN.match(line)))
