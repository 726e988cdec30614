# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A failed night is heard of: the state that ``list`` and ``tradekeep`` alone show, and what a power cut leaves."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Schedule, Tier
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus, SpaceError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import backup as backup_module
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.due import overdue
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.runs import (
    CUT_OFF,
    failures,
    last_runs,
    make_up_for,
    recorded,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_files import render_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed

DAILY = "tradekeep-backup-kalshi-daily.service"


class Clock:
    """Stands still until it is put on."""

    def __init__(self) -> None:
        self.moment = datetime.now(timezone.utc).replace(microsecond=0)

    def now(self):
        return self.moment

    def monotonic(self):
        return time.monotonic()

    def sleep(self, seconds):
        time.sleep(seconds)


class Systemctl:
    """Starts nothing, and remembers what it was asked."""

    def __init__(self):
        self.started = []

    def find(self, program):
        return None

    def run(self, argv, **_options):
        self.started.append(argv[-1])
        return Completed(tuple(argv), 0, "", "")


@pytest.fixture
def server(bench):
    install_configuration(bench.application)
    bench.database().close()
    return bench


@pytest.fixture
def clocked(server):
    server.ports = replace(server.ports, clock=Clock())
    return server


def said(server, *words):
    """Exit status, and what is on standard output."""
    out, err = io.StringIO(), io.StringIO()
    status = cli.main(list(words), config_dir=str(server.application.config_dir), stdout=out, stderr=err)
    assert "Traceback" not in err.getvalue()
    return int(status), out.getvalue()


def fails(error):
    def work():
        raise error

    return work


def cut_off(server, job="backup-daily"):
    """What a power cut in the middle of a job leaves: the mark of a run, which no process holds any more."""
    marks = Path(server.application.application_state_dir) / "runs"
    marks.mkdir(parents=True, exist_ok=True)
    (marks / f"{job}.running").write_text(json.dumps({"started": "2026-11-29T02:00:00Z"}))


def test_list_ends_with_the_last_failure_and_the_age_of_the_last_good_backup(server):
    assert said(server, "backup", "--tier", "daily")[0] == 0
    status, text = said(server, "list")
    assert (status, text.splitlines()[-2]) == (0, "last failure: none")
    assert " UTC (" in text.splitlines()[-1] and text.splitlines()[-1].startswith("last good backup: 20")
    shutil.rmtree(server.root)
    assert said(server, "backup", "--tier", "daily")[0] != 0
    for words in (["list"], []):
        status, text = said(server, *words)
        problem, failure, good = (line.strip() for line in text.splitlines()[-3:])
        assert status == 1 and problem.startswith("PROBLEM: the last run failed at 20"), text
        assert "backup (daily): " in problem and "(exit status " in problem and f"journalctl -u {DAILY}" in problem
        assert failure.startswith("last failure: 20") and good.startswith("last good backup: 20")
    answer = json.loads(said(server, "--json", "list")[1])
    assert answer["exit_status"] == 1 and answer["record"]["state"]["last_good"]["name"].startswith("user_data_")


def test_a_good_backup_after_it_ends_a_failure_and_a_successful_prune_that_of_a_prune(clocked):
    ports, application = clocked.ports, clocked.application
    ports.clock.moment -= timedelta(hours=2)
    with pytest.raises(SpaceError):
        recorded(application, ports, "backup-daily", fails(SpaceError("no space left on device")))
    assert list_backups(application, ports).status is ExitStatus.FINDINGS
    ports.clock.moment += timedelta(hours=1)
    refused = Outcome(changed=False, record={}, lines=("nothing was removed",), status=ExitStatus.FINDINGS)
    recorded(application, ports, "prune", lambda: refused)
    said(clocked, "backup")
    ports.clock.moment += timedelta(hours=1)
    found = list_backups(application, ports).record["state"]["problems"]
    assert len(found) == 1 and "prune: nothing was removed" in found[0]
    recorded(application, ports, "prune", lambda: Outcome(changed=False, record={}))
    assert list_backups(application, ports).record["state"]["problems"] == []


def test_hazard_b9_what_power_cut_off_is_seen_by_list_and_made_up_for_at_boot(clocked):
    application, systemctl = clocked.application, Systemctl()
    ports = replace(clocked.ports, runner=systemctl)
    cut_off(clocked)
    before = clocked.snapshot(), sorted(Path(application.application_state_dir).rglob("*"))
    found = list_backups(application, ports)
    assert found.status is ExitStatus.FINDINGS and CUT_OFF in found.lines[-3]
    assert (clocked.snapshot(), sorted(Path(application.application_state_dir).rglob("*"))) == before, "a look"
    done = make_up_for(application, ports)
    assert (done.changed, systemctl.started) == (True, [DAILY])
    assert [(item.unit, item.what) for item in failures(application)] == [(DAILY, "was cut off")]
    assert not make_up_for(application, ports).changed
    assert CUT_OFF in list_backups(application, ports).lines[-3], "until it is made up for"
    # What cuts the power is perhaps the backup.
    cut_off(clocked)
    again = make_up_for(application, ports)
    assert systemctl.started == [DAILY] and "is not started again" in again.lines[-1]
    recorded(application, ports, "backup-daily", lambda: Outcome(changed=True, record={}))
    assert list_backups(application, ports).record["state"]["problems"] == []
    cut_off(clocked)
    assert make_up_for(application, ports).record["started"] == [DAILY]


def test_a_manual_run_that_left_an_empty_mark_on_a_full_disk_is_over_with_the_next_good_backup(clocked):
    cut_off(clocked, "backup-manual")
    mark = Path(clocked.application.application_state_dir) / "runs/backup-manual.running"
    mark.write_bytes(b"")
    os.utime(mark, (1.7e9, 1.7e9))
    assert list_backups(clocked.application, clocked.ports).status is ExitStatus.FINDINGS
    said(clocked, "backup", "--tier", "daily")
    clocked.ports.clock.moment += timedelta(minutes=1)
    assert list_backups(clocked.application, clocked.ports).status is ExitStatus.DONE


def test_without_a_boot_the_next_run_records_what_was_cut_off(clocked):
    cut_off(clocked, "verify")
    recorded(clocked.application, clocked.ports, "verify", lambda: Outcome(changed=True, record={}))
    assert [item.what for item in failures(clocked.application)] == ["was cut off"]
    assert any(CUT_OFF in text for text in clocked.notes)
    assert [run.exit_status for run in last_runs(clocked.application)] == [0]


def test_a_run_that_lives_is_no_failure_and_one_that_was_killed_is(server):
    script = (
        "import sys, time\n"
        "from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import load_application\n"
        "from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner\n"
        "from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock\n"
        "from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.runs import recorded\n"
        "from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports\n"
        "ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())\n"
        "recorded(load_application(config_file=sys.argv[1]), ports, 'backup-daily', "
        "lambda: (print('runs', flush=True), time.sleep(60)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(server.application.config_file)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "runs\n"
        assert [run.running for run in last_runs(server.application)] == [True]
        assert list_backups(server.application, server.ports).status is ExitStatus.DONE
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert CUT_OFF in list_backups(server.application, server.ports).record["state"]["problems"][0]


def test_a_unit_that_could_not_even_start_the_command_is_told(clocked):
    log = Path(clocked.application.application_state_dir) / "failures.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"nonsense\n2026-01-02T02:00:01Z {DAILY} failed\n")
    said(clocked, "backup")
    assert list_backups(clocked.application, clocked.ports).status is ExitStatus.DONE, "long ago, and all is well since"
    soon = datetime.now(timezone.utc) + timedelta(minutes=1)
    with log.open("a") as stream:
        stream.write(f"{soon:%Y-%m-%dT%H:%M:%SZ} {DAILY} failed\n")
    problems = list_backups(clocked.application, clocked.ports).record["state"]["problems"]
    assert len(problems) == 1 and problems[0].startswith(f"{DAILY} failed at 20")


def test_hazard_b4_what_a_wrong_clock_recorded_neither_alarms_for_ever_nor_hides_what_comes_after(clocked):
    clock = clocked.ports.clock
    now = clock.moment
    log = Path(clocked.application.application_state_dir) / "failures.log"
    clock.moment = now + timedelta(days=400)
    recorded(clocked.application, clocked.ports, "drill", lambda: Outcome(changed=True, record={}))
    log.write_text(f"{clock.moment:%Y-%m-%dT%H:%M:%SZ} {DAILY} failed\n")
    clock.moment = now
    said(clocked, "backup")
    clock.moment += timedelta(minutes=1)
    found = list_backups(clocked.application, clocked.ports)
    assert found.record["state"]["problems"] == []
    (note,) = (line for line in found.lines if "dated in the future" in line)
    assert note.startswith(f"note: passed over, as dated in the future: {DAILY} failed at ")
    # The drill's timer, whose last run is dated in the future, could not even start the command this night.
    drill = "tradekeep-drill-kalshi.service"
    with log.open("a") as stream:
        stream.write(f"{clock.moment:%Y-%m-%dT%H:%M:%SZ} {drill} failed\n")
    found = list_backups(clocked.application, clocked.ports)
    assert [text.split(" at ")[0] for text in found.record["state"]["problems"]] == [f"{drill} failed"]
    assert found.record["state"]["last_failure"]["what"] == f"{drill} failed"


def test_hazard_b4_a_configuration_of_a_wrong_clock_does_not_hide_that_no_backup_was_ever_made(server):
    schedule = Schedule(Tier.DAILY, "*-*-* 02:00 UTC", jitter_seconds=300)
    profile = replace(server.application.profile, schedules=(schedule,))
    application = replace(server.application, profile=profile, system=True)
    assert list(overdue(application, server.ports, None)) == []
    ahead = time.time() + 400 * 86400
    os.utime(application.config_file, (ahead, ahead))
    (problem,) = overdue(application, server.ports, None)
    assert "no good backup" in problem and f"{application.config_file} is dated in the future" in problem


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
@pytest.mark.parametrize(
    ("calendar", "last", "now", "late"),
    [
        ("*-*-* 02:00 UTC", "2026-11-28 02:03", "2026-11-29 04:00", False),
        ("*-*-* 02:00 UTC", "2026-11-28 02:03", "2026-11-29 04:20", True),
        # From Friday's to Monday's.
        ("Mon..Fri 17:00 America/New_York", "2026-11-27 22:00", "2026-11-30 21:59", False),
        ("Mon..Fri 17:00 America/New_York", "2026-11-27 22:00", "2026-12-01 00:10", True),
    ],
)
def test_hazard_b9_a_backup_is_overdue_when_its_schedule_says_so(bench, calendar, last, now, late):
    def moment(text):
        return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=timezone.utc)

    clock = Clock()
    clock.moment = moment(now)
    profile = replace(bench.application.profile, schedules=(Schedule(Tier.DAILY, calendar, jitter_seconds=300),))
    application = replace(bench.application, profile=profile, system=True)
    ports = replace(bench.ports, clock=clock)
    found = list(overdue(application, ports, moment(last)))
    assert bool(found) is late
    # Nothing installs timers there, and so nothing is late.
    assert list(overdue(replace(application, system=False), ports, moment(last))) == []


def test_without_a_configuration_the_help_is_shown_and_with_several_each_of_them(server, make_bench):
    out = io.StringIO()
    assert cli.main([], config_dir=str(server.base / "nowhere"), stdout=out, stderr=io.StringIO()) == 0
    assert out.getvalue().startswith("usage: tradekeep")
    said(server, "backup")
    other = make_bench("v6", root=str(server.base / "other"), backup_dir=str(server.base / "of_v6"))
    install_configuration(other.application)
    status, text = said(server)
    heads = [line.partition(":")[0] for line in text.splitlines() if not line.startswith(" ")]
    assert (status, heads) == (0, ["kalshi", "v6"])
    (Path(server.application.config_dir) / "broken.json").write_text("{")
    status, text = said(server)
    assert status == 2 and "PROBLEM: " in text and "v6: " in text
    assert [item["application"] for item in json.loads(said(server, "--json")[1])["record"]["applications"]] == [
        "broken",
        "kalshi",
        "v6",
    ]


def test_a_list_is_limited_and_newest_last_only_on_a_terminal(server):
    for name in ("one", "two", "three"):
        said(server, "backup", "--name", name)
    first, last = (f"_{name}.tar.gz" for name in ("three", "two"))
    lines = said(server, "list", "--limit", "2")[1].splitlines()
    assert first in lines[1] and last in lines[2] and lines[3] == "and 1 older"
    assert f"{datetime.now(timezone.utc):%Y-%m}" in lines[1].split()[2], "with dates"
    fitted = list_backups(server.application, server.ports, limit=2).fitted(200)
    assert fitted[1] == "and 1 older" and last in fitted[2] and first in fitted[3]
    answer = json.loads(said(server, "list", "--limit", "1", "--json")[1])["record"]
    assert (len(answer["backups"]), answer["older"]) == (1, 2)


def test_hazard_b4_of_a_limited_list_a_backup_of_a_wrong_clock_takes_no_place(clocked):
    now = clocked.ports.clock.moment
    clocked.ports.clock.moment = now + timedelta(days=400)
    backup(clocked.application, clocked.ports, name="ahead")
    clocked.ports.clock.moment = now
    backup(clocked.application, clocked.ports, name="present")
    limited = list_backups(clocked.application, clocked.ports, limit=1)
    assert [item["label"] for item in limited.record["backups"]] == ["present"]
    assert [item["label"] for item in list_backups(clocked.application, clocked.ports).record["backups"]] == [
        "present",
        "ahead",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--config {file} --app other list", "is the configuration of kalshi, and not of other"),
        ("deploy --log main", "--log shows what was done, and does nothing"),
        ("deploy --log --rollback", "--log shows what was done, and does nothing"),
        ("drill --log some_backup", "--log shows what was done, and does nothing"),
    ],
)
def test_words_that_would_do_nothing_are_refused(server, words, told):
    err, file = io.StringIO(), str(server.application.config_file)
    line = words.format(file=file).split()
    status = cli.main(line, config_dir=str(server.application.config_dir), stdout=io.StringIO(), stderr=err)
    assert status == 2 and told in err.getvalue()
    assert said(server, "--config", file, "--app", "kalshi", "list")[0] == 0


def test_a_recovery_key_that_proves_nothing_is_a_finding(server):
    status, text = said(server, "config", "check", "--recovery-key", "/nowhere/operator.asc")
    assert status == 1 and "/nowhere/operator.asc: proves nothing, as backups are not encrypted to any key" in text


def test_a_manual_backup_with_wrong_words_is_no_failure(server):
    assert said(server, "backup", "--name", "no such/name")[0] == 2
    assert said(server, "list")[0] == 0


def test_units_start_again_what_was_cut_off_and_a_drop_in_may_tell_the_world(server):
    units = render_units(replace(server.application, system=True))
    missed = units["tradekeep-missed-kalshi.service"]
    marks = f"ConditionPathExistsGlob={server.application.application_state_dir}/runs/*.running\n"
    assert marks in missed and "recover --missed\n" in missed and "WantedBy=multi-user.target" in missed
    failure = units["tradekeep-failure-kalshi@.service"]
    for closed in ("PrivateNetwork", "RestrictAddressFamilies", "IPAddressDeny", "ProtectHome", "CapabilityBounding"):
        assert closed not in failure
    # Neither a full disk nor a missing program keeps the drop-in from being run.
    assert all(line.startswith("ExecStart=-") for line in failure.splitlines() if line.startswith("ExecStart"))


def test_a_backup_without_space_prunes_and_is_tried_once_more(server, monkeypatch):
    retention = replace(server.application.profile.retention, daily=1, weekly=0, monthly=0, within_days=0)
    profile = replace(server.application.profile, retention=retention)
    application = replace(server.application, profile=profile)
    for _number in range(2):
        backup(application, server.ports, tier="daily")
    kept = len(list_backups(application, server.ports).record["backups"])
    full = [True]

    def check_space(plan, _directory=None):
        if full.pop() if full else False:
            raise SpaceError("not enough space", path=plan.directory)

    monkeypatch.setattr(backup_module, "check_space", check_space)
    assert backup(application, server.ports, tier="daily").status is ExitStatus.DONE
    assert len(list_backups(application, server.ports).record["backups"]) == kept
    assert "not enough space: removed 1 of 2 backups" in server.notes[-1]
    # Nothing more can go, or the space does not come back: it fails for what it is.
    full += [True, True, True]
    with pytest.raises(SpaceError):
        backup(application, server.ports, tier="daily")
    assert len(full) == 1
    full += [True]
    with pytest.raises(SpaceError):
        backup(application, server.ports, tier="daily")
