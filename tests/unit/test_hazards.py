# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Every hazard keeps a test that bears its name, and the guide says which."""

from __future__ import annotations

import hazards


def test_every_hazard_has_a_test() -> None:
    assert hazards.missing() == []


def test_the_guide_is_up_to_date() -> None:
    """`python3 tests/certify/hazards.py` writes it."""
    text = hazards.GUIDE.read_text(encoding="utf-8")
    for tests in hazards.tests_of_hazards().values():
        for path, name in tests:
            assert f"[`{name[len('test_hazard_') :]}`](../{path})" in text
    links = text.count("](../")
    assert links == sum(len(tests) for tests in hazards.tests_of_hazards().values())
