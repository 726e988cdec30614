# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The on-host program: complete, the same whoever builds it, and a door that answers as DESIGN says."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import zipfile
from importlib.util import MAGIC_NUMBER
from io import BytesIO
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import program, version
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CommandError, UsageError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_program
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports

CHECKOUT = Path(__file__).resolve().parents[3]
CORE = CHECKOUT / "plugins/module_utils/core"


def engine_files() -> set[str]:
    return {str(path.relative_to(CORE)) for path in CORE.rglob("*.py")}


def imported_from(names: list[str]) -> set[str]:
    """The engine's files that a static reader of imports, as Ansible is, finds from some of them."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        package = Path(name).parent
        for parent in [package, *package.parents]:
            waiting.append(str(parent / "__init__.py"))
        for node in ast.walk(ast.parse((CORE / name).read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = Path(*package.parts[: len(package.parts) - node.level + 1], *(node.module or "").split("."))
                for candidate in [base, *(base / alias.name for alias in node.names)]:
                    if (CORE / f"{candidate}.py").is_file():
                        waiting.append(f"{candidate}.py")
                    elif (CORE / candidate / "__init__.py").is_file():
                        waiting.append(f"{candidate}/__init__.py")
    return {str(Path(name)) for name in found}


def test_hazard_f_every_submodule_is_imported_statically() -> None:
    reached = imported_from(["operations/installation.py"])
    assert engine_files() - reached == set(), "add these to core/everything.py"
    assert program._ENGINE.endswith(".core")


def test_hazard_f_the_program_holds_the_whole_engine() -> None:
    archive = zipfile.ZipFile(BytesIO(program.build_program()))
    inside = {name.partition("/")[2] for name in archive.namelist() if name.startswith("tradekeep/")}
    assert inside == engine_files()
    assert archive.namelist() == sorted(archive.namelist(), key=lambda name: (name != "__main__.py", name))


def test_hazard_f_rebuilds_are_byte_identical(tmp_path: Path) -> None:
    """From the checkout, from a zip (as Ansible ships a module) and from the program itself."""
    content = program.build_program(interpreter=sys.executable, config_dir="/etc/somewhere")
    again = "import sys; from {package} import program; sys.stdout.buffer.write(program.build_program("
    again += f"interpreter={sys.executable!r}, config_dir='/etc/somewhere'))"
    built = tmp_path / "program.zip"
    built.write_bytes(content)
    os.utime(built, (0, 0))
    environment = {**os.environ, "PYTHONPATH": str(built), "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-c", again.format(package="tradekeep")]
    assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout == content


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it is installed, with byte code."""
    place = tmp_path_factory.mktemp("installed")
    outcome = install(place)
    assert outcome.changed
    return place / "tradekeep"


def install(place: Path, **more: bool) -> Outcome:
    ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())
    return install_program(ports, bin_dir=str(place), config_dir="/etc/somewhere", interpreter=sys.executable, **more)


def loaded_from(program: Path, **environment: str) -> str:
    """Where the interpreter takes a module of the program from."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from tradekeep import cli; print(cli.__file__)"
    command = [sys.executable, "-c", code, str(program)]
    answer = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def test_the_installed_program_need_not_be_compiled_at_each_start(installed: Path) -> None:
    names = zipfile.ZipFile(installed).namelist()
    sources = [name for name in names if name.endswith(".py") and "/" in name]
    assert sorted(name[:-1] for name in names if name.endswith(".pyc")) == sorted(sources)
    for zone in ("UTC", "Asia/Tokyo"):
        assert loaded_from(installed, TZ=zone) == f"{installed}/tradekeep/cli.pyc"


def test_hazard_f_byte_code_is_the_same_each_time(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        monkeypatch.setenv("TZ", zone)
        assert not install(installed.parent, dry_run=True).changed


def test_another_version_of_python_goes_back_to_the_sources(installed: Path, tmp_path: Path) -> None:
    other = tmp_path / "tradekeep"
    other.write_bytes(installed.read_bytes().replace(MAGIC_NUMBER, b"\0\0\r\n"))
    assert loaded_from(other) == f"{other}/tradekeep/cli.py"


def test_a_damaged_program_is_installed_again(tmp_path: Path) -> None:
    install(tmp_path)
    content = (tmp_path / "tradekeep").read_bytes()
    at = content.rindex(MAGIC_NUMBER) + 100
    (tmp_path / "tradekeep").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert install(tmp_path).changed
    assert (tmp_path / "tradekeep").read_bytes() == content


def test_an_interpreter_that_cannot_compile_is_an_error_of_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text('#!/bin/sh\ncase "$*" in *byte*) echo out of order >&2; exit 1;; esac\n')
    broken.chmod(0o755)
    ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())
    with pytest.raises(CommandError, match="out of order"):
        install_program(ports, bin_dir=str(tmp_path), config_dir="/etc/somewhere", interpreter=str(broken))
    assert not (tmp_path / "tradekeep").exists()


def test_the_program_starts_with_its_interpreter_and_refuses_an_impossible_one() -> None:
    assert program.build_program().startswith(b"#!/usr/bin/python3 -IXutf8\n")
    for wrong in ("python3", "/usr/bin/env python3", "/usr/bin/\npython3"):
        with pytest.raises(UsageError):
            program.build_program(interpreter=wrong)


@pytest.mark.parametrize("variable", ["PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME"])
def test_modules_come_from_nowhere_but_the_program_and_python(tradekeep: Path, tmp_path: Path, variable: str) -> None:
    """What a bot exports in its shell, or leaves where root happens to be, is not carried out as root."""
    for name in ("signal", "secrets", "sqlite3", "sitecustomize", "usercustomize", "tradekeep"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the bot was here')\n")
    value = str(tmp_path / "signal.py" if variable == "PYTHONSTARTUP" else tmp_path)
    environment = {**os.environ, variable: value}
    answer = subprocess.run([tradekeep, "--version"], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout) == (0, f"tradekeep {version.VERSION}\n"), answer.stderr


def test_the_installation_carries_out_nothing_that_lies_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sqlite3", "struct", "marshal", "zipfile", "zlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the bot was here')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert install(tmp_path / "bin").changed


def test_names_are_utf_8_whatever_the_locale_says(tradekeep: Path, tmp_path: Path) -> None:
    subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", "--no-archive", tmp_path / "de_DE.ISO-8859-1"], check=False
    )
    environment = {**os.environ, "LC_ALL": "de_DE.ISO-8859-1", "LOCPATH": str(tmp_path)}
    wanted = str(tmp_path / "données.json")
    command = [tradekeep, "--json", "--config", wanted.encode("utf-8"), "list"]
    answer = subprocess.run(command, env=environment, capture_output=True)
    assert json.loads(answer.stdout)["error"]["path"] == wanted


@pytest.fixture(scope="module")
def tradekeep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("program") / "tradekeep"
    place.write_bytes(program.build_program(interpreter=sys.executable, config_dir=str(place.parent / "etc")))
    place.chmod(0o755)
    return place


def test_the_program_runs(tradekeep: Path) -> None:
    answer = subprocess.run([tradekeep, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout == f"tradekeep {version.VERSION}\n"
    nothing = subprocess.run([tradekeep, "list"], capture_output=True, text=True)
    assert nothing.returncode == 2
    assert nothing.stdout == ""
    assert nothing.stderr.count("\n") == 1
    assert str(tradekeep.parent / "etc") in nothing.stderr


def test_an_old_python_is_told_so(
    tradekeep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 0))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tradekeep))
    assert ended.value.code == 2
    assert "Python 3.9 or newer" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--json config show kalshi | true", "config show kalshi | head -1"])
def test_a_reader_that_goes_away_is_no_error(tradekeep: Path, words: str) -> None:
    command = f"{tradekeep} {words}; exit ${{PIPESTATUS[0]}}"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in answer.stderr
    assert "BrokenPipe" not in answer.stderr
    assert answer.stdout in ("", "{\n") and answer.stderr == ""
    assert answer.returncode == 0


def test_signals_become_one_clean_line(tradekeep: Path) -> None:
    # The door is entered with an operation that waits, so that the signal arrives in its middle.
    code = (
        "import sys; from tradekeep import cli\n"
        "def wait(arguments, ports):\n    sys.stdout.write('ready\\n'); sys.stdout.flush(); ports.clock.sleep(60)\n"
        "cli.carry_out = wait\nraise SystemExit(cli.main(['list']))"
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(tradekeep)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 3
        assert re.fullmatch(rf"tradekeep: stopped by {number.name}; .*\n", errors)


def test_version_equals_the_collection() -> None:
    assert f"\nversion: {version.VERSION}\n" in (CHECKOUT / "galaxy.yml").read_text()


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_the_exit_status_is_that_of_the_work_whoever_hears_of_it(tradekeep: Path, streams: str) -> None:
    """What is closed, or on a full disk, changes it neither at the answer nor when the interpreter ends."""
    statuses = {}
    for words in ("--version", "list", "--json config show kalshi"):
        shell = f"({tradekeep} {words} {streams}) | cat >/dev/null; exit ${{PIPESTATUS[0]}}"
        answer = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
        assert "Traceback" not in answer.stderr and "Exception" not in answer.stderr
        statuses[words] = answer.returncode
    assert list(statuses.values()) == [0, 2, 0], statuses


def test_a_closed_descriptor_is_given_to_no_file(tradekeep: Path) -> None:
    """A program that is run would write to what has the number of its standard error."""
    code = (
        "import os, sys; from tradekeep import cli\n"
        "def look(arguments, ports):\n"
        "    opened = os.open('/proc/self/status', os.O_RDONLY)\n"
        "    assert [os.readlink(f'/proc/self/fd/{n}') for n in range(3)] == ['/dev/null'] * 3, opened\n"
        "    raise cli.TradekeepError(f'status {opened > 2}')\n"
        "cli.carry_out = look\nraise SystemExit(cli.main(['list']))"
    )
    answer = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c {shlex.quote(code)} <&- >&- 2>&-"],
        env={**os.environ, "PYTHONPATH": str(tradekeep)},
    )
    assert answer.returncode == 3
