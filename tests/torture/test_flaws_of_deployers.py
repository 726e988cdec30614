# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""HAZARDS D14, what other deployers do wrong by themselves, and D8, a lock that is held."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bot import DATABASE, LOG
from cases import Case, Scene, scene
from deployers import Tradekeep
from judging import code_differences
from surviving import differences, everything
from world import World, look

PLAIN = Case("plain", 14, "a deploy as every day")


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def unharmed_code(built: Scene, commit: str) -> None:
    assert code_differences(built.world, commit, built.before) == []


# Locks


def test_hazard_d8_a_lock_of_a_living_process_is_respected() -> None:
    with scene(PLAIN) as built:
        lock = built.world.live / ".git/index.lock"
        holder = subprocess.Popen(["sleep", "100"], stdout=lock.open("w"))
        try:
            was = everything(built)
            answer = Tradekeep().run(built.world, "deploy", "main", "--no-backup")
            assert (answer.status, "index.lock" in answer.text, str(holder.pid) in answer.text) == (3, True, True)
            assert differences(was, everything(built)) == []
        finally:
            holder.kill()
            holder.wait()
        assert Tradekeep().run(built.world, "deploy", "main", "--no-backup").status == 0
        unharmed_code(built, built.world.second)


def test_hazard_d14_two_deploys_at_once_never_mix() -> None:
    with scene(PLAIN) as built:
        world = built.world
        hook = f"touch {world.base}/reached; while [ ! -e {world.base}/go ]; do sleep 0.02; done"
        ours = Tradekeep({"hooks": [{"at": "before_stop", "command": ["sh", "-c", hook]}]})
        first = subprocess.Popen(ours.command(world, "deploy", "main", "--no-backup"), env=ours.environment(world))
        try:
            until((world.base / "reached").exists)
            third = world.push({"main.py": "print('three')\n"})
            # The second one waits, says so, and goes on from what the first one has left.
            command = ours.command(world, "deploy", third, "--no-backup", "--json")
            environment = ours.environment(world)
            second = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert second.stderr is not None
            until(lambda: str(first.pid) in second.stderr.readline())
            assert (world.live / "main.py").read_text() == "print('one')\n"
        finally:
            (world.base / "go").touch()
        assert first.wait(60) == 0
        answer, _notes = second.communicate(timeout=60)
        assert second.returncode == 0
        record = json.loads(answer)["record"]
        assert (record["old_commit"], record["new_commit"]) == (world.second, third)
        unharmed_code(built, third)
        assert built.harm() == []


# Health


def test_hazard_d14_a_failed_health_check_is_rolled_back_and_its_evidence_kept() -> None:
    """The check looks at the new code, and at the old one again after it was put back."""
    check = {"command": ["grep", "-q", "one", "main.py"], "timeout_seconds": 1}
    with scene(PLAIN) as built:
        ours = Tradekeep({"health": [check]})
        answer = ours.run(built.world, "deploy", "main", "--no-backup", "--json")
        assert (answer.status, "grep" in answer.text) == (3, True), answer.text
        unharmed_code(built, built.world.first)
        assert [record["state"] for record in records(ours, built.world)] == ["undone"]
        built.world.await_rounds()
        built.world.stop_bot()
        assert built.harm() == []


def test_hazard_d14_an_old_release_that_does_not_come_up_either_is_said_so() -> None:
    with scene(PLAIN) as built:
        ours = Tradekeep({"health": [{"command": ["false"], "timeout_seconds": 1}]})
        answer = ours.run(built.world, "deploy", "main", "--no-backup", "--json")
        assert answer.status == 4, answer.text
        assert [record["state"] for record in records(ours, built.world)] == ["rollback_failed"]
        assert built.harm() == []


def test_hazard_d14_the_output_of_a_failed_step_is_kept() -> None:
    """A hook that fails after the exchange undoes the deploy; what it said can be read afterwards."""
    command = ["sh", "-c", "echo the schema is older than expected; exit 7"]
    with scene(PLAIN) as built:
        ours = Tradekeep({"hooks": [{"at": "before_start", "command": command}]})
        answer = ours.run(built.world, "deploy", "main", "--no-backup", "--json")
        assert (answer.status, "the schema is older than expected" in answer.text) == (3, True), answer.text
        unharmed_code(built, built.world.first)
        (record,) = records(ours, built.world)
        assert record["state"] == "undone"
        (result,) = record["hooks"]
        assert Path(result["log"]).read_text() == "the schema is older than expected\n"
        assert built.harm() == []


def records(ours: Tradekeep, world: World) -> list[dict[str, Any]]:
    """The records of all deploys, the newest first."""
    return list(ours.run(world, "deploy", "--log", "--json").record["deploys"])


# Cut off


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("step", ["before_stop", "before_start"])
def test_hazard_d14_a_cancelled_deploy_ends_whole(step: str, number: int) -> None:
    """A cancelled job, a terminal that goes away: it is the old commit or the new one, and the next deploy works."""
    with scene(PLAIN) as built:
        world = built.world
        hook = f"touch {world.base}/reached; while [ ! -e {world.base}/go ]; do sleep 0.02; done"
        ours = Tradekeep({"hooks": [{"at": step, "command": ["sh", "-c", hook]}]})
        command = ours.command(world, "deploy", "main", "--no-backup")
        running = subprocess.Popen(
            command, env=ours.environment(world), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        until((world.base / "reached").exists)
        running.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(0.3)  # one that finishes its work first waits for the hook
        (world.base / "go").touch()
        text, _nothing = running.communicate(timeout=60)
        assert "Traceback" not in text
        stands = world.second if running.returncode == 0 else world.first
        unharmed_code(built, stands)
        assert ours.run(world, "deploy", "main", "--no-backup").status == 0
        unharmed_code(built, world.second)
        assert built.harm() == []


# Supervisor

SUPERVISOR = """
[unix_http_server]
file={base}/s.sock
[supervisord]
logfile={base}/s.log
childlogdir={base}
pidfile={base}/s.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{base}/s.sock
[program:bot]
command={python} -S {live}/main.py
directory={live}
startsecs=1
startretries=1
stopwaitsecs=5
"""
RUNS = """
import runpy, sys
sys.argv = [{bot!r}, {live!r}, {promises!r}]
sys.path.insert(0, {where!r})
runpy.run_path({bot!r}, run_name="__main__")
"""
CRASHES = {
    "at once": "raise SystemExit('no such column: fee')\n",
    "after it was RUNNING": "import time; time.sleep(1.3); raise SystemExit('no such column: fee')\n",
}


@contextlib.contextmanager
def supervised(push: dict[str, Any]) -> Iterator[tuple[Scene, Tradekeep]]:
    """The bot is the commit's own main.py, run by a supervisor."""
    found = shutil.which("supervisord", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None or os.geteuid() != 0:
        pytest.skip("needs supervisord (pip install supervisor) and root")
    daemons = []

    def prepare(world: World) -> None:
        config = world.base / "s.conf"
        config.write_text(SUPERVISOR.format(base=world.base, live=world.live, python=sys.executable))
        daemons.append([found, "-n", "-c", str(config)])

    with scene(replace(PLAIN, prepare=prepare)) as built:
        world = built.world
        world.stop_bot()
        bot = Path(__file__).with_name("bot.py")
        names = {"bot": str(bot), "live": str(world.live), "promises": str(world.promises), "where": str(bot.parent)}
        text = RUNS.format(**names)
        good = world.push({"main.py": text, "lib/version": "good\n"})
        services = [{"manager": "supervisor", "units": ["bot"], "supervisor_config": str(world.base / "s.conf")}]
        services[0]["stay_up_seconds"] = 2
        ours = Tradekeep(profile={"services": services}, owner="root")
        environment = dict(os.environ, PATH=f"{Path(found).parent}:{os.environ['PATH']}")
        assert Tradekeep(owner="root").run(world, "deploy", good, "--no-backup").status == 0
        shutil.rmtree(world.base / "etc")
        world.first, world.second = good, world.push({"main.py": text + "# newer\n", **push})
        daemon = subprocess.Popen(daemons[0], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        try:
            rounds = world.promised()["rounds"]
            until(lambda: world.promised()["rounds"] > rounds)
            yield built, replace(ours, path=str(Path(found).parent))
        finally:
            daemon.terminate()
            daemon.wait()


def trades_on(world: World) -> None:
    rounds = world.promised()["rounds"]
    until(lambda: world.promised()["rounds"] > rounds + 3)


@pytest.mark.root
def test_hazard_d14_a_supervised_bot_goes_on_with_the_new_code() -> None:
    with supervised({}) as (built, ours):
        answer = ours.run(built.world, "deploy", "main", "--no-backup", "--json")
        assert (answer.status, answer.record["state"]) == (0, "deployed"), answer.text
        assert answer.record["downtime_seconds"] > 0
        unharmed_code(built, built.world.second)
        trades_on(built.world)
        assert ours.run(built.world, "deploy", "--rollback").status == 0
        unharmed_code(built, built.world.first)
        trades_on(built.world)
        assert built.harm() == []


@pytest.mark.root
@pytest.mark.parametrize("when", CRASHES)
def test_hazard_d14_a_supervised_bot_that_dies_is_rolled_back(when: str) -> None:
    """Also one that supervisor calls RUNNING first. The old one trades again, without a line or a row less."""
    with supervised({"main.py": CRASHES[when]}) as (built, ours):
        answer = ours.run(built.world, "deploy", "main", "--no-backup", "--json")
        assert (answer.status, "bot" in answer.text) == (3, True), answer.text
        unharmed_code(built, built.world.first)
        trades_on(built.world)
        assert records(ours, built.world)[0]["state"] == "undone"
        assert built.harm() == []


# Releases


@contextlib.contextmanager
def released(keep: int = 5) -> Iterator[tuple[Scene, Tradekeep, Path]]:
    """The layout of release directories: the data in ``shared``, the bot at work in it."""
    with scene(PLAIN) as built:
        world = built.world
        place = world.base / "srv"
        place.mkdir()
        ours = Tradekeep({"layout": "releases", "directory": str(place), "keep_releases": keep})
        yield built, ours, place


def matches(world: World, release: Path, commit: str) -> bool:
    """Whether a release has every file of a commit."""
    text = subprocess.run(
        ["git", "-C", world.upstream, "show", f"{commit}:main.py"], capture_output=True, check=True
    ).stdout
    return (release / "main.py").read_bytes() == text and (release / "bin/run").stat().st_mode & 0o111 == 0o111


def test_hazard_d14_the_first_conversion_keeps_the_shared_data() -> None:
    with released() as (built, ours, place):
        world = built.world
        was = look(world.live)
        for commit in (world.first, world.second):
            assert ours.run(world, "deploy", commit, "--no-backup").status == 0
            assert matches(world, place / "current", commit)
            assert os.path.samefile(place / "current" / LOG, world.live / LOG)
            assert os.path.samefile(place / "current" / DATABASE, world.live / DATABASE)
        assert ours.run(world, "deploy", "--rollback").status == 0
        assert matches(world, place / "current", world.first)
        now = look(world.live)
        assert [path for path in differences(was, now) if not path.startswith(("data/", "logs/"))] == []
        built.world.await_rounds()
        built.world.stop_bot()
        assert built.harm() == []


def test_hazard_d14_a_current_that_is_a_directory_is_not_removed() -> None:
    with released() as (built, ours, place):
        (place / "current").mkdir()
        (place / "current" / "fills.db").write_text("years of fills")
        answer = ours.run(built.world, "deploy", "main", "--no-backup")
        assert (answer.status, str(place / "current") in answer.text) == (3, True), answer.text
        assert (place / "current" / "fills.db").read_text() == "years of fills"


def test_hazard_d14_cleaning_up_never_removes_the_release_that_runs() -> None:
    with released(keep=1) as (built, ours, place):
        world = built.world
        assert ours.run(world, "deploy", "main", "--no-backup").status == 0
        running = (place / "current").resolve()
        process = subprocess.Popen(["sleep", "100"], cwd=running)
        try:
            newer = []
            for number in range(3):
                commit = world.push({"main.py": f"print({number})\n"})
                assert ours.run(world, "deploy", commit, "--no-backup").status == 0
                newer.append((place / "current").resolve())
            assert matches(world, running, world.second)
            assert newer[-1].is_dir()
            assert not newer[0].exists()
        finally:
            process.kill()
            process.wait()
        assert ours.run(world, "deploy", "--rollback").status == 0
        assert (place / "current" / "main.py").read_text() == "print(1)\n"
        assert built.harm() == []
