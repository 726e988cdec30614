# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Each line of SECURITY.md that says what holds names a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
TEXT = (TOP / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_is_named_is_a_test(path: str, name: str) -> None:
    tree = ast.parse((TOP / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_line_of_what_was_tried_names_one() -> None:
    tried = TEXT.partition("## What was tried")[2].partition("## What does not hold")[0]
    rows = [line for line in tried.splitlines() if line.startswith("| ") and not line.startswith("| tries")]
    assert len(rows) >= 35
    assert [row for row in rows if not re.search(r"`tests/attacks/\w+\.py::test_\w+` \|$", row)] == []


def test_every_file_of_attacks_is_named() -> None:
    files = {str(path.relative_to(TOP)) for path in (TOP / "tests" / "attacks").glob("test_*.py")}
    assert files == {path for path, _name in NAMED}
