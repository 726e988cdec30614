# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bot that keeps its database locked is stopped for the backup, and runs again whatever becomes of that."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CaptureError,
    CommandError,
    ConfigurationError,
    InterruptedBySignal,
    NeedsPersonError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.user_units import units_of
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_profile
from ansible_collections.tradekeep.ops.plugins.module_utils.core.signals import interruptible
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.stopped import read_stop

UNIT = "bot.service"
SERVICES = [{"manager": "systemd", "units": [UNIT, "other.service"], "stop_for_backup": True}]
RULES = [{"pattern": "data/needed.db", "required": True}]
PROFILE = {
    "name": "bot",
    "services": SERVICES,
    "components": {"data": {"paths": ["data"], "directories": ["data"], "files": RULES}},
}
BOT = """
import sqlite3, sys, time
bot = sqlite3.connect(sys.argv[1], isolation_level=None)
bot.execute("pragma locking_mode=exclusive")
bot.execute("insert into fills values (null)")
print("trades", flush=True)
time.sleep(600)
"""


class Systemd(SubprocessRunner):
    """One unit, whose process is a bot that never lets go of its database; another that does not run."""

    def __init__(self, database: Path) -> None:
        super().__init__()
        self._database = database
        self.bot = 0
        self.told: list[str] = []
        self.starts = True

    @property
    def runs(self) -> bool:
        """As a process that is no parent of it can tell, too."""
        try:
            return Path(f"/proc/{self.bot}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def find(self, program):
        return "/usr/bin/systemctl" if program == "systemctl" else super().find(program)

    def run(self, argv, **options):
        if argv[0] != "systemctl":
            return super().run(argv, **options)
        if argv[1] == "show":
            states = ["active" if name == UNIT and self.runs else "inactive" for name in argv[argv.index("--") + 1 :]]
            text = "\n\n".join(f"LoadState=loaded\nActiveState={state}\nSubState=x\nType=simple" for state in states)
            return Completed(tuple(argv), 0, text + "\n", "")
        if argv[1] in ("start", "stop"):
            self.told.append(f"{argv[1]} {argv[-1]}")
            if argv[1] == "start" and not self.starts:
                raise CommandError("systemctl start failed", path=UNIT)
            (self.begin if argv[1] == "start" else self.end)()
        return Completed(tuple(argv), 0, "", "")

    def begin(self) -> None:
        begun = subprocess.Popen([sys.executable, "-c", BOT, str(self._database)], stdout=subprocess.PIPE)
        assert begun.stdout is not None and begun.stdout.readline()
        self.bot = begun.pid

    def end(self) -> None:
        if self.runs:
            os.kill(self.bot, signal.SIGKILL)
        while self.runs:
            time.sleep(0.01)


@pytest.fixture
def bot(make_bench):
    """A bench whose bot runs."""
    bench = make_bench(PROFILE)
    bench.make_tree()
    place = bench.root / "data/fills.db"
    with closing(sqlite3.connect(place)) as database, database:
        database.execute("create table fills (id integer primary key)")
    bench.systemd = Systemd(place)
    bench.ports = replace(bench.ports, runner=bench.systemd)
    # Its services are started and stopped here.
    bench.application = replace(bench.application, user_units=True)
    bench.systemd.begin()
    yield bench
    bench.systemd.end()


def stopped(bench):
    return read_stop(Path(bench.application.application_state_dir))


def test_it_is_stopped_while_the_data_is_captured_and_runs_again(bot):
    made = backup(bot.application, bot.ports).record["backup"]
    assert made["good"] and bot.systemd.runs and stopped(bot) is None
    assert bot.systemd.told == [f"stop {UNIT}", f"start {UNIT}"]
    sidecar = json.loads(next(bot.backups.glob("*.json")).read_text())
    assert sidecar["databases"]["data/fills.db"]["tables"] == {"fills": 1}
    assert any(f"stops {UNIT}" in note for note in bot.notes) and any("runs again" in note for note in bot.notes)


def test_a_dry_run_says_it_and_stops_nothing(bot):
    planned = backup(bot.application, bot.ports, dry_run=True)
    assert f"would stop {UNIT} while the data is captured" in planned.lines
    assert bot.systemd.told == [] and bot.systemd.runs


def test_what_does_not_run_is_neither_stopped_nor_started(bot):
    bot.systemd.end()
    assert backup(bot.application, bot.ports).record["backup"]["good"]
    assert bot.systemd.told == [] and not bot.systemd.runs


def test_it_runs_again_after_a_backup_that_failed(bot):
    (bot.root / "data/needed.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(CaptureError):
        backup(bot.application, bot.ports)
    assert bot.systemd.told == [f"stop {UNIT}", f"start {UNIT}"]
    assert bot.systemd.runs and stopped(bot) is None


def test_it_runs_again_after_a_signal(bot):
    def step(name):
        if name == "stop":
            os.kill(os.getpid(), signal.SIGTERM)

    bot.ports = replace(bot.ports, step=step)
    with pytest.raises(InterruptedBySignal), interruptible():
        backup(bot.application, bot.ports)
    assert bot.systemd.runs and stopped(bot) is None


def test_hazard_b9_what_a_killed_backup_stopped_is_started_by_a_recovery(bot):
    child = os.fork()
    if child == 0:
        bot.ports = replace(bot.ports, step=lambda name: os._exit(9) if name == "start" else None)
        backup(bot.application, bot.ports)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not bot.systemd.runs and stopped(bot) is not None
    assert recover(bot.application, bot.ports).changed
    assert bot.systemd.runs and stopped(bot) is None


def test_a_bot_that_does_not_start_needs_a_person_and_stays_on_record(bot):
    bot.systemd.starts = False
    with pytest.raises(NeedsPersonError, match=r"bot\.service: the backup is made, but a service does not run"):
        backup(bot.application, bot.ports)
    assert stopped(bot) is not None


@pytest.mark.parametrize("manager", ["none", "command"])
def test_only_what_a_unit_can_stop_can_be_stopped_for_it(manager):
    services = {"manager": manager, "stop_for_backup": True}
    if manager == "command":
        services |= {"units": ["bot"], "start": ["/bin/a"], "stop": ["/bin/b"], "is_active": ["/bin/c"]}
    with pytest.raises(ConfigurationError, match="only with manager systemd or supervisor") as caught:
        resolve_profile({**PROFILE, "services": [services]})
    assert str(caught.value.path).endswith("services[0].stop_for_backup")


SCHEDULED = {"schedules": [{"tier": "daily", "calendar": "daily"}]}


@pytest.mark.parametrize("whose", ["system", "user_units"])
def test_the_unit_may_ask_systemd_and_what_was_killed_is_recovered(make_bench, whose):
    for stops in (True, False):
        services = [{**SERVICES[0], "stop_for_backup": stops}]
        application = make_bench({**PROFILE, **SCHEDULED, "services": services}).application
        application = replace(application, **{whose: True})
        units = units_of(application)
        text = units[f"tradekeep-backup-{application.name}-daily.service"]
        assert ("RestrictAddressFamilies=AF_UNIX" in text) == stops
        assert (f"OnFailure=tradekeep-recover-{application.name}.service" in text) == stops
        assert f"tradekeep-recover-{application.name}.service" in units
        assert "[Install]" not in text and "ExecStart=" in text and "Nice=10" in text
