# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""HAZARDS B9, one thing at a time: units that miss their hour, fail in silence, or are never started."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import PurePosixPath

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import (
    Application,
    Profile,
    Schedule,
    Tier,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.units import install_units, render_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed, NoProgress, Ports


class StillClock:
    def now(self):
        return datetime(2026, 3, 1, tzinfo=timezone.utc)

    def monotonic(self):
        return 0.0

    def sleep(self, seconds):
        pass


class Systemd:
    """What is enabled and what runs, as far as it was asked for."""

    def __init__(self):
        self.enabled, self.active = set(), set()

    def find(self, program):
        return f"/usr/bin/{program}"

    def run(self, argv, **_options):
        verb, units = argv[1], [word for word in argv[2:] if not word.startswith("-")]
        if verb in ("enable", "reenable"):
            self.enabled.update(units)
        if verb in ("start", "restart") or "--now" in argv:
            self.active.update(units)
        if verb == "calendar":
            return Completed(tuple(argv), int("never" in argv[-1]), "", "")
        return Completed(tuple(argv), 0, self.shown(units) if verb == "show" else "", "")

    def shown(self, units):
        return "\n".join(
            f"Id={unit}\nUnitFileState={'enabled' if unit in self.enabled else 'disabled'}\n"
            f"ActiveState={'active' if unit in self.active else 'inactive'}\nNeedDaemonReload=no\n"
            for unit in units
        )


@pytest.fixture
def application(tmp_path):
    profile = Profile("bot", archive_prefix="user_data", schedules=(Schedule(Tier.DAILY, "02:00"),))
    names = ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")
    places = {name: PurePosixPath(tmp_path / name) for name in names}
    return Application(name="bot", profile=profile, owner="x", group="x", **places)


def of_type(units, suffix):
    found = {name: text.splitlines() for name, text in units.items() if name.endswith(suffix)}
    assert found
    return found


def test_hazard_b9_timers_catch_up_at_a_time_that_stays_the_same(application):
    for lines in of_type(render_units(application), ".timer").values():
        assert "Persistent=true" in lines
        assert "FixedRandomDelay=true" in lines


def test_hazard_b9_a_unit_that_fails_starts_one_that_says_so(application):
    units = render_units(application)
    for timer in of_type(units, ".timer"):
        lines = units[timer.replace(".timer", ".service")].splitlines()
        (started,) = [line.partition("=")[2] for line in lines if line.startswith("OnFailure=")]
        assert started == "tradekeep-failure-bot@%n.service"
        assert started.replace("%n", "") in units


def test_hazard_b9_no_step_of_a_unit_may_fail_in_silence(application):
    """systemd runs the next ExecStart only after the one before succeeded, unless a dash tells it not to look."""
    for name, lines in of_type(render_units(application), ".service").items():
        for line in lines:
            if "-failure-" in name:
                # What it runs for the user comes last, and is run even when the disk is full.
                assert not line.startswith("ExecStart") or line.startswith("ExecStart=-/")
                continue
            assert not line.startswith("ExecStart") or line.startswith(("ExecStart=/", 'ExecStart="/'))
            assert not line.startswith("SuccessExitStatus")


def test_hazard_b9_timers_are_enabled_and_started(application, tmp_path):
    directory, systemd = tmp_path / "units", Systemd()
    directory.mkdir()
    ports = Ports(runner=systemd, clock=StillClock(), progress=NoProgress())
    timers = set(of_type(render_units(application), ".timer"))
    install_units(application, ports, unit_dir=str(directory))
    assert timers <= systemd.enabled
    assert timers <= systemd.active
    assert not install_units(application, ports, unit_dir=str(directory)).changed
    for lost in (systemd.active, systemd.enabled):
        lost.clear()
        assert install_units(application, ports, unit_dir=str(directory)).changed
        assert timers <= lost


def test_hazard_b9_a_schedule_that_systemd_does_not_know_is_refused(application, tmp_path):
    directory, systemd = tmp_path / "units", Systemd()
    directory.mkdir()
    profile = replace(application.profile, schedules=(Schedule(Tier.DAILY, "never"),))
    ports = Ports(runner=systemd, clock=StillClock(), progress=NoProgress())
    with pytest.raises(ConfigurationError, match="does not understand 'never'"):
        install_units(replace(application, profile=profile), ports, unit_dir=str(directory))
    assert list(directory.iterdir()) == []
