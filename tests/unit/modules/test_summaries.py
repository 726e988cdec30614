# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a play says of the modules' answers, and what becomes a warning of it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.summaries import SUMMARISED, notes_in, summary_lines


def changed(record: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"changed": True, "record": record, **more}


def test_a_restore_says_what_and_where_the_old_data_is() -> None:
    record = {
        "backup": "b.tar.gz",
        "state": "restored",
        "changes": [{"path": f"data/{number}.json"} for number in range(7)],
        "unchanged": 3,
        "seconds": {"downtime": 0.42},
        "safety_backup": "/opt/backups/b_before.tar.gz",
        "left_alone": ["logs"],
    }
    lines = summary_lines({"restore": changed(record)})
    assert lines[0].startswith("restored 7 paths from b.tar.gz: data/0.json, data/1.json,")
    assert lines[0].endswith("data/4.json and 2 more; downtime 0.42 s")
    assert lines[1:] == [
        "what was there before is in /opt/backups/b_before.tar.gz",
        "not restored, may be inconsistent with the restored data: logs",
    ]
    (planned,) = summary_lines(
        {"restore": changed({**record, "state": "planned", "safety_backup": "", "left_alone": []})}
    )
    assert planned.startswith("would restore 7 paths") and planned.endswith("3 are the same")
    (same,) = summary_lines({"restore": {"changed": False, "record": record}})
    assert same == "everything is as b.tar.gz has it; nothing was done"


def test_what_could_not_be_opened_is_not_called_verified() -> None:
    backups = [
        {"name": "new", "ok": True, "level": "checksum", "notes": ["this host cannot decrypt it"]},
        {"name": "old", "ok": True, "level": "deep", "notes": []},
    ]
    lines = summary_lines({"verify": {"changed": False, "record": {"backups": backups}}})
    assert lines[0] == "verified in depth: old"
    assert lines[1].startswith("NOT OPENED") and lines[1].endswith(": new")
    assert notes_in({"backups": backups}) == ["new: this host cannot decrypt it"]


def test_notes_are_told_once_and_not_without_end() -> None:
    assert notes_in({"notes": ["a", "a"], "warnings": ["b"], "others": [{"notes": ["not ours"]}]}) == ["a", "b"]
    many = notes_in({"notes": [str(number) for number in range(50)]})
    assert len(many) == 21 and many[-1].startswith("and 30 more")
    assert notes_in(None) == notes_in({"notes": "text", "backups": [1, {"notes": [2]}]}) == []


@pytest.mark.parametrize("name", SUMMARISED)
@pytest.mark.parametrize("is_changed", [True, False])
def test_nothing_in_an_answer_is_relied_on(name: str, is_changed: bool) -> None:
    """Records come from hosts, and from modules of another release."""
    for record in ({"x": 1}, {"backup": 3, "changes": [1], "plan": [], "seconds": 2, "source": None, "backups": 4}):
        assert all(line.isprintable() for line in summary_lines({name: {"changed": is_changed, "record": record}}))
    for result in ({}, {"skipped": True}, {"record": {}}, {"record": {"a": 1}, "failed": True}, None, "lost"):
        assert summary_lines({name: result}) == []


def test_check_mode_claims_nothing() -> None:
    results = {
        "tree": changed({"changes": [{"path": "data"}]}),
        "configuration": changed({"path": "/etc/tradekeep/a.json", "command": {"version": "1.0.0", "changed": False}}),
        "restore": changed({"backup": "b", "state": "planned", "changes": [{"path": "x"}]}),
        "units": {"changed": False, "record": {"units": ["a.timer"]}},
    }
    assert summary_lines(results, check=True) == [
        "check mode, not done: data tree: data",
        "command: 1.0.0, nothing to do",
        "check mode, not done: configuration: /etc/tradekeep/a.json written",
        "would restore 1 path from b: x; 0 are the same",
        "timers: a.timer, nothing to do",
    ]
    assert not any(line.startswith("check mode") for line in summary_lines(results))


def test_text_of_a_host_does_not_act_on_the_terminal() -> None:
    (line,) = summary_lines({"tree": changed({"changes": [{"path": "a\x1b[2Jb\nc"}]})})
    assert line == "data tree: a\\x1b[2Jb\\nc"
