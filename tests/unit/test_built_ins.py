# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The page about the built-in profiles says what they are."""

from __future__ import annotations

import built_ins


def test_the_page_is_up_to_date() -> None:
    """`python3 tests/certify/built_ins.py` writes it."""
    assert built_ins.PAGE.read_text(encoding="utf-8") == built_ins.page(built_ins.built_ins())
