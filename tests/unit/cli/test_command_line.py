# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The command line: what can be said, where answers go, and the exit statuses."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli, errors, terminal
from ansible_collections.tradekeep.ops.plugins.module_utils.core.command_line import build_parser
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Said:
    def __init__(
        self, words: list[str], stderr: Optional[io.StringIO] = None, stdout: Optional[io.StringIO] = None
    ) -> None:
        out, err = stdout or io.StringIO(), stderr or io.StringIO()
        self.status = cli.main(words, config_dir="/nonexistent", stdout=out, stderr=err)
        self.out, self.err = out.getvalue(), err.getvalue()


def answering(monkeypatch: pytest.MonkeyPatch, result: Any) -> list[Any]:
    """Replace the operations: each command returns or raises `result`; the parsed arguments and ports are kept."""
    seen: list[Any] = []

    def carry_out(arguments: Any, ports: Any) -> Outcome:
        seen.append((arguments, ports))
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(cli, "carry_out", carry_out)
    return seen


COMMANDS = (
    "config check",
    "config show",
    "config show kalshi",
    "tree",
    "tree --fix",
    "list",
    "list --limit 5",
    "backup --tier weekly --name before_upgrade --encrypt --output /mnt --dry-run",
    "verify latest --deep",
    "verify all",
    "restore latest --component credentials --component state --path **/*.db --to /tmp/x --dry-run",
    "recover",
    "prune --dry-run --trust-clock",
    "release before_upgrade --dry-run",
    "drill",
    "drill before_upgrade --from /mnt --key recovery.asc --passphrase-file /root/p --dry-run",
    "drill --log",
    "db check",
    "db check a.db b.db",
    "migrate /srv/old --force --start --by me --passphrase-file /root/p --dry-run",
    "fence --reason moved --dry-run",
    "unfence --no-start --dry-run",
    "db optimize a.db",
)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses_with_common_options_before_and_after(line: str) -> None:
    parser = build_parser(config_dir="/etc/tradekeep", version="0")
    before = parser.parse_args(["--app", "x", "--json", "--no-progress", *line.split()])
    after = parser.parse_args([*line.split(), "--app", "x", "--json", "--no-progress"])
    assert before == after
    assert (before.app, before.json, before.no_progress, before.config) == ("x", True, True, None)


@pytest.mark.parametrize(
    "line",
    [
        "dril",
        "drill a b",
        "backup --tier hourly",
        "backup --ti daily",
        "restore",
        "list extra",
        "list --limit 0",
        "--config a --app b list",
    ],
)
def test_wrong_usage_is_one_line_and_status_2(line: str) -> None:
    said = Said(line.split())
    assert said.status == 2
    assert said.out == ""
    assert said.err.startswith("tradekeep: ")
    assert said.err.count("\n") == 1
    answer = json.loads(Said(["--json", *line.split()]).out)
    assert answer["exit_status"] == 2


def test_a_profile_can_be_shown_without_a_configuration() -> None:
    said = Said(["config", "show", "kalshi", "--json"])
    answer = json.loads(said.out)
    assert said.status == 0
    assert answer["command"] == "config show"
    assert answer["record"]["profile"]["name"] == "kalshi"
    assert Said(["config", "show", "kalshy"]).status == 2


def test_results_go_to_standard_output_and_with_json_one_object_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome(
        changed=True, record={"name": "caf\u00e9\udcff"}, lines=("one", "two"), status=errors.ExitStatus.FINDINGS
    )
    answering(monkeypatch, outcome)
    said = Said(["list"])
    assert (said.out, said.err, said.status) == ("one\ntwo\n", "", 1)
    said = Said(["list", "--json"])
    assert said.err == ""
    assert said.out.count("\n") == 1
    assert json.loads(said.out) == {
        "command": "list",
        "changed": True,
        "exit_status": 1,
        "record": {"name": "caf\u00e9\udcff"},
    }


def test_what_is_said_of_a_served_migration_is_kept_off_its_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output leads to another server, which reads frames from it."""
    answering(monkeypatch, Outcome(changed=True, record={}, lines=("served",)))
    said = Said(["migrate", "--serve"])
    assert (said.out, said.err) == ("", "served\n")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.FindingsError("x"), 1),
        (errors.ConfigurationError("x"), 2),
        (errors.SpaceError("x"), 3),
        (errors.InterruptedBySignal("x"), 3),
        (errors.NeedsPersonError("x"), 4),
        (OSError(28, "No space left on device", "/x"), 3),
        (PermissionError(13, "Permission denied", b"/x\xff"), 3),
        (MemoryError(), 3),
    ],
)
def test_every_error_is_one_line_with_its_status(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    answering(monkeypatch, error)
    said = Said(["list", "--json"])
    assert said.status == status
    assert said.err.count("\n") == 1
    answer = json.loads(said.out)
    assert answer["exit_status"] == answer["error"]["exit_status"] == status


def test_a_mistake_of_the_program_needs_a_person_and_leaves_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, KeyError("mistake"))
    said = Said(["list", "--json"])
    assert said.status == 4
    assert said.err.splitlines()[-1].startswith("tradekeep: internal error: KeyError")
    assert "Traceback" in said.err
    assert json.loads(said.out)["error"]["exit_status"] == 4


def test_a_bar_only_on_a_terminal_that_wants_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = answering(monkeypatch, Outcome(changed=False, record={}))
    for words, stream in (
        (["list"], Terminal()),
        (["list"], io.StringIO()),
        (["list", "--no-progress"], Terminal()),
        (["list", "--json"], Terminal()),
    ):
        Said(words, stream)
    assert [type(ports.progress.shown) for _, ports in seen] == [terminal.Bar, *[terminal.NotesOnly] * 3]


def test_the_bar_stays_on_one_line_and_leaves_nothing_behind() -> None:
    stream = Terminal()
    bar = terminal.Bar(stream)
    bar.start("copying\x1b[2J", 2048)
    bar.advance(1024)
    bar.advance(4096)
    bar.note("careful\nnow")
    bar.finish()
    text = stream.getvalue()
    assert "\x1b" not in text
    assert text.count("\n") == 1
    assert "tradekeep: careful\\nnow\n" in text


def test_an_account_is_fitted_to_a_terminal_and_to_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome(changed=False, record={}, lines=("wide",), fitted=lambda width: (f"narrow {width}",))
    answering(monkeypatch, outcome)
    monkeypatch.setenv("COLUMNS", "61")
    assert Said(["list"], stderr=Terminal()).out == "wide\n", "`tradekeep list | less` on a terminal"
    assert Said(["list"], stdout=Terminal()).out == "narrow 61\n"
    monkeypatch.delenv("COLUMNS")
    assert Said(["list"], stdout=Terminal()).out == "wide\n", "a terminal that does not say how wide it is"


class Full(io.StringIO):
    """A log on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("screen", [Full, type("FullTerminal", (Full, Terminal), {})])
def test_what_cannot_be_told_changes_nothing(monkeypatch: pytest.MonkeyPatch, screen: type[Full]) -> None:
    def carry_out(arguments: Any, ports: Any) -> Outcome:
        ports.progress.start("capturing", 10)
        ports.progress.note("on the way")
        ports.progress.finish()
        return Outcome(changed=True, record={}, lines=("done",), status=errors.ExitStatus.FINDINGS)

    monkeypatch.setattr(cli, "carry_out", carry_out)
    monkeypatch.setattr(cli, "discard_unheard", lambda: None)
    said = Said(["list", "--json"], stderr=screen())
    assert said.status == 1
    assert json.loads(said.out)["changed"] is True
    assert Said(["list"], stderr=screen()).status == 1
    answering(monkeypatch, errors.NeedsPersonError("x"))
    assert cli.main(["list", "--json"], stdout=Full(), stderr=Full()) == 4


def test_a_closed_stream_is_no_terminal() -> None:
    stream = Terminal()
    assert terminal.is_terminal(stream)
    assert not terminal.is_terminal(io.StringIO())


def test_the_journal_is_told_what_an_exit_status_means(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """systemd itself says ``status=3/NOTIMPLEMENTED``."""
    answering(monkeypatch, errors.SpaceError("no space left"))
    for of_a_unit in (True, False):
        with (tmp_path / "journal").open("w+") as journal:
            status = os.fstat(journal.fileno())
            monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino if of_a_unit else 1}")
            cli.main(["list"], stdout=io.StringIO(), stderr=journal)
            journal.seek(0)
            said = journal.read().splitlines()
        assert len(said) == 1 + of_a_unit
        if of_a_unit:
            assert "exit status 3" in said[1] and "failed, and the data is as it was" in said[1]
