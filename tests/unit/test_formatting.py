# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Laws of what is shown: printable, bounded, and unchanged where nothing had to change."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import formatting
from ansible_collections.tradekeep.ops.plugins.module_utils.core.formatting import (
    counted,
    output_line,
    output_text,
    printable,
    printable_values,
    shortened,
    shortened_values,
    traceback_lines,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.text import first_lines
from hypothesis import example, given
from hypothesis import strategies as st

ODD = "\0\n\r\t\x1b\x7f\x85\x9b\u2028\u202e\u2066\udcff"
ANY = st.text(st.characters(exclude_categories=()) | st.sampled_from(ODD))
LIMITS = st.integers(min_value=1, max_value=80)
ACTING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(ANY, LIMITS)
@example("\x1b" * 100, 1)
@example("\x1b" * 100, 3)
def test_what_is_shown_is_printable_bounded_and_stays_as_it_is(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert not {unicodedata.category(character) for character in shown} & ACTING
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= limit
    assert printable(shown, limit) == shown


@given(st.text(), LIMITS)
def test_printable_text_within_the_limit_is_unchanged(text: str, limit: int) -> None:
    if text.isprintable() and len(text) <= limit:
        assert printable(text, limit) == shortened(text, limit) == text


@given(ANY)
def test_an_escape_says_which_character_it_was(text: str) -> None:
    if "\\" not in text:
        shown = printable(text, 10 * len(text) + 1)
        assert shown.encode("ascii", "backslashreplace").decode("unicode_escape") == text


@given(ANY, LIMITS)
def test_what_is_too_long_keeps_both_ends(text: str, limit: int) -> None:
    short = shortened(text, limit)
    assert len(short) == min(len(text), limit)
    if len(text) > limit:
        middle = limit // 2
        assert short[middle] == "…"
        assert text.startswith(short[:middle])
        assert text.endswith(short[middle + 1 :])


@given(ANY)
@example("<3>forged")
@example("\t<191>forged")
def test_no_line_sets_its_level(text: str) -> None:
    line = output_line(text)
    assert line.isprintable()
    start = line.lstrip()
    assert not (start.startswith("<") and start[1:4].partition(">")[0].isdigit() and ">" in start[1:5])


@given(ANY)
def test_the_output_of_a_program_keeps_its_lines(text: str) -> None:
    shown = output_text(text)
    assert shown.count("\n") == text.count("\n")
    assert shown.replace("\n", "").replace("\t", "").isprintable()


@pytest.mark.parametrize("change", [printable_values, shortened_values])
def test_content_keeps_its_shape(change: object) -> None:
    content = {"a": [1, None, True, 0.5, {"b": "c"}], 5: ("x",)}
    assert change(content) == {"a": [1, None, True, 0.5, {"b": "c"}], 5: ["x"]}
    assert printable_values(["a\n" * 9], 9) == [r"a\na…a\n"]
    assert shortened_values(["a\n" * 9], 9) == ["a\na\n…a\na\n"]


def test_no_name_hides_another() -> None:
    content = {"a\n": 1, r"a\n": 2, "b": 3}
    assert printable_values(content) == {r"a\n": 1, r"a\n (2)": 2, "b": 3}
    assert shortened_values({"x" * 99: 1, "x" * 98: 2}, 5) == {"xx…xx": 1, "xx…xx (2)": 2}


def test_a_traceback_names_every_call_and_cause() -> None:
    def fails() -> None:
        try:
            raise KeyError("first\nsecond")
        except KeyError as error:
            raise RuntimeError("third\n<3>fourth") from error

    with pytest.raises(RuntimeError) as caught:
        fails()
    lines = list(traceback_lines(caught.value))
    assert all(line.startswith("  ") and line.isprintable() for line in lines)
    assert sum("in fails" in line for line in lines) == 2
    assert r"  RuntimeError: third\n<3>fourth" in lines
    assert any("direct cause" in line for line in lines)


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1.0, "1 file"), (0.5, "0.5 files")]
)
def test_a_number_has_its_noun(count: float, said: str) -> None:
    assert counted(count, "file") == said
    assert counted(2, "entry", "entries") == "2 entries"


def test_plurals_are_made_by_the_function_for_them() -> None:
    """``1 files`` is nowhere said; sizes and limits, which are never one, may be said directly."""
    nouns = "files|rows|tables|entries|backups|lines|paths|problems|things|seconds|documents|databases|warnings|notes"
    plain = re.compile(rf'f"[^"]*\{{[^}}"]*\}} (?:{nouns})\b')
    constant = re.compile(r"\{(?:_?[A-Z_]+|self\._limits\.entries|most:,)\} |CANDIDATES|stands for")
    core = Path(formatting.__file__).parent
    found = [
        f"{path.relative_to(core)}: {line.strip()}"
        for path in sorted(core.rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if plain.search(line) and not constant.search(line)
    ]
    assert found == []


def test_a_long_list_says_how_much_more_there_is() -> None:
    lines = [str(number) for number in range(5)]
    assert first_lines(lines, 5) == tuple(lines)
    assert first_lines(lines, 3, "see --json") == ("0", "1", "2", "and 2 more (see --json)")
