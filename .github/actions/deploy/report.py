# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Step 4: outputs and summary, from the hosts' own records. It runs after a failure too, where it is needed most.

Names of files, subjects of commits and messages come from elsewhere: in the summary they are text and nothing else.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any, Iterator

from common import Places, formatting, output, places, required, say, step

# The worst first: what one host answers for the whole run.
STATES = (
    "rollback_failed",
    "failed",
    "undone",
    "refused",
    "not_attempted",
    "waiting",
    "rolled_back",
    "deployed",
    "planned",
    "unchanged",
)
SHOWN_LINES = 200
SHOWN_TEXT = 300
# GitHub takes 1 MiB for a step.
SUMMARY_BYTES = 900_000


def main() -> int:
    """Read, tell."""
    here = places()
    mode = here.settings()["mode"]
    answers = read_answers(here)
    for name, value in outputs(answers).items():
        output(name, value)
    output("record", here.records)
    output("records", "true" if any(here.records.glob("*.json")) else "false")
    output("artifact", f"tradekeep-{mode}-{secrets.token_hex(4)}")
    text = summary(mode, answers)
    with Path(required("GITHUB_STEP_SUMMARY")).open("a", encoding="utf-8") as file:
        file.write(text)
    for name, value in outputs(answers).items():
        say(f"{name}: {value}")
    return 0


def read_answers(here: Places) -> dict[str, dict[str, Any]]:
    """By host. One that did not answer has failed, unless it was spared because another one had."""
    try:
        expected = json.loads((here.private / "hosts.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        expected = []
    found = {}
    for path in sorted(here.records.glob("*.json")):
        answer = json.loads(path.read_text(encoding="utf-8"))
        found[str(answer["host"])] = answer
    spared = any(answer.get("failed") for answer in found.values())
    reason = "not attempted, because another host failed" if spared else "no answer from this host; see the job's log"
    silent = {"failed": True, "msg": reason, "record": {"state": "not_attempted"} if spared else {}}
    return {host: found.get(host, silent) for host in dict.fromkeys([*expected, *found])}


def state(answer: dict[str, Any]) -> str:
    """What became of one host."""
    recorded = str((answer.get("record") or {}).get("state") or "")
    if answer.get("failed"):
        return recorded if recorded in STATES[: STATES.index("waiting")] else "failed"
    return recorded if recorded in STATES else "failed"


def outputs(answers: dict[str, dict[str, Any]]) -> dict[str, str]:
    """One value for all hosts: the worst result, the longest downtime, each commit once."""
    records = [answer.get("record") or {} for answer in answers.values()]
    states = [state(answer) for answer in answers.values()] or ["failed"]
    downtimes = [float(record["downtime_seconds"]) for record in records if record.get("downtime_seconds") is not None]
    return {
        "result": min(states, key=STATES.index),
        "old-commit": _commits(records, "old_commit"),
        "new-commit": _commits(records, "new_commit"),
        "downtime": f"{max(downtimes):.2f}" if downtimes else "",
        "preserved": _verdict(records),
    }


def _commits(records: list[dict[str, Any]], key: str) -> str:
    found = [str(record.get(key) or "") for record in records]
    return " ".join(dict.fromkeys(commit for commit in found if re.fullmatch(r"[0-9a-f]{40,64}", commit)))


def _verdict(records: list[dict[str, Any]]) -> str:
    """Preserved only where every proof says so; empty where nothing had to be proven."""
    found = {str((record.get("proof") or {}).get("verdict") or "") for record in records} - {""}
    if not found:
        return ""
    return "preserved" if found == {"preserved"} else "damaged"


def summary(mode: str, answers: dict[str, dict[str, Any]]) -> str:
    """The page of the job: a table of all hosts, then what each has to say."""
    lines = [f"## {mode.capitalize()}: {outputs(answers)['result'].replace('_', ' ')}", ""]
    lines += ["| host | result | old | new | downtime | data |", "|---|---|---|---|---|---|"]
    lines += [_row(host, answer) for host, answer in answers.items()]
    for host, answer in answers.items():
        lines += ["", f"<details><summary>{_text(host)}</summary>", "", *_details(answer), "", "</details>"]
    text = "\n".join([*lines, "", ""])
    if len(text.encode()) <= SUMMARY_BYTES:
        return text
    return "\n".join([*lines[: 4 + len(answers)], "", "The rest is too long for this page; see the artifact.", ""])


def _row(host: str, answer: dict[str, Any]) -> str:
    record = answer.get("record") or {}
    downtime = record.get("downtime_seconds")
    cells = (
        _text(host),
        state(answer).replace("_", " "),
        _code(str(record.get("old_commit") or "-")[:12]),
        _code(str(record.get("new_commit") or "-")[:12]),
        "-" if downtime is None else f"{float(downtime):.2f} s",
        _text((record.get("proof") or {}).get("verdict") or "-"),
    )
    return f"| {' | '.join(cells)} |"


def _details(answer: dict[str, Any]) -> Iterator[str]:
    record = answer.get("record") or {}
    if answer.get("failed"):
        yield from ("**" + _text(answer.get("msg") or "failed") + "**", "")
    yield from _list("Missing before services can run", record.get("missing"))
    collisions = [
        f"{item.get('path')}: {item.get('what') or item.get('kind')} ({item.get('outcome')})"
        for item in record.get("collisions") or []
    ]
    yield from _list("Collisions with live data", collisions)
    commits = [f"{str(item.get('commit'))[:12]} {item.get('subject')}" for item in record.get("commits") or []]
    yield from _list("Commits", commits)
    changes = (record.get("changes") or {}).get("paths") or {}
    yield from _list("Changes", [f"{action} {path}" for action, paths in changes.items() for path in paths])
    yield from _list("Notes", record.get("notes"))
    yield from _list("Kept aside, because it was edited on the host", record.get("quarantined"))
    yield from _proof((record.get("proof") or {}).get("components") or {})
    if record.get("record"):
        yield f"Record on the host: {_code(record['record'])}"


def _proof(components: dict[str, Any]) -> Iterator[str]:
    if not components:
        return
    columns = list(dict.fromkeys(key for counts in components.values() for key in counts))
    yield from ("Proof of the data:", "", f"| component | {' | '.join(map(_text, columns))} |")
    yield "|---" * (len(columns) + 1) + "|"
    for name, counts in components.items():
        yield f"| {_text(name)} | {' | '.join(_text(counts.get(column, '')) for column in columns)} |"
    yield ""


def _list(title: str, items: list[Any] | None) -> Iterator[str]:
    if not items:
        return
    yield from (f"{title}:", "")
    yield from (f"- {_code(item)}" for item in items[:SHOWN_LINES])
    if len(items) > SHOWN_LINES:
        yield f"- and {len(items) - SHOWN_LINES} more, in the artifact"
    yield ""


def _text(value: object) -> str:
    """Text that is neither Markdown, nor HTML, nor a mention, nor the end of a cell."""
    shown: str = formatting.markdown(value, SHOWN_TEXT)
    return shown


def _code(value: object) -> str:
    return f"<code>{_text(value)}</code>"


if __name__ == "__main__":
    step(main)
