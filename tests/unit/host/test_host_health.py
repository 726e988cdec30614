# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Signs of life of new code, against a real web server, real files and real programs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.deploy_settings import HealthCheck
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ServiceError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import account_of, current_account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.health import HealthGate, name_of
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=timezone.utc)


class PatientClock:
    """Time passes by sleeping, and something may happen meanwhile."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.meanwhile: Callable[[float], None] = lambda seconds: None

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.meanwhile(self.seconds)


class Bench:
    def __init__(self, base: Path) -> None:
        self.base = base
        self.clock = PatientClock()
        self.ports = Ports(SubprocessRunner(), self.clock, NoProgress())
        self.account = current_account()

    def gate(self, *checks: HealthCheck) -> HealthGate:
        return HealthGate(checks, root=self.base, directory=self.base, account=self.account, ports=self.ports)

    def write(self, name: str, age: float) -> None:
        moment = (self.clock.now() - timedelta(seconds=age)).timestamp()
        (self.base / name).write_text("{}")
        os.utime(self.base / name, (moment, moment))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class Server(ThreadingHTTPServer):
    status = 200
    paths: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.send_response(200 if self.path == "/elsewhere" else self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Answer) as present:
        present.paths = []
        threading.Thread(target=present.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield present
        present.shutdown()


def test_an_address_that_answers_late_is_waited_for(bench: Bench, server: Server) -> None:
    server.status = 503

    def meanwhile(seconds: float) -> None:
        if seconds >= 12:
            server.status = 200

    bench.clock.meanwhile = meanwhile
    (result,) = bench.gate(HealthCheck(url=f"{server.url}/health?token=hidden")).run()
    assert (result.ok, result.detail, result.seconds) == (True, "answered 200", 12.0)
    assert result.name == f"{server.url}/health"
    assert set(server.paths) == {"/health?token=hidden"}


def test_a_redirection_is_not_followed(bench: Bench, server: Server) -> None:
    server.status = 302
    with pytest.raises(ServiceError, match=r"not healthy after 3 seconds: answered 302, a redirection to /elsewhere$"):
        bench.gate(HealthCheck(url=server.url, timeout_seconds=3)).run()
    assert "/elsewhere" not in server.paths
    assert bench.gate(HealthCheck(url=server.url, status=302)).run()[0].ok


def test_no_proxy_answers_in_the_place_of_the_application(
    bench: Bench, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    with pytest.raises(ServiceError, match="does not answer: connection refused"):
        bench.gate(HealthCheck(url="http://127.0.0.1:1/", timeout_seconds=1)).run()
    assert server.paths == []


def test_the_checks_before_the_failing_one_are_told_too(bench: Bench, server: Server) -> None:
    gate = bench.gate(
        HealthCheck(url=server.url), HealthCheck(file="absent.json", timeout_seconds=2), HealthCheck(command=("true",))
    )
    with pytest.raises(ServiceError, match=r"^absent\.json: is not healthy after 2 seconds: no such file"):
        gate.run()
    assert [(result.name, result.ok, result.seconds) for result in gate.results] == [
        (f"{server.url}/", True, 0.0),
        ("absent.json", False, 2.0),
    ]


def test_a_file_must_be_younger_than_its_maximum_age(bench: Bench) -> None:
    bench.write("heartbeat.json", age=61)
    check = HealthCheck(file="heartbeat.json", timeout_seconds=5)
    with pytest.raises(ServiceError, match="is 66 seconds old"):
        bench.gate(check).run()
    assert bench.gate(replace(check, max_age_seconds=90)).run()[0].detail == "is 66 seconds old"


def test_hazard_d14_a_file_that_the_old_code_wrote_does_not_speak_for_the_new(bench: Bench) -> None:
    started = bench.clock.now()
    bench.write("heartbeat.json", age=1)
    check = HealthCheck(file="heartbeat.json", max_age_seconds=60, timeout_seconds=5)
    with pytest.raises(ServiceError, match="was not written since the start"):
        bench.gate(check).run(started)
    bench.clock.meanwhile = lambda seconds: bench.write("heartbeat.json", age=0)
    assert bench.gate(check).run(started)[0].ok


def test_a_file_dated_in_the_future_is_not_fresh_for_ever(bench: Bench) -> None:
    bench.write("heartbeat.json", age=-86400)
    with pytest.raises(ServiceError, match="is dated 86399 seconds in the future"):
        bench.gate(HealthCheck(file="heartbeat.json", timeout_seconds=1)).run()
    (bench.base / "directory").mkdir()
    with pytest.raises(ServiceError, match="is not a regular file"):
        bench.gate(HealthCheck(file="directory", timeout_seconds=1)).run()


def test_a_command_is_asked_again_until_it_is_content_and_its_last_line_kept(bench: Bench) -> None:
    check = HealthCheck(command=("sh", "-c", 'echo "$USER in $PWD" >> said; tail -n 1 said; test -e ready'))
    bench.clock.meanwhile = lambda seconds: (bench.base / "ready").touch() if seconds >= 2 else None
    (result,) = bench.gate(check).run()
    assert result.as_dict() == {
        "name": name_of(check),
        "ok": True,
        "detail": f"exit status 0: {bench.account.name} in {bench.base}",
        "seconds": 2.0,
    }
    assert len((bench.base / "said").read_text().splitlines()) == 5


def test_a_command_that_hangs_is_ended(bench: Bench) -> None:
    check = HealthCheck(command=("sh", "-c", "echo waiting for the exchange; sleep 600"), timeout_seconds=0.5)
    with pytest.raises(ServiceError, match="did not end in time: waiting for the exchange"):
        bench.gate(check).run()


@pytest.mark.root
def test_hazard_d12_a_command_runs_as_the_owner_and_not_as_root(bench: Bench) -> None:
    bench.account = account_of("nobody")
    bench.base = Path("/tmp")
    (result,) = bench.gate(HealthCheck(command=("id", "-un"))).run()
    assert result.detail == "exit status 0: nobody"


def test_what_may_be_secret_in_an_address_is_not_shown() -> None:
    assert (
        name_of(HealthCheck(url="https://user:hidden@bot.example:8443/up?key=hidden")) == "https://bot.example:8443/up"
    )
