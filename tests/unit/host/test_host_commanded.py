# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot that commands start and stop: real ones, and those that root must not run."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import ServiceManager, Services
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError, ServiceError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import commanded
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.services import ServiceController
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed, Said
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import (
    profile_as_mapping,
    resolve_application,
    resolve_profile,
)

START = """#!/bin/sh
test ! -e {base}/broken || {{ echo cannot open fills.db >&2; exit 3; }}
setsid sh -c 'echo $$ > {base}/pid; exec sleep 1000' < /dev/null > /dev/null 2>&1 &
"""
STOP = "#!/bin/sh\ntest ! -e {base}/stubborn || exit 0\nkill $(cat {base}/pid)\n"
IS_ACTIVE = "#!/bin/sh\ntest -e {base}/pid && kill -0 $(cat {base}/pid) 2> /dev/null\n"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(commanded, "BOOTED", "/nonexistent")
    monkeypatch.setattr(commanded, "_POLL_SECONDS", 0.02)
    for name, text in (("start", START), ("stop", STOP), ("is_active", IS_ACTIVE)):
        (tmp_path / name).write_text(text.format(base=tmp_path))
        (tmp_path / name).chmod(0o755)
    yield tmp_path
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def controller(base: Path, runner: Any = None, **options: Any) -> ServiceController:
    given: dict[str, Any] = {
        "stay_up_seconds": 0.1,
        **{name: (str(base / name),) for name in ("start", "stop", "is_active")},
        **options,
    }
    return ServiceController(
        [Services(ServiceManager.COMMAND, ("bot",), **given)], runner or SubprocessRunner(), SystemClock()
    )


def test_it_is_stopped_and_started_again_and_watched(base: Path) -> None:
    services = controller(base)
    idle = services.snapshot()
    assert idle[0]["running"] == [] and services.installed()[0]["running"] == ["bot"]
    services.start(services.installed())
    # What starting again needs is in the journal alone, as JSON.
    snapshot = json.loads(json.dumps(services.snapshot()))
    assert snapshot[0]["running"] == ["bot"]
    recovering = ServiceController((), SubprocessRunner(), SystemClock())
    assert recovering.stop(snapshot) == ("bot",)
    assert not services.is_active()
    assert recovering.start(snapshot) == ("bot",)
    recovering.wait_until_steady(snapshot)
    assert services.is_active()
    services.stop(snapshot)
    with pytest.raises(ServiceError, match="bot: does not stay up: is not active"):
        recovering.wait_until_steady(snapshot)


def test_what_does_not_start_or_stop_is_said_with_its_last_words(base: Path) -> None:
    services = controller(base, stop_timeout_seconds=0.1)
    (base / "broken").touch()
    with pytest.raises(ServiceError, match=r"bot: does not start: exit status 3: cannot open fills\.db"):
        services.start(services.installed())
    (base / "broken").unlink()
    services.start(services.installed())
    (base / "stubborn").touch()
    with pytest.raises(ServiceError, match=r"bot: is active 0\.1 seconds after it was stopped"):
        services.stop(services.snapshot())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/nonexistent/pm2", "pid"), "bot: cannot be asked for: exit status 127"),
        (("sleep", "5"), "bot: cannot be asked for: did not end in time"),
    ],
)
def test_a_question_that_cannot_be_asked_is_not_a_no(base: Path, command: tuple[str, ...], said: str) -> None:
    """A bot that is taken for stopped would have its data exchanged under it."""
    with pytest.raises(ServiceError, match=said):
        controller(base, is_active=command, is_active_timeout_seconds=0.1, user=_nobody()).snapshot()


def _nobody() -> Any:
    return "nobody" if os.geteuid() == 0 else None


@pytest.mark.root
@pytest.mark.parametrize("which", ["program", "argument", "option"])
def test_hazard_g2_root_runs_no_command_that_others_can_change(base: Path, which: str) -> None:
    (base / "ran").unlink(missing_ok=True)
    (base / "is_active").write_text(f"#!/bin/sh\ntouch {base}/ran\n")
    os.chown(base / "is_active", 65534, 65534)
    bots = str(base / "is_active")
    command = {"program": (bots,), "argument": ("sh", bots), "option": ("sh", f"--file={bots}")}[which]
    with pytest.raises(ServiceError, match="others can change it") as caught:
        controller(base, is_active=command).snapshot()
    assert "name the bot's account as user" in str(caught.value.hint)
    assert not (base / "ran").exists()


@pytest.mark.root
def test_hazard_g2_commands_of_the_bots_run_as_its_account(base: Path) -> None:
    base.chmod(0o777)
    for place in base.parents:
        if place.stat().st_uid == 0 and str(place).startswith("/tmp/"):
            place.chmod(0o755)
    script = f"id -u > {base}/who; echo $HOME >> {base}/who; grep CapEff /proc/self/status >> {base}/who; exit 1"
    assert not controller(base, is_active=("sh", "-c", script), user="nobody").is_active()
    who, home, capabilities = (base / "who").read_text().splitlines()
    assert (who, home) == ("65534", pwd.getpwnam("nobody").pw_dir)
    assert int(capabilities.split()[1], 16) == 0


class Recording:
    """A host that systemd runs: what would be run there."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.active = 1

    def find(self, program: str) -> str:
        return f"/usr/bin/{program}"

    def run(self, argv: Any, **_options: Any) -> Completed:
        self.calls.append(list(argv))
        self.active = 0
        return Completed(tuple(argv), 0, "", "")

    def listen(self, argv: Any, **_options: Any) -> Said:
        return Said(self.active, "")


@pytest.mark.root
def test_systemd_carries_the_start_out_so_that_the_bot_outlives_the_operation(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commanded, "BOOTED", "/")
    runner = Recording()
    services = controller(base, runner, start=("tmux", "new-session", "-d", "$HOME/run"), user="nobody")
    services.start(services.installed())
    started = runner.calls[0]
    assert started[0] == "systemd-run" and "--service-type=forking" in started and "--uid=65534" in started
    assert started[started.index("--") + 1 :] == ["/usr/bin/env", "tmux", "new-session", "-d", "$$HOME/run"]


PROFILE: dict[str, Any] = {"name": "bot", "root": "/opt/bot", "owner": "bot", "components": {"data": {"paths": ["d"]}}}
GIVEN: dict[str, Any] = {"manager": "command", "units": ["bot"], "start": ["a"], "stop": ["b"], "is_active": ["c"]}


@pytest.mark.parametrize(
    ("services", "key"),
    [
        ({key: value for key, value in GIVEN.items() if key != "stop"}, "services[0].stop"),
        ({**GIVEN, "start": "pm2 start bot"}, "services[0].start"),
        ({**GIVEN, "start": []}, "services[0].start"),
        ({**GIVEN, "units": ["one", "two"]}, "services[0].units"),
        ({**GIVEN, "units": ["bot*"]}, "services[0].units"),
        ({"manager": "systemd", "units": ["bot"], "start": ["a"]}, "services[0].start"),
        ({"manager": "systemd", "units": ["bot"], "user": "bot"}, "services[0].user"),
    ],
)
def test_a_profile_that_cannot_be_meant_is_refused(services: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_profile({**PROFILE, "services": [services]})
    assert caught.value.path == key


def test_commands_are_the_owners_unless_the_profile_says_whose() -> None:
    for given, user in (({}, "bot"), ({"user": "root"}, "root")):
        application = resolve_application({**PROFILE, "services": [{**GIVEN, **given}]})
        assert application.profile.services[0].user == user
        again = resolve_profile(profile_as_mapping(application.profile))
        assert again == application.profile
