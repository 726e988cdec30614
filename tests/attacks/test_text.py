# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot that has been taken over chooses names of files that act on the terminal or the journal that shows them.

Commands are run on a tree with such names, and on archives with names of hundreds of thousands of characters: what is
printed stays text, on the lines that tradekeep began, and is bounded.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import traceback
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli, terminal
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.text import table
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

TOP = Path(__file__).resolve().parents[2]
DRILL = TOP / "roles/drill/vars/main.yml"
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
BOT = 65534
LONGEST_LINE = 2048
FORGED = "tradekeep: forged, all is well"
NAMES = {
    "escape sequence": b"\x1b[2J\x1b]0;owned\x07.json",
    "line break": b"a\n" + FORGED.encode(),
    "carriage return": b"a\r" + FORGED.encode(),
    "C1 control": "\x9b2J\x85.json".encode(),
    "bytes that are no text": b"\x9b2J\xff.json",
    "bidirectional override": "\u202etxt.exe\u2066.json".encode(),
    "line separator": f"a\u2028{FORGED}\u2029".encode(),
    "DEL": b"a\x7f.json",
    "level of the journal": b"<3>" + FORGED.encode(),
}
HOSTILE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff]")


def as_bot(directory: Path, work: Callable[[], None]) -> None:
    """Do something in a directory as an account without any right."""
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    if os.geteuid() == 0:
        os.fchown(place, BOT, BOT)
    child = os.fork()
    if child == 0:
        try:
            os.fchdir(place)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(BOT, BOT, BOT)
                os.setresuid(BOT, BOT, BOT)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(place)
    assert os.waitpid(child, 0)[1] == 0


class Host:
    """An application in a directory of its own, and what its command says."""

    def __init__(self, base: Path) -> None:
        self.application = resolve_application(
            "kalshi",
            become=False,
            root=str(base / "data"),
            backup_dir=str(base / "backups"),
            state_dir=str(base / "state"),
            config_dir=str(base / "etc"),
            bin_dir=str(base / "bin"),
        )
        install_configuration(self.application)
        self.run("tree", "--fix")

    @property
    def root(self) -> Path:
        return Path(self.application.root)

    def run(self, *words: str) -> tuple[int, str]:
        out, err = io.StringIO(), io.StringIO()
        status = cli.main(list(words), config_dir=str(self.application.config_dir), stdout=out, stderr=err)
        return status, out.getvalue() + err.getvalue()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def plant(host: Host, name: bytes) -> None:
    """What shows a name in most commands: a damaged document, a FIFO, and one of a mode that is not the profile's."""

    def work() -> None:
        with open(name, "wb") as file:
            file.write(b'{"balance": 1}')
        os.mkfifo(b"f" + name)
        os.chmod(name, 0o777)

    as_bot(host.root / "state", work)


def judged(text: str) -> list[str]:
    """The lines of what was printed, after the claim that a name could not act on whoever looks at them."""
    assert not HOSTILE.search(text), ascii(HOSTILE.findall(text))
    lines = text.split("\n")
    assert not [line for line in lines if line.lstrip().startswith(("tradekeep: forged", "<3>"))]
    assert max(map(len, lines)) <= LONGEST_LINE
    return lines


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_is_text_in_every_command(host: Host, kind: str) -> None:
    plant(host, NAMES[kind])
    for words in ("tree", "backup --dry-run", "backup", "list", "verify latest --deep", "restore latest --dry-run"):
        status, said = host.run(*words.split())
        assert status in (0, 1), said
        judged(said)
    as_bot(host.root / "state", lambda: Path(os.fsdecode(NAMES[kind])).write_text("{"))
    shown = 0
    for words in ("restore latest --dry-run", "restore latest", "tree --fix"):
        status, said = host.run(*words.split())
        assert status == 0, said
        shown += sum("forged" in line or ".json" in line for line in judged(said))
    assert shown >= 2, "the name is shown all the same"


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_is_text_in_an_error(host: Host, kind: str) -> None:
    name = os.fsdecode(NAMES[kind])
    status, said = host.run("restore", "latest", "--path", name)
    assert status in (2, 3)
    assert len(judged(said)) == 2, "one line"
    for words in (["verify", name], ["restore", f"/nowhere/{name}"], ["db", "check", name], [name]):
        status, said = host.run(*words)
        assert status in (2, 3)
        assert len(judged(said)) == 2, "one line"


def hostile_archive(path: Path, name: str) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"1"))
    return path


@pytest.mark.parametrize("name", ["state/" + "x" * 400_000, "state/" + "\x1b" * 400_000, "y/" * 200_000 + "../../z"])
def test_a_message_has_an_end(host: Host, tmp_path: Path, name: str) -> None:
    archive = hostile_archive(tmp_path / "old.tar.gz", name)
    for words in (["restore", str(archive)], ["migrate", str(archive), "--dry-run"], ["verify", str(archive)]):
        status, said = host.run(*words)
        assert status in (1, 2, 3)
        lines = [line for line in judged(said) if line]
        assert lines[-1].startswith(("tradekeep: ", "old.tar.gz")) and "…" in "".join(lines)
        out = io.StringIO()
        cli.main(["--json", *words], config_dir=str(host.application.config_dir), stdout=out, stderr=io.StringIO())
        assert len(json.loads(out.getvalue())) > 3
        assert len(out.getvalue()) < 250_000


def answering(monkeypatch: pytest.MonkeyPatch, result: Any) -> str:
    """What the command says where an operation ends in a certain way."""

    def carry_out(arguments: Any, ports: Any) -> Outcome:
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(cli, "carry_out", carry_out)
    said = io.StringIO()
    cli.main(["list"], stdout=said, stderr=said)
    return said.getvalue()


def test_no_line_begins_as_a_level_of_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """sd-daemon(3): a line of a unit that begins with <0> is an emergency, and shown on every terminal."""
    outcome = Outcome(changed=False, record={}, lines=("<0>emergency", "  <13>x: replaced", "<b>", "a <3> b"))
    said = answering(monkeypatch, outcome)
    assert said.split("\n") == [r"\x3c0>emergency", r"  \x3c13>x: replaced", "<b>", "a <3> b", ""]


def test_a_traceback_is_told_from_what_tradekeep_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said = answering(monkeypatch, KeyError(f"x\n{FORGED}\x1b[2J"))
    judged(said)
    error = RuntimeError(f"x\n{FORGED}\n<0>forged\x1b[2J" + "\nmore" * 100_000)
    lines = judged(answering(monkeypatch, error))
    assert len(lines) < 100
    assert all(line.startswith(("  ", "tradekeep: internal error: RuntimeError: x")) for line in lines if line)


def test_a_note_and_the_bar_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "".join(os.fsdecode(name) for name in NAMES.values()) * 10_000
    for shown in (terminal.NotesOnly, terminal.Bar):
        screen = io.StringIO()
        progress = shown(screen)
        progress.start(hostile, 100)
        progress.advance(10)
        progress.note(hostile)
        progress.finish()
        assert screen.getvalue().count("\n") == 1
        for drawn in screen.getvalue().split("\r"):
            judged(drawn)


def test_a_table_is_as_wide_as_what_is_shown_of_it() -> None:
    rows = [[os.fsdecode(name), "end"] for name in NAMES.values()] + [["z" * 400_000, "end"]]
    lines = table(["name", "state"], rows)
    assert not HOSTILE.search("".join(lines))
    assert len({line.index("end") for line in lines[1:]}) == 1
    assert r"\x1b[2J\x1b]0;owned\x07.json" in lines[1]
    assert max(map(len, table(["name", "state"], rows, width=60, giving_way=((0, 8),)))) <= 60


def test_an_error_keeps_what_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed is escaped, once; what programs read is not."""
    error = TradekeepError("is damaged", path="a\n\u202eb", hint="see\x1b")
    assert str(error) == "a\n\u202eb: is damaged (see\x1b)"
    assert error.as_dict()["path"] == "a\n\u202eb"
    assert answering(monkeypatch, error) == "tradekeep: a\\n\\u202eb: is damaged (see\\x1b)\n"


@pytest.mark.once
@pytest.mark.skipif(not PLAYBOOK.exists(), reason="ansible-playbook is not beside this Python")
def test_the_table_of_drills_is_text_on_the_terminal_and_in_markdown(tmp_path: Path) -> None:
    evil = "a | b\n| forged | kalshi | x | passed |\x1b[2J\x9b\u202e `c` <script> [d](https://x.example) **e** @f"
    inventory = {"all": {"hosts": {"bot1": {"drill_result": {"failed": True, "msg": evil}}}}}
    inventory["all"]["hosts"]["bot2"] = {"drill_result": {"record": {"verdict": "passed", "backup": {"name": evil}}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    document = {"content": "{{ __drill_document }}", "dest": str(tmp_path / "report.md")}
    tasks = [{"debug": {"msg": "{{ __drill_table }}"}, "run_once": True}, {"copy": document, "run_once": True}]
    play = {"hosts": "all", "connection": "local", "gather_facts": False, "vars_files": [str(DRILL)], "tasks": tasks}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [PLAYBOOK, "play.yml", "-i", "hosts.json", "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    judged(done.stdout)
    rows = [line for line in done.stdout.splitlines() if line.lstrip(' "').startswith("| ")]
    assert len(rows) == 3, "heads, and a row for each host"
    assert all(row.count(" | ") == 7 for row in rows)
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    table = [line for line in judged(written) if line.startswith("|")]
    assert len(table) == 4
    assert all(row.count("|") == 9 for row in table)
    assert not re.search(r"[`<>\[\]*@]", written)
