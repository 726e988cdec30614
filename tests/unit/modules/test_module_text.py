# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible prints a module's answer on the terminal of whoever runs the play: names in it are text there too."""

from __future__ import annotations

import json
import re
from typing import Any, Callable

import pytest
from ansible_collections.tradekeep.ops.plugins.filter.text import FilterModule
from ansible_collections.tradekeep.ops.plugins.module_utils import door
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus, TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome

EVIL = "\x1b[2J\nforged: ok\r\x7f\x9b2J\u2028\u202etxt\udcff"
ESCAPED = r"\x1b[2J\nforged: ok\r\x7f\x9b2J\u2028\u202etxt\udcff"
HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff]")


def texts(value: Any) -> Any:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (*texts(key), *texts(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)


@pytest.fixture
def result(fake: Any, ended: Any) -> Callable[..., Any]:
    def serve(run: Callable[[Any, Any], Any]) -> Any:
        module = fake({})
        with pytest.raises(ended) as caught:
            door.serve(module, run)
        answer = {**caught.value.result, "warnings": module.warnings}
        for text in texts(answer):
            assert len(text) <= 65536
            for line in text.split("\n"):
                assert not HOSTILE.search(line), ascii(line)
        json.dumps(answer, ensure_ascii=False).encode("utf-8")
        return answer

    return serve


def test_an_answer_is_text(result: Any) -> None:
    def run(module: Any, ports: Any) -> Any:
        ports.progress.note(EVIL)
        ports.progress.note("x" * 400_000)
        record = {"paths": [EVIL, ("x", EVIL)], EVIL: {"count": 1, "none": None, "share": 0.5, "yes": True}}
        return True, record, {"before": {EVIL: EVIL}, "after": "first\nsecond " + EVIL}

    answer = result(run)
    assert answer["warnings"][0] == ESCAPED
    assert len(answer["warnings"][1]) <= 2048
    inner = {"count": 1, "none": None, "share": 0.5, "yes": True}
    assert answer["record"] == {"paths": [ESCAPED, ["x", ESCAPED]], ESCAPED: inner}
    assert answer["diff"]["before"] == {ESCAPED: ESCAPED}
    assert answer["diff"]["after"].split("\n")[:2] == ["first", r"second \x1b[2J"], "a text has lines in a diff"


def test_a_failure_is_one_bounded_line(result: Any) -> None:
    def refused(module: Any, ports: Any) -> Any:
        raise TradekeepError("is damaged", path=EVIL + "x" * 400_000, hint="see")

    answer = result(refused)
    assert answer["msg"].startswith(ESCAPED) and answer["msg"].endswith(": is damaged (see)")
    assert max(map(len, texts(answer))) <= 2048

    def found(module: Any, ports: Any) -> Any:
        lines = (f"PROBLEM: {EVIL}", "PROBLEM: " + "x" * 400_000, "the last")
        return door.answer(Outcome(changed=False, record={"p": lines}, lines=lines, status=ExitStatus.FINDINGS))

    answer = result(found)
    assert answer["msg"].startswith(f"PROBLEM: {ESCAPED}; PROBLEM: xxx")
    assert answer["msg"].endswith("; the last")
    assert len(answer["msg"]) <= 2048


def test_a_traceback_is_text(result: Any) -> None:
    def mistaken(module: Any, ports: Any) -> Any:
        raise RuntimeError(EVIL)

    answer = result(mistaken)
    assert "in mistaken" in answer["exception"]
    assert f"RuntimeError: {ESCAPED}" in answer["exception"]


def test_filters_for_what_roles_show() -> None:
    filters = FilterModule().filters()
    assert filters["printable"](EVIL) == ESCAPED
    assert len(filters["printable"]("x" * 400_000)) <= 2048
    cell = filters["markdown"](EVIL + "| `a` **b** [c](https://x.example) <script> @octocat &amp; _i_ ~~d~~")
    assert not HOSTILE.search(cell)
    assert not re.search(r"[|`*\[\]()<>@~_\\]", cell)
    assert "&amp;" not in cell
    assert filters["markdown"]("user_data 2026-01-01: ok, 5.1 s") == "user&#95;data 2026&#45;01&#45;01&#58; ok, 5.1 s"
