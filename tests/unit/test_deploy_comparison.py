# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The table of docs/deploy-comparison.md says what the cases of tests/torture say; `make comparison` writes it."""

from __future__ import annotations

import comparison
from catalogue import CASES
from deployers import KNOWN_WAYS


def lines() -> list[list[str]]:
    text = comparison.GUIDE.read_text(encoding="utf-8")
    table = text.split(comparison.BEGIN)[1].split(comparison.END)[0].strip().splitlines()
    assert table[0] == comparison.HEAD
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_every_case_has_its_line() -> None:
    found = [(cells[0], cells[1]) for cells in lines()]
    assert found == [(f"D{case.hazard}", f"<a id='{case.name}'></a>{case.title}") for case in CASES]


def test_the_lines_say_who_loses() -> None:
    for case, cells in zip(CASES, lines()):
        for way, cell in zip(case.known_ways()[: len(KNOWN_WAYS)], cells[2:5]):
            assert cell.startswith(comparison.LOSES) is case.is_lost_by(way), (case.name, way.name)
        assert cells[6] == comparison.expected(case), case.name


def test_every_hazard_of_deploying_a_checkout_is_played() -> None:
    """14 and 15 are about deployers themselves, and have tests of their own."""
    assert {case.hazard for case in CASES} == set(range(1, 14))
