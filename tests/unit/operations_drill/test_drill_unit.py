# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer of drills, and the settings of the profile."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import (
    parse_configuration,
    render_configuration,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_files import render_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.units import install_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

SERVICE, TIMER = "tradekeep-drill-kalshi.service", "tradekeep-drill-kalshi.timer"


def units(drill=None, **options):
    profile = {"extends": "kalshi", "name": "kalshi", **({} if drill is None else {"drill": drill})}
    return render_units(resolve_application(profile, **options))


def lines(text, key):
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def test_hazard_b9_a_drill_is_due_each_month_catches_up_and_reports_failure():
    found = units()
    assert lines(found[TIMER], "OnCalendar") == ["*-*-15 05:00:00"]
    assert lines(found[TIMER], "Persistent") == ["true"]
    assert lines(found[SERVICE], "OnFailure") == ["tradekeep-failure-kalshi@%n.service"]
    assert lines(found[SERVICE], "ExecStart")[0].endswith(" --no-progress drill")


def test_a_drill_cannot_write_to_the_backups():
    (writable,) = lines(units()[SERVICE], "BindPaths")
    assert writable.split() == ["/opt/trading_system/user_data", "/var/lib/tradekeep/kalshi"]
    assert "/opt/backups" in lines(units()[SERVICE], "BindReadOnlyPaths")[1].split()


def test_the_unit_reaches_what_the_settings_name():
    found = units({"scratch": "/srv/drills", "key_file": "/root/recovery.asc", "calendar": "quarterly"})
    assert "/srv/drills" in lines(found[SERVICE], "BindPaths")[0].split()
    assert "/srv/drills" in lines(found[SERVICE], "RequiresMountsFor")[0].split()
    assert "-/root/recovery.asc" in lines(found[SERVICE], "BindReadOnlyPaths")[0].split()
    assert lines(found[SERVICE], "ProtectHome") == ["tmpfs"]
    assert lines(found[TIMER], "OnCalendar") == ["quarterly"]


def test_there_is_no_timer_where_it_could_only_fail_or_is_not_wanted():
    sealed = {"gpg_recipients": ("A" * 40,), "host_key": False}
    assert TIMER not in units({"enabled": False})
    assert TIMER not in units(**sealed), "the host cannot read its own backups"
    assert TIMER in units({"key_file": "/root/recovery.asc"}, **sealed)
    assert TIMER in units(gpg_recipients=("A" * 40,)), "the host has a key of its own"


def test_that_there_is_no_timer_is_said_when_units_change(make_bench, tmp_path):
    class Systemd:
        def find(self, program):
            return f"/usr/bin/{program}"

        def run(self, argv, **_options):
            return Completed(tuple(argv), 0, "", "")

    bench = make_bench(gpg_recipients=("A" * 40,), host_key=False)
    application = dataclasses.replace(bench.application, system=True)
    (tmp_path / "units").mkdir()
    ports = dataclasses.replace(bench.ports, runner=Systemd())
    done = install_units(application, ports, unit_dir=str(tmp_path / "units"))
    assert TIMER not in done.record["written"]
    assert [text for text in bench.notes if text.startswith("no timer for drills")]


def test_the_examples_of_the_guide_are_accepted():
    guide = (Path(__file__).resolve().parents[3] / "docs/drills.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    assert examples
    for example in examples:
        resolve_application(yaml.safe_load(example)["tradekeep_profile"])


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"rto_seconds": 0}, "drill.rto_seconds"),
        ({"scratch": "drills"}, "drill.scratch"),
        ({"calendar": "now and then"}, "drill.calendar"),
        ({"maximum_bytes": "10G"}, "drill.maximum_bytes"),
        ({"rto": 1}, "drill.rto"),
    ],
)
def test_wrong_settings_are_named(settings, key):
    with pytest.raises(ConfigurationError) as caught:
        units(settings)
    assert caught.value.path == key


def test_the_settings_survive_the_configuration_file():
    settings = {"maximum_bytes": 1 << 30, "rto_seconds": 60, "scratch": "/srv/drills"}
    application = resolve_application({"extends": "kalshi", "name": "kalshi", "drill": settings})
    again = parse_configuration(render_configuration(application), path="x")
    assert again.profile.drill == application.profile.drill
    assert again.profile.drill.rpo_seconds == 86400


def test_the_command_answers_with_the_record_and_its_status(bench):
    bench.database().close()
    bench.backup()
    install_configuration(bench.application)

    def run(*words):
        out = io.StringIO()
        config_dir = str(bench.application.config_dir)
        status = cli.main(["--json", *words], config_dir=config_dir, stdout=out, stderr=io.StringIO())
        return status, json.loads(out.getvalue())

    status, answer = run("drill")
    assert (status, answer["command"], answer["record"]["verdict"]) == (0, "drill", "passed")
    (next(bench.backups.glob("*.tar.gz"))).write_bytes(b"nothing")
    status, answer = run("drill")
    assert (status, answer["record"]["verdict"]) == (1, "failed")
    status, answer = run("drill", "--log")
    assert [item["verdict"] for item in answer["record"]["drills"]] == ["failed", "passed"]
