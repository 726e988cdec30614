# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Prune on real directories, the tables for people, and the systemd units."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import (
    Application,
    Component,
    Profile,
    Retention,
    Schedule,
    ServiceManager,
    Services,
    Tier,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError, ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.rename import rename
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.units import install_units, render_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed, NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.names import backup_name

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


class FixedClock:
    def __init__(self, moment=NOW):
        self.moment = moment

    def now(self):
        return self.moment

    def monotonic(self):
        return 0.0

    def sleep(self, seconds):
        pass


class Systemd:
    """Remembers what it was asked; timers run once they were enabled."""

    def __init__(self):
        self.calls = []
        self.enabled = set()

    def find(self, program):
        return "/usr/bin/" + program

    def run(self, argv, **_options):
        self.calls.append(list(argv))
        if argv[:2] == ["systemctl", "reenable"]:
            self.enabled |= set(argv[2:])
        if argv[:2] == ["systemctl", "disable"]:
            self.enabled -= set(argv[2:])
        text = ""
        if argv[:2] == ["systemctl", "show"]:
            text = "\n".join(
                f"Id={unit}\nUnitFileState={'enabled' if unit in self.enabled else 'disabled'}\n"
                f"ActiveState={'active' if unit in self.enabled else 'inactive'}\nNeedDaemonReload=no\n"
                for unit in argv[3:]
            )
        return Completed(tuple(argv), 0, text, "")


@pytest.fixture
def application(tmp_path):
    profile = Profile(
        "bot",
        archive_prefix="user_data",
        retention=Retention(daily=3),
        schedules=(Schedule(Tier.DAILY, "02:00"), Schedule(Tier.DAILY, "Mon..Fri 17:00 America/New_York")),
    )
    places = {
        name: PurePosixPath(tmp_path / name) for name in ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")
    }
    return Application(name="bot", profile=profile, owner="x", group="x", **places)


def ports(moment=NOW, runner=None):
    return Ports(runner=runner or Systemd(), clock=FixedClock(moment), progress=NoProgress())


def with_services(application, *services):
    return replace(application, profile=replace(application.profile, services=services))


SYSTEMD = Services(ServiceManager.SYSTEMD, ("bot.timer", "bot.service", "dashboard", "bot@1.service"))


def fill(application, days):
    catalog = LocalCatalog(application, FixedClock())
    catalog.check_directory()
    for day in days:
        final = backup_name("user_data", NOW - timedelta(days=day))
        temporary = catalog.temporary(final)
        temporary.write_bytes(b"x")
        digest = hashlib.sha256(b"x").hexdigest()
        catalog.publish(
            temporary,
            final,
            {
                "size": 1,
                "sha256": digest,
                "tier": "daily",
                "verified": {"level": "deep"},
                "created": (NOW - timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        )
    return catalog


def test_prune_keeps_the_rules_and_is_idempotent(application):
    catalog = fill(application, range(9, -1, -1))
    planned = prune(application, ports(), dry_run=True)
    assert len(catalog.list()) == 10
    done = prune(application, ports(), dry_run=False)
    assert done.record["removed"] == planned.record["removed"]
    assert len(catalog.list()) == 3
    assert len(list(catalog.directory.iterdir())) == 10  # three archives with two sidecars each, and the link
    assert not prune(application, ports(), dry_run=False).changed


def test_prune_dry_run_writes_nothing(application):
    fill(application, range(9, -1, -1))
    shutil.rmtree(application.application_state_dir, ignore_errors=True)
    prune(application, ports(), dry_run=True)
    assert not Path(application.application_state_dir).exists()


def test_hazard_b4_prune_refuses_when_the_newest_is_bad(application):
    catalog = fill(application, range(9, -1, -1))
    catalog.record_verified(catalog.list()[0], "deep", NOW, False, ["rot"])
    done = prune(application, ports(), dry_run=False)
    assert done.status is ExitStatus.FINDINGS
    assert "rot" in done.record["refused"]
    assert len(catalog.list()) == 10


def test_hazard_b4_prune_refuses_when_the_clock_jumped(application):
    catalog = fill(application, range(9, -1, -1))
    back = prune(application, ports(NOW - timedelta(days=400)), dry_run=False)
    assert "future" in back.record["refused"]
    prune(application, ports(), dry_run=False)
    fill(application, [500])
    for item in catalog.list()[:-1]:
        catalog.remove(item)
    assert "went back" in prune(application, ports(NOW - timedelta(days=300)), dry_run=False).record["refused"]


@pytest.mark.parametrize(
    ("operation", "to_spare"), [(list_backups, 3), (lambda *given: prune(*given, dry_run=True), 0)]
)
def test_names_are_shortened_last_and_only_on_a_terminal(application, operation, to_spare):
    application = replace(application, profile=replace(application.profile, archive_prefix="a_long_prefix"))
    catalog = LocalCatalog(application, FixedClock())
    catalog.check_directory()
    name = backup_name("a_long_prefix", NOW, "before_the_upgrade_of_the_exchange_library")
    temporary = catalog.temporary(name)
    temporary.write_bytes(b"x")
    facts = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest(), "tier": "monthly", "verified": {"level": "deep"}}
    catalog.publish(temporary, name, facts)
    outcome = operation(application, ports())
    assert name in outcome.lines[1]
    widest = max(len(line) for line in outcome.lines[:2])
    assert tuple(outcome.fitted(widest)) == outcome.lines
    assert name in outcome.fitted(widest - to_spare)[1]
    for width in (60, 80):
        table = outcome.fitted(width)[:2]
        assert all(len(line) <= width for line in table)
        assert ".." in table[1]


def test_hazard_b4_a_future_date_is_kept_reported_and_holds_nothing_up(application):
    """A clock that was wrong for a while left a good backup of 2099; somebody copied in a file with such a date."""
    catalog = fill(application, range(9, -1, -1))
    prune(application, ports(NOW - timedelta(minutes=1)), dry_run=False)
    fill(application, [-26600, 9, 8])
    odd = catalog.directory / backup_name("user_data", NOW + timedelta(days=30000))
    odd.write_bytes(b"?")
    done = prune(application, ports(), dry_run=False)
    assert done.status is ExitStatus.DONE
    assert len(done.record["removed"]) == 2
    assert len(catalog.list()) == 5 and odd.exists()
    assert sum("dated in the future" in line for line in done.lines) == 2
    assert not prune(application, ports(), dry_run=False).changed


def test_hazard_b4_a_clock_far_ahead_does_not_make_everything_too_old(application):
    profile = replace(application.profile, retention=Retention(within_days=30))
    application = replace(application, profile=profile)
    catalog = fill(application, range(29, -1, -1))
    prune(application, ports(), dry_run=False)
    fill(application, [-400])
    ahead = ports(NOW + timedelta(days=400))
    done = prune(application, ahead, dry_run=False)
    assert done.status is ExitStatus.FINDINGS and "jumped forward" in done.record["refused"]
    fill(application, [-401])
    assert "--trust-clock" in prune(application, ports(NOW + timedelta(days=401)), dry_run=False).record["refused"]
    assert len(catalog.list()) == 32
    # The clock is right again: what it dated wrongly stays, and the rest goes on.
    fill(application, [31])
    assert prune(application, ports(NOW + timedelta(days=1)), dry_run=False).record["refused"] is None
    # Or it was right, and the server off.
    done = prune(application, ports(NOW + timedelta(days=401)), dry_run=False, trust_clock=True)
    assert len(done.record["removed"]) == 30
    assert len(catalog.list()) == 2


def test_hazard_b4_without_a_last_prune_a_future_date_says_that_the_clock_went_back(application):
    catalog = fill(application, [9, 8, 7, 6, 5, 0])
    back = ports(NOW - timedelta(days=4))
    assert "future" in prune(application, back, dry_run=False).record["refused"]
    assert len(prune(application, back, dry_run=False, trust_clock=True).record["removed"]) == 2
    assert catalog.list()[0].moment == NOW


def test_weeks_of_refusal_are_no_jump_of_the_clock(application):
    application = replace(application, profile=replace(application.profile, retention=Retention(within_days=30)))
    fill(application, [100])
    prune(application, ports(NOW - timedelta(days=100)), dry_run=False)
    fill(application, range(96, -1, -4))
    assert len(prune(application, ports(), dry_run=False).record["removed"]) == 18


def test_hazard_b9_units_catch_up_keep_their_jitter_and_report_failure(application):
    units = render_units(application)
    assert "tradekeep-backup-bot-daily-2.timer" in units
    for name, text in units.items():
        if name.endswith(".timer"):
            assert "Persistent=true" in text
            assert "FixedRandomDelay=true" in text
        elif "@" not in name:  # the unit for failures itself
            assert "OnFailure=tradekeep-failure-bot@%n.service" in text
    starts = [line for line in units["tradekeep-backup-bot-daily.service"].splitlines() if line.startswith("ExecStart")]
    assert starts[0].endswith("backup --tier daily")
    assert starts[1].endswith("prune")


@pytest.mark.parametrize("calendar", ["02:00\nExecStart=/bin/sh", "%i", ""])
def test_a_calendar_cannot_smuggle_lines(application, calendar):
    profile = replace(application.profile, schedules=(Schedule(Tier.DAILY, calendar),))
    with pytest.raises(ConfigurationError):
        render_units(replace(application, profile=profile))


@pytest.mark.parametrize("services", [(SYSTEMD,), (SYSTEMD, Services(ServiceManager.SUPERVISOR, ("all",)))])
def test_units_are_hardened_and_valid(application, tmp_path, services):
    assert shutil.which("systemd-analyze"), "install the Debian package systemd"
    Path(application.bin_dir).mkdir()
    command = Path(application.bin_dir) / "tradekeep"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    directory = tmp_path / "units"
    directory.mkdir()
    usual = replace(
        with_services(application, *services),
        root=PurePosixPath("/opt/bot"),
        backup_dir=PurePosixPath("/opt/backups"),
        state_dir=PurePosixPath("/var/lib/tradekeep"),
        config_dir=PurePosixPath("/etc/tradekeep"),
    )
    for name, text in render_units(usual).items():
        (directory / name).write_text(text)
    for path in sorted(directory.glob("*.service")):
        if path.name == "tradekeep-failure-bot@.service":
            continue  # A drop-in of the user's own may do there what it likes.
        threshold = 26 if "AF_INET" in path.read_text() else 20
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", f"--threshold={threshold}", str(path)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout
    paths = [str(path) for path in sorted(directory.iterdir()) if "@" not in path.name]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True)
    assert not [line for line in done.stderr.splitlines() if "tradekeep" in line], done.stderr


def lines_of(units, name, key):
    return [line.partition("=")[2] for line in units[name].splitlines() if line.startswith(f"{key}=")]


def test_hazard_c1_the_bot_does_not_start_at_boot_on_an_unfinished_restore(application):
    units = render_units(with_services(application, SYSTEMD))
    services = "bot.service dashboard.service bot@1.service"
    guard, recovery = "tradekeep-guard-bot.service", "tradekeep-recover-bot.service"
    assert lines_of(units, guard, "Before") == [services]
    assert lines_of(units, guard, "RequiredBy") == [services]
    assert lines_of(units, guard, "ExecStart")[0].endswith("recover --boot")
    assert lines_of(units, recovery, "After") == [f"{guard} {services}"]
    assert lines_of(units, recovery, "WantedBy") == ["multi-user.target"]
    assert lines_of(units, recovery, "ExecStart")[0].endswith("recover")
    assert lines_of(units, "tradekeep-backup-bot-daily.service", "After") == [recovery]


def test_recovery_is_skipped_while_nothing_is_pending(application):
    units = render_units(with_services(application, SYSTEMD))
    state = application.application_state_dir
    journal, stopped = f"{state}/transaction/journal.jsonl", f"{state}/stopped.json"
    assert lines_of(units, "tradekeep-guard-bot.service", "ConditionPathExists") == [journal]
    assert lines_of(units, "tradekeep-recover-bot.service", "ConditionPathExists") == [f"|{journal}", f"|{stopped}"]
    # Skipped starts count too: a bot in a restart loop must not use up the guard's.
    assert lines_of(units, "tradekeep-guard-bot.service", "StartLimitIntervalSec") == ["0"]
    # A server of backups that is away is no reason to keep the bot down.
    assert str(application.backup_dir) not in lines_of(units, "tradekeep-guard-bot.service", "RequiresMountsFor")[0]


@pytest.mark.parametrize(
    ("config", "guarded"), [(None, ["supervisor.service"]), ("/etc/supervisord.conf", ["supervisor.service"])]
)
def test_programs_of_supervisor_are_held_back_with_it(application, config, guarded):
    services = Services(ServiceManager.SUPERVISOR, ("all",), supervisor_config=config)
    units = render_units(with_services(application, services))
    assert lines_of(units, "tradekeep-guard-bot.service", "RequiredBy") == guarded
    assert lines_of(units, "tradekeep-recover-bot.service", "IPAddressAllow") == ["localhost"]
    assert lines_of(units, "tradekeep-backup-bot-daily.service", "PrivateNetwork") == ["yes"]


def test_a_supervisor_of_its_own_is_held_back_with_the_unit_that_runs_it(application):
    programs = Services(ServiceManager.SUPERVISOR, ("all",), supervisor_config="/opt/bot/supervisord.conf")
    units = render_units(with_services(application, programs, SYSTEMD))
    assert "supervisor.service" not in lines_of(units, "tradekeep-guard-bot.service", "RequiredBy")[0]
    assert "tradekeep-guard-bot.service" not in render_units(with_services(application, programs))


def test_recovery_follows_the_services_and_never_stops_the_bot(application, tmp_path):
    directory = tmp_path / "units"
    directory.mkdir()
    systemd, guard = Systemd(), "tradekeep-guard-bot.service"
    door = {"unit_dir": str(directory)}
    install_units(with_services(application, SYSTEMD), ports(runner=systemd), **door)
    assert {guard, "tradekeep-recover-bot.service"} <= systemd.enabled
    assert not install_units(with_services(application, SYSTEMD), ports(runner=systemd), **door).changed
    fewer = replace(SYSTEMD, units=("bot.service",))
    changed = install_units(with_services(application, fewer), ports(runner=systemd), **door)
    assert changed.record["enabled"] == [guard, "tradekeep-recover-bot.service"]
    install_units(application, ports(runner=systemd), **door)
    assert guard not in systemd.enabled and not (directory / guard).exists()
    install_units(with_services(application, SYSTEMD), ports(runner=systemd), **door)
    present = []
    disable = systemd.run

    def run(argv, **options):
        if argv[:2] == ["systemctl", "disable"]:
            present.append((directory / guard).exists())
        return disable(argv, **options)

    systemd.run = run
    install_units(with_services(application, SYSTEMD), ports(runner=systemd), present=False, **door)
    # Disabled while the file is still there: a bot that requires a unit without a file cannot start.
    assert present == [True, True] and systemd.enabled == set()
    for call in systemd.calls:
        # The bot requires the guard: systemd would stop it together with the guard.
        assert not {"stop", "restart", "--now"} & set(call) or guard not in call


class Notes(NoProgress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_a_schedule_without_a_key_is_said_and_installed(application, tmp_path):
    """A weekly backup that cannot be encrypted fails every week; nobody should learn that from a journal."""
    for place in (application.root, application.backup_dir, tmp_path / "units"):
        Path(place).mkdir()
    weekly = Schedule(Tier.WEEKLY, "Sun 03:00", encrypt=True)
    account, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    keyless = replace(
        application, owner=account, group=group, profile=replace(application.profile, schedules=(weekly,))
    )
    progress = Notes()
    door = Ports(runner=Systemd(), clock=FixedClock(), progress=progress)
    done = install_units(keyless, door, unit_dir=str(tmp_path / "units"), dry_run=True)
    assert "tradekeep-backup-bot-weekly.timer" in done.record["written"]
    found = check_configuration(keyless, door)
    assert (found.status, found.record["problems"]) == (ExitStatus.FINDINGS, [])
    assert progress.notes == [*found.record["warnings"], *found.record["notes"]]
    assert "names no services" in found.record["notes"][0]
    assert "the weekly backup will fail" in found.lines[0] and "backup_gpg_recipients" in found.lines[0]
    assert found.lines[-1].endswith("bot.json: 1 problem")
    assert check_configuration(replace(keyless, system=False), door).status is ExitStatus.DONE
    strict = replace(keyless.profile, components=(Component("keys", ("keys",), require_encryption=True),))
    found = check_configuration(replace(keyless, profile=strict), door)
    assert "every backup will fail: component keys" in found.record["problems"][0]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_missing_directory_of_units_is_said(application, tmp_path, dry_run):
    door = {"unit_dir": str(tmp_path / "sytemd"), "dry_run": dry_run}
    with pytest.raises(ConfigurationError, match="backup_unit_dir"):
        install_units(application, ports(), **door)
    assert not install_units(application, ports(), present=False, **door).changed


def test_install_change_remove(application, tmp_path):
    directory = tmp_path / "units"
    directory.mkdir()
    systemd = Systemd()
    door = {"unit_dir": str(directory)}
    install_units(application, ports(runner=systemd), dry_run=True, **door)
    assert list(directory.iterdir()) == []
    assert install_units(application, ports(runner=systemd), **door).changed
    assert not install_units(application, ports(runner=systemd), **door).changed
    (directory / "tradekeep-other.timer").write_text("# somebody else's\n")
    profile = replace(application.profile, schedules=(Schedule(Tier.DAILY, "05:00"),))
    systemd.calls.clear()
    changed = install_units(replace(application, profile=profile), ports(runner=systemd), **door)
    assert changed.record["written"] == ["tradekeep-backup-bot-daily.timer"]
    sides = [side["units"]["tradekeep-backup-bot-daily.timer"] for side in (changed.before, changed.after)]
    assert "OnCalendar=05:00" in sides[1] and sides[0] != sides[1]
    assert list(changed.after["units"]) == ["tradekeep-backup-bot-daily.timer"], "and nothing of what stays"
    assert changed.record["removed"] == ["tradekeep-backup-bot-daily-2.service", "tradekeep-backup-bot-daily-2.timer"]
    assert ["systemctl", "restart", "tradekeep-backup-bot-daily.timer"] in systemd.calls
    install_units(application, ports(runner=systemd), present=False, **door)
    assert [path.name for path in directory.iterdir()] == ["tradekeep-other.timer"]


def test_a_rename_removes_the_units_of_the_old_name_and_others_are_noted(application, tmp_path):
    """Units that no configured application claims stay, and whoever sets up the host is told of them."""
    directory = tmp_path / "units"
    directory.mkdir()
    systemd, notes = Systemd(), []
    door = replace(ports(runner=systemd), progress=Noting(notes))
    daily = application.profile.schedules[:1]
    parts = (Component("state", ("state",)),)
    profile = replace(application.profile, components=parts, schedules=daily, services=(Services(),))
    application = replace(application, profile=profile)
    install_units(application, door, unit_dir=str(directory))
    new = replace(application, name="new", profile=replace(application.profile, name="new"))
    assert notes == []
    install_units(new, door, unit_dir=str(directory))
    assert f"{directory}: {len(render_units(application))} units of the application bot, which is not" in notes[0]
    assert "rename_from=bot" in notes[0]
    old = {path.name for path in directory.iterdir()} - set(render_units(new))
    install_configuration(application)
    notes.clear()
    planned = rename(new, door, former="bot", unit_dir=directory, dry_run=True)
    assert old <= {path.name for path in directory.iterdir()}
    done = rename(new, door, former="bot", unit_dir=directory)
    assert done.record["steps"] == planned.record["steps"]
    assert done.record["steps"][-1] == "remove the units of bot"
    assert {path.name for path in directory.iterdir()} == set(render_units(new))
    assert not any("-bot" in unit for unit in systemd.enabled)
    assert not rename(new, door, former="bot", unit_dir=directory).changed
    install_units(new, door, unit_dir=str(directory))
    assert notes == []


class Noting(NoProgress):
    """Remembers what is said of what no application claims."""

    def __init__(self, notes):
        self._notes = notes

    def note(self, text):
        if "which is not configured here" in text:
            self._notes.append(text)
