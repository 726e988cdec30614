# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Services, against recorded answers of systemctl and supervisorctl, and against a real supervisord."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import ServiceManager, Services
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ServiceError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.services import ServiceController
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.writers import writers_in
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed

SHOW = "Type={kind}\nMainPID={pid}\nNRestarts={n}\n"
SHOW += "Result=success\nLoadState=loaded\nActiveState={active}\nSubState={sub}\n"


class StillClock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=timezone.utc)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class FakeRunner:
    """Answers like the programs; remembers what it was asked to do."""

    def __init__(self, answer: Callable[[list[str]], Any]) -> None:
        self.answer = answer
        self.calls: list[list[str]] = []

    def find(self, program: str) -> str:
        return f"/usr/bin/{program}"

    def run(self, argv: Any, **_keywords: Any) -> Completed:
        self.calls.append(list(argv))
        said = self.answer(list(argv))
        status, stdout, stderr = said if isinstance(said, tuple) else (0, said, "")
        return Completed(tuple(argv), status, stdout, stderr)

    def verbs(self) -> list[str]:
        return [" ".join([call[1], call[-1]]) for call in self.calls if call[0] == "systemctl" and call[1] != "show"]


class FakeSystemd:
    def __init__(self, **units: dict[str, Any]) -> None:
        self.units = {
            f"{name}.service": {"active": "active", "sub": "running", "pid": 10, "n": 0, "kind": "simple", **facts}
            for name, facts in units.items()
        }
        self.runner = FakeRunner(self.answer)
        self.after_start = "active"

    def answer(self, argv: list[str]) -> Any:
        if argv[0] == "journalctl":
            return "database is locked\n"
        unit = self.units.get(argv[-1], {"active": "inactive", "sub": "dead", "pid": 0, "n": 0, "kind": ""})
        if argv[1] == "show":
            unit["pid"] += unit.get("restarting", 0)
            return SHOW.format(**unit)
        if argv[1] == "stop":
            unit.update(active="inactive", sub="dead", pid=0)
        if argv[1] == "start":
            unit.update(active=self.after_start, sub="running", pid=11)
        return ""

    def controller(self, *names: str) -> ServiceController:
        wanted = Services(manager=ServiceManager.SYSTEMD, units=tuple(f"{n}.service" for n in names), stay_up_seconds=5)
        return ServiceController([wanted], self.runner, StillClock())


def test_only_what_ran_is_started_again() -> None:
    systemd = FakeSystemd(bot={}, dashboard={"active": "inactive"})
    services = systemd.controller("bot", "dashboard", "absent")
    snapshot = json.loads(json.dumps(services.snapshot()))
    assert services.stop(snapshot) == ("bot.service",)
    assert services.start(snapshot) == ("bot.service",)
    services.wait_until_steady(snapshot)
    assert systemd.runner.verbs() == ["stop bot.service", "reset-failed bot.service", "start bot.service"]


def test_a_job_at_work_is_stopped_but_left_to_its_timer() -> None:
    services = FakeSystemd(job={"kind": "oneshot", "active": "activating"}).controller("job")
    snapshot = services.snapshot()
    assert snapshot[0]["running"] == []
    services.stop(snapshot)
    assert services.start(snapshot) == ()


def test_hazard_b9_a_unit_that_dies_after_a_good_start_is_found() -> None:
    systemd = FakeSystemd(bot={})
    services = systemd.controller("bot")
    snapshot = services.snapshot()
    systemd.after_start = "failed"
    services.stop(snapshot)
    services.start(snapshot)
    with pytest.raises(ServiceError, match=r"bot\.service: does not stay up: failed .*database is locked"):
        services.wait_until_steady(snapshot)


def test_hazard_b9_a_unit_that_is_restarted_is_not_steady() -> None:
    services = FakeSystemd(bot={"restarting": 1}).controller("bot")
    with pytest.raises(ServiceError, match="restarted"):
        services.wait_until_steady(services.snapshot())


def test_a_machine_without_systemd_runs_no_unit() -> None:
    said = "System has not been booted with systemd as init system (PID 1). Can't operate."
    wanted = Services(manager=ServiceManager.SYSTEMD, units=("bot.service",))
    services = ServiceController([wanted], FakeRunner(lambda _argv: (1, "", said)), StillClock())
    assert not services.is_active()


def supervised(answer: Callable[[list[str]], Any]) -> ServiceController:
    wanted = Services(manager=ServiceManager.SUPERVISOR, units=("all",), supervisor_config="/s.conf", stay_up_seconds=2)
    return ServiceController([wanted], FakeRunner(answer), StillClock())


def test_supervisor_states_are_read() -> None:
    lines = (
        "bot                              RUNNING   pid 1664, uptime 0:00:01\n"
        "dies                             BACKOFF   Exited too quickly (process log may have details)\n"
        "g:one                            RUNNING   pid 1665, uptime 0:00:01\n"
        "off                              STOPPED   Not started\n"
    )
    assert supervised(lambda _argv: (3, lines, "")).snapshot()[0]["running"] == ["bot", "g:one"]


@pytest.mark.parametrize("state", ["RUNNING", "STARTING"])
def test_a_program_that_is_meant_to_run_is_started_again(state: str) -> None:
    services = supervised(lambda argv: f"bot   {state}   pid 7, uptime 0:00:01\n" if argv[-1] == "status" else "")
    assert services.snapshot()[0]["running"] == ["bot"]


def test_no_supervisord_runs_nothing() -> None:
    assert not supervised(lambda _argv: (4, "unix:///tmp/s.sock no such file\n", "")).is_active()


def test_a_configuration_of_supervisor_that_is_not_there_is_named() -> None:
    services = supervised(lambda _argv: (2, "", "Error: could not find config file /s.conf\nFor help, use -h\n"))
    with pytest.raises(ServiceError, match=r"^/s\.conf: does not exist, .*mend supervisor_config"):
        services.snapshot()


def test_starting_is_not_success() -> None:
    services = supervised(lambda argv: "bot   STARTING   \n" if argv[-1] == "status" else "")
    snapshot = supervised(lambda _argv: "bot  RUNNING  pid 1, uptime 0:00:01\n").snapshot()
    with pytest.raises(ServiceError, match="bot: does not start: STARTING"):
        services.start(snapshot)


def test_program_that_dies_after_its_start_is_not_waited_for() -> None:
    """supervisord starts it again and again; whether it is seen RUNNING for an instant is chance."""
    asked = []

    def answer(argv: list[str]) -> str:
        asked.append(argv[3])
        # STOPPED before it was told to start, STARTING ever since.
        return {"status": f"bot   {'STARTING' if 'start' in asked else 'STOPPED'}   \n", "start": "bot: started\n"}.get(
            argv[3], ""
        )

    snapshot = supervised(lambda _argv: "bot  RUNNING  pid 1, uptime 0:00:01\n").snapshot()
    with pytest.raises(ServiceError, match="bot: does not start: STARTING"):
        supervised(answer).start(snapshot)
    assert asked == ["status", "start", "status", "tail"]


CONFIG = """
[unix_http_server]
file={base}/s.sock
[supervisord]
logfile={base}/s.log
# supervisord empties this directory of logs when it starts; by default it is one for all of them.
childlogdir={base}
pidfile={base}/s.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{base}/s.sock
[program:bot]
command=/bin/sh -c "test ! -e {base}/broken || {{ echo fills.db is malformed >&2; exit 3; }}; exec sleep 1000"
startsecs=1
startretries=1
[program:off]
command=/bin/sleep 1000
autostart=false
"""


@contextlib.contextmanager
def supervisord(base: Path) -> Iterator[Callable[..., ServiceController]]:
    """A real one, of which `bot` runs; called with names of programs, gives what controls them."""
    found = shutil.which("supervisord", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if found is None:
        pytest.skip("supervisord is not installed (pip install supervisor)")
    config = base / "s.conf"
    config.write_text(CONFIG.format(base=base))
    runner = SubprocessRunner(search_path=f"{Path(found).parent}:/usr/bin:/bin")

    def controller(*programs: str) -> ServiceController:
        wanted = Services(ServiceManager.SUPERVISOR, programs, supervisor_config=str(config), stay_up_seconds=1)
        return ServiceController([wanted], runner, SystemClock())

    assert not controller("bot", "off").is_active()
    daemon = subprocess.Popen([found, "-n", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not controller("bot", "off").is_active():
            SystemClock().sleep(0.2)
        yield controller
    finally:
        daemon.terminate()
        daemon.wait()


@pytest.mark.once
def test_a_real_supervisord(tmp_path: Path) -> None:
    with supervisord(tmp_path) as controller:
        services = controller("bot", "off")
        snapshot = services.snapshot()
        assert snapshot[0]["running"] == ["bot"]
        services.stop(snapshot)
        assert not services.is_active()
        # supervisord itself goes on, and writes its own log.
        assert [item.path for item in writers_in(tmp_path)] == [str(tmp_path / "s.log")]
        assert writers_in(tmp_path, spared=services.managers()) == ()
        assert services.missing() == [] and controller("bot", "tpyo").missing() == ["tpyo"]
        assert services.start(snapshot) == ("bot",)
        services.wait_until_steady(snapshot)
        services.stop(snapshot)
        (tmp_path / "broken").touch()
        with pytest.raises(ServiceError, match=r"bot: does not start.*fills\.db is malformed"):
            services.start(snapshot)


@pytest.mark.once
def test_hazard_e1_programs_whose_file_came_later_run_only_once_they_are_started(tmp_path: Path) -> None:
    """As on a server that is recovered: its data is not there yet when its files are."""
    with supervisord(tmp_path) as controller:
        with (tmp_path / "s.conf").open("a") as config:
            for name, automatic in (("late", "true"), ("later", "false")):
                config.write(f"[program:{name}]\ncommand=/bin/sh -c 'touch {tmp_path}/{name}; exec sleep 1000'\n")
                config.write(f"autostart={automatic}\n")
        services = controller("late", "later")
        installed = services.installed()
        assert sorted(installed[0]["running"]) == ["late", "later"]
        assert {"bot", "late", "later", "off"} == set(controller("all").installed()[0]["running"])
        assert not services.is_active() and not (tmp_path / "late").exists()
        services.start(installed)
        services.wait_until_steady(installed)
        assert (tmp_path / "late").exists() and (tmp_path / "later").exists()
        assert controller("bot").is_active()


def test_the_bots_last_words_are_shown_and_not_systemds() -> None:
    """systemd says last that it has started the unit once more; the run that died said why."""
    asked: list[list[str]] = []

    def answer(argv: list[str]) -> Any:
        if argv[0] == "journalctl":
            asked.append(argv)
            said = {
                "_SYSTEMD_INVOCATION_ID=dead": "Traceback\nKeyError: 'api_key'\n",
                "_SYSTEMD_UNIT=bot.service": "old\n",
            }
            return next((said[word] for word in argv if word in said), "Started bot.service.\n")
        alive = not answer.watched  # type: ignore[attr-defined]
        answer.watched = True  # type: ignore[attr-defined]
        run = ("10", "0", "dead") if alive else ("11", "1", "new")
        return (
            SHOW.format(kind="simple", active="active", sub="running", pid=run[0], n=run[1])
            + f"InvocationID={run[2]}\n"
        )

    answer.watched = False  # type: ignore[attr-defined]
    wanted = Services(manager=ServiceManager.SYSTEMD, units=("bot.service",), stay_up_seconds=5)
    services = ServiceController([wanted], FakeRunner(answer), StillClock())
    snapshot = [{**services.snapshot()[0], "running": ["bot.service"]}]
    answer.watched = False  # type: ignore[attr-defined]
    with pytest.raises(ServiceError, match=r"was restarted .*does not stay up: KeyError: 'api_key'"):
        services.wait_until_steady(snapshot)
    assert all("-u" not in argv for argv in asked)


def test_the_state_that_is_said_is_the_one_that_was_seen() -> None:
    """A moment later systemd has started it again, and it is "active (running, success)"."""
    states = iter([("activating", "auto-restart"), ("active", "running"), ("active", "running")])

    def answer(argv: list[str]) -> Any:
        if argv[0] == "journalctl":
            return "no space left\n"
        active, sub = next(states)
        return SHOW.format(kind="simple", active=active, sub=sub, pid=1, n=0)

    wanted = Services(manager=ServiceManager.SYSTEMD, units=("bot",), stay_up_seconds=5)
    services = ServiceController([wanted], FakeRunner(answer), StillClock())
    entry = {"manager": "systemd", "units": ["bot"], "supervisor_config": None, "stay_up_seconds": 5}
    with pytest.raises(ServiceError, match=r"does not stay up: activating \(auto-restart, success\): no space left"):
        services.wait_until_steady([{**entry, "stop_timeout_seconds": 5, "running": ["bot"]}])


def test_units_that_do_not_exist_are_named() -> None:
    def answer(argv: list[str]) -> Any:
        return f"LoadState={'not-found' if argv[-1] == 'tpyo.service' else 'loaded'}\n"

    wanted = Services(manager=ServiceManager.SYSTEMD, units=("bot.service", "tpyo.service", "any*.service"))
    assert ServiceController([wanted], FakeRunner(answer), StillClock()).missing() == ["tpyo.service"]
