# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Virtual environments: once for real and offline, otherwise with a stand-in for Python that builds at once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.deploy_settings import Dependencies
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CommandError,
    TradekeepError,
    UnsafePathError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import (
    Account,
    account_of,
    current_account,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.dependencies import (
    ENVIRONMENTS,
    MARKER,
    BuiltEnvironment,
    Environments,
    check_link,
    how_to_get_venv,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports

# Answers what it is asked for its identity, makes a directory when asked for one, and installs what is not "broken".
STAND_IN = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
case "$*" in
"-I -c ") test ! -e "$here/gone" ;;
"-I -c "*) cat "$here/version" ;;
"-I -m venv "*) mkdir "$4" && mkdir "$4/bin" && cp "$0" "$4/bin/python" && echo venv ;;
*) echo "in $PWD: $*"
   cp requirements.txt "$here/installed"
   if grep -q broken requirements.txt; then
       echo "ERROR: No matching distribution found for broken"; echo "WARNING: pip is old"; exit 1
   fi ;;
esac
"""


class Killed(BaseException):
    """As good as SIGKILL: not even ``except Exception`` sees it."""


class Bench:
    """A checkout, the stage of a commit, and a stand-in for Python."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.checkout, self.stage, self.record = base / "checkout", base / "stage", base / "record"
        for directory in (self.checkout, self.stage, self.record):
            directory.mkdir()
        self.python = base / "python"
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)
        self.version("3.11.2")
        self.commit("one==1\n")
        self.account: Account = current_account()
        self.ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())

    def version(self, text: str) -> None:
        (self.base / "version").write_text(f"cpython {text}\n")

    def commit(self, lock: str) -> None:
        (self.stage / "requirements.txt").write_text(lock)

    def environments(self, *arguments: str, python: str = "") -> Environments:
        wanted = Dependencies(python=python or str(self.python), arguments=arguments)
        return Environments(wanted, checkout=self.checkout, account=self.account, ports=self.ports)

    def build(self, *arguments: str, python: str = "") -> BuiltEnvironment:
        environments = self.environments(*arguments, python=python)
        return environments.build(environments.plan(self.stage), self.stage, log=self.record / "pip.log")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def make_wheel(directory: Path) -> None:
    """A package ``tiny`` of one module, as pip installs it."""
    directory.mkdir()
    with zipfile.ZipFile(directory / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "ANSWER = 42\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")


@pytest.mark.once
def test_a_real_environment_is_built_offline_and_found_again(bench: Bench) -> None:
    pytest.importorskip("ensurepip", reason="needs ensurepip (python3-venv)")
    make_wheel(bench.stage / "wheels")
    bench.commit("tiny==1.0\n")
    # A module of the repository does not pass for the real one.
    (bench.stage / "pip.py").write_text("raise SystemExit('the wrong pip')\n")
    options = ("--no-index", "--find-links", "wheels")
    python = os.path.realpath(sys.executable)
    built = bench.build(*options, python=python)
    assert built.built
    program = [f"{built.directory}/bin/python", "-c", "import tiny; print(tiny.ANSWER)"]
    (bench.checkout / "venv").symlink_to(built.directory)
    assert subprocess.run(program, capture_output=True, text=True).stdout == "42\n"
    program[0] = str(bench.checkout / "venv/bin/python")
    assert subprocess.run(program, capture_output=True, text=True).stdout == "42\n"
    assert "Successfully installed tiny-1.0" in (bench.record / "pip.log").read_text()
    assert bench.build(*options, python=python) == BuiltEnvironment(
        built.key, built.directory, built=False, seconds=0.0, log=None
    )


def test_a_plan_writes_nothing(bench: Bench) -> None:
    plan = bench.environments().plan(bench.stage)
    assert not plan.complete
    assert plan.directory == bench.checkout / ENVIRONMENTS / plan.key
    assert list(bench.checkout.iterdir()) == []
    bench.build()
    assert bench.environments().plan(bench.stage).complete


def test_each_lock_file_python_and_argument_has_an_environment_beside_the_others(bench: Bench) -> None:
    built = [bench.build()]
    bench.commit("one==2\n")
    built.append(bench.build())
    bench.version("3.13.5")
    built.append(bench.build())
    built.append(bench.build("--pre"))
    assert all(each.built and Path(each.directory, "bin/python").exists() for each in built)
    assert len({each.directory for each in built}) == 4
    bench.version("3.11.2")
    bench.commit("one==1\n")
    assert bench.build().directory == built[0].directory
    assert not bench.build().built


def test_pip_is_asked_nothing_and_runs_in_the_stage(bench: Bench) -> None:
    built = bench.build("--no-index")
    said = (bench.record / "pip.log").read_text().splitlines()
    lock = bench.stage / "requirements.txt"
    wanted = f"in {bench.stage}: -I -m pip install --no-input --disable-pip-version-check --no-index -r {lock}"
    assert said == ["venv", wanted]
    assert built.log == str(bench.record / "pip.log")
    assert stat.S_IMODE((bench.record / "pip.log").stat().st_mode) == 0o600


def test_when_pip_fails_its_errors_are_told_and_its_output_is_kept(bench: Bench) -> None:
    former = bench.build()
    bench.commit("broken==1\n")
    with pytest.raises(CommandError) as caught:
        bench.build()
    assert caught.value.message == (
        "pip install failed with exit status 1: ERROR: No matching distribution found for broken"
    )
    assert caught.value.hint == f"its output is in {bench.record}/pip.log"
    assert "WARNING: pip is old" in (bench.record / "pip.log").read_text()
    assert [path.name for path in (bench.checkout / ENVIRONMENTS).iterdir()] == [former.key]


def test_a_build_that_was_cut_off_is_thrown_away_and_done_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(step: str) -> None:
        if step == "complete environment":
            raise Killed

    whole, bench.ports = bench.ports, Ports(bench.ports.runner, bench.ports.clock, bench.ports.progress, step=kill)
    with monkeypatch.context() as patch:  # a killed process tidies nothing up
        patch.setattr(Environments, "_remove", lambda self, directory: None)
        with pytest.raises(Killed):
            bench.build()
    bench.ports = whole
    plan = bench.environments().plan(bench.stage)
    assert (plan.directory / "bin/installed").exists()
    assert not plan.complete
    (plan.directory / "left-over").touch()
    assert bench.build().built
    assert not (plan.directory / "left-over").exists()
    assert (plan.directory / MARKER).exists()


def test_an_environment_whose_interpreter_is_gone_is_built_again(bench: Bench) -> None:
    built = bench.build()
    (Path(built.directory) / "bin/gone").touch()
    again = bench.build()
    assert (again.built, again.directory) == (True, built.directory)
    assert not (Path(built.directory) / "bin/gone").exists()


def test_a_missing_python_is_named_with_the_way_out(bench: Bench) -> None:
    with pytest.raises(CommandError, match=r"python9\.9: cannot be run by .*set deploy\.dependencies\.python"):
        bench.build(python="python9.9")


def test_a_missing_ensurepip_is_named_before_anything_is_made(bench: Bench) -> None:
    """On Debian the module that puts pip into an environment is in a package of its own."""
    lacking = '"-I -c "*ensurepip*) echo "No module named \'ensurepip\'"; exit 1 ;;\n"-I -c "*) cat'
    bench.python.write_text(STAND_IN.replace('"-I -c "*) cat', lacking))
    for ask in (lambda: bench.environments().plan(bench.stage), bench.build, bench.environments().check_python):
        with pytest.raises(CommandError, match=r"cannot make a virtual environment: No module named 'ensurepip'"):
            ask()
    assert list(bench.checkout.iterdir()) == []


@pytest.mark.parametrize(
    ("python", "package"),
    [
        ("python3", "apt install python3-venv"),
        ("/usr/bin/python3", "apt install python3-venv"),
        ("python3.11", "apt install python3.11-venv"),
        ("/opt/python/bin/python3", "ensurepip"),
    ],
)
def test_the_package_that_is_missing_is_named(python: str, package: str) -> None:
    assert package in how_to_get_venv(python)


def test_environments_that_no_release_uses_are_removed(bench: Bench) -> None:
    keys = []
    for number in range(4):
        bench.commit(f"one=={number}\n")
        keys.append(bench.build().key)
    (bench.checkout / "venv").symlink_to(f"{ENVIRONMENTS}/{keys[0]}")
    (bench.checkout / ENVIRONMENTS / "notes").mkdir()
    removed = bench.environments().prune([keys[3]])
    assert set(removed) == {keys[1], keys[2]}
    left = {path.name for path in (bench.checkout / ENVIRONMENTS).iterdir()}
    assert left == {keys[0], keys[3], "notes"}
    assert bench.environments().prune([keys[3]]) == ()


def test_there_is_nothing_to_remove_before_the_first_build(bench: Bench) -> None:
    assert bench.environments().prune([]) == ()


def test_only_a_symlink_or_nothing_may_be_in_the_place_of_the_symlink(bench: Bench) -> None:
    link = bench.environments().link
    assert link == bench.checkout / "venv"
    assert check_link(link) is None
    link.symlink_to(f"{ENVIRONMENTS}/0123456789abcdef")
    assert check_link(link) == f"{ENVIRONMENTS}/0123456789abcdef"
    link.unlink()
    link.mkdir()
    with pytest.raises(TradekeepError, match=r"venv: is a real directory.*--adopt"):
        check_link(link)
    link.rmdir()
    link.touch()
    for adopter in (None, bench.account):
        with pytest.raises(TradekeepError, match=r"venv: is a file.*mv .*venv .*venv\.old"):
            check_link(link, adopter=adopter)


@pytest.mark.root
def test_an_environment_of_another_account_is_not_adopted(bench: Bench) -> None:
    link = bench.environments().link
    link.mkdir()
    assert check_link(link, adopter=bench.account) is None
    with pytest.raises(TradekeepError, match=r"is a directory of root.*chown -R nobody .*venv"):
        check_link(link, adopter=account_of("nobody"))


def test_environments_are_not_built_through_a_symlink(bench: Bench) -> None:
    (bench.base / "elsewhere").mkdir()
    (bench.checkout / ENVIRONMENTS).symlink_to(bench.base / "elsewhere")
    with pytest.raises(UnsafePathError, match="is a symlink to"):
        bench.build()
    assert list((bench.base / "elsewhere").iterdir()) == []


@pytest.mark.root
def test_hazard_d12_an_environment_is_built_by_its_owner_and_not_by_root(bench: Bench) -> None:
    for directory in (bench.base, *list(bench.base.parents)[:2]):
        directory.chmod(0o755)
    bench.account = account_of("nobody")
    built = bench.build()
    everything = [bench.checkout / ENVIRONMENTS, *Path(built.directory).rglob("*"), Path(built.directory)]
    assert {path.lstat().st_uid for path in everything} == {bench.account.uid}
    assert (bench.record / "pip.log").stat().st_uid == 0
    assert bench.environments().prune([]) == (built.key,)
