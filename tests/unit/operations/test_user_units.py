# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Without root: timers of the account's own systemd, and what is said where it has none."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import (
    parse_configuration,
    render_configuration,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ConfigurationError,
    ExitStatus,
    ServiceError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import unit_manager
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.unit_manager import UnitManager
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.due import overdue
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prerequisites import Wanted, prepare_host
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_files import render_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.units import install_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.user_units import units_of
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed, NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.definition import application_on_host

SAM = pwd.getpwuid(65534)
"""Some account that is not root's."""
DAILY = {"tier": "daily", "calendar": "*-*-* 02:00"}
PROFILE: dict[str, Any] = {
    "name": "toy",
    "components": {"data": {"paths": ["data"], "directories": ["data"]}},
    "schedules": [DAILY],
    "retention": {"daily": 7},
    "services": [{"manager": "systemd", "units": ["toy.service", "dashboard"]}],
}


class Host(NoProgress):
    """An account's systemd: what it was asked, and what it runs. runs: whether there is one at all."""

    def __init__(self, *, runs: bool = True, lingers: bool = True) -> None:
        self.runs, self.lingers = runs, lingers
        self.programs = {"systemctl", "loginctl", "dpkg-query", "apt-get"}
        self.installed: set[str] = set()
        self.enabled: set[str] = set()
        self.ran: list[tuple[str, ...]] = []
        self.notes: list[str] = []
        self.ports = Ports(runner=self, clock=SystemClock(), progress=self)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        self.notes.append(text)

    def find(self, program: str) -> Optional[str]:
        return program if program in self.programs else None

    def run(self, argv: Sequence[str], *, environment: Any = None, check: bool = True, **_options: Any) -> Completed:
        if argv[0] == "loginctl":
            # As it says for an account that neither lingers nor is logged in.
            return Completed(tuple(argv), int(not self.lingers), "Linger=yes\n" if self.lingers else "", "")
        if argv[0] == "dpkg-query":
            return Completed(tuple(argv), 0, "".join(f"{name} installed\n" for name in self.installed), "")
        assert tuple(argv[:2]) == ("systemctl", "--user"), argv
        assert environment == {"XDG_RUNTIME_DIR": "/run/user/sam"}
        self.ran.append(tuple(argv[2:]))
        if not self.runs:
            return Completed(tuple(argv), 1, "", "Failed to connect to bus")
        return Completed(tuple(argv), 0, self._said(argv[2], argv[3:]), "")

    def _said(self, verb: str, words: Sequence[str]) -> str:
        if verb == "reenable":
            self.enabled |= set(words)
        if verb == "disable":
            self.enabled -= set(words)
        units = [word for word in words if word.startswith("tradekeep-")]
        if verb == "show" and not units and "toy.service" in words:
            return "LoadState=not-found\n"
        return "\n".join(
            f"Id={unit}\nLoadState=loaded\nUnitFileState={'enabled' if unit in self.enabled else 'disabled'}\n"
            f"ActiveState={'active' if unit in self.enabled else 'inactive'}\nNeedDaemonReload=no\n"
            for unit in units
        )


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_manager, "session_environment", lambda _uid: {"XDG_RUNTIME_DIR": "/run/user/sam"})


@pytest.fixture
def made(tmp_path: Path) -> Any:
    def make(**changes: Any) -> Application:
        places = {name: str(tmp_path / name) for name in ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")}
        return resolve_application({**PROFILE, **changes}, become=False, user_units=True, owner=SAM.pw_name, **places)

    return make


def test_the_units_are_those_of_the_system_but_for_the_guard_and_claim_no_sandbox_of_roots(made: Any) -> None:
    application = made()
    units = units_of(application)
    assert set(units) == set(render_units(application)) - {"tradekeep-guard-toy.service"}
    for name, text in units.items():
        assert not re.search(
            r"^(User|Group|Private\w+|Protect\w+|CapabilityBoundingSet|RootDirectory|Bind\w+|ReadWritePaths|IPAddress\w+"
            r"|InaccessiblePaths|TemporaryFileSystem|DevicePolicy|RemoveIPC)=",
            text,
            re.MULTILINE,
        ), name
        assert "multi-user.target" not in text
    backup = units["tradekeep-backup-toy-daily.service"]
    program = f"ExecStart={application.bin_dir}/tradekeep --config {application.config_file} --no-progress "
    assert re.findall(r"^ExecStart=.*", backup, re.MULTILINE) == [f"{program}backup --tier daily", f"{program}prune"]
    assert "OnFailure=tradekeep-failure-toy@%n.service\n" in backup
    assert "RestrictAddressFamilies=none\n" in backup
    assert "OnCalendar=*-*-* 02:00\nPersistent=true\n" in units["tradekeep-backup-toy-daily.timer"]
    recover = units["tradekeep-recover-toy.service"]
    # What a recovery starts is the bot's, and neither ends with it nor is filtered like it.
    assert "KillMode=process\n" in recover
    assert "SystemCallFilter" not in recover
    assert "WantedBy=default.target\n" in recover


def test_the_units_verify_as_those_of_a_user(made: Any, tmp_path: Path) -> None:
    application = made()
    Path(application.bin_dir).mkdir()
    program = Path(application.bin_dir) / "tradekeep"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name, text in units_of(application).items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in units_of(application)]
    paths = [path.replace("@.", "@unit.") if "@" in path else path for path in paths]
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", *paths],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if "tradekeep-" in line] == []


def test_site_installs_them_once_in_the_place_of_the_account_and_removes_what_is_no_longer_named(
    made: Any, tmp_path: Path
) -> None:
    host, directory = Host(), tmp_path / "home/.config/systemd/user"
    place = str(directory)
    planned = install_units(made(), host.ports, unit_dir=place, dry_run=True)
    assert planned.changed
    assert not directory.exists()
    done = install_units(made(), host.ports, unit_dir=place)
    assert sorted(path.name for path in directory.iterdir()) == sorted(units_of(made())) == done.record["units"]
    assert "tradekeep-backup-toy-daily.timer" in host.enabled
    assert host.ran[-1][:3] == ("restart", "tradekeep-backup-toy-daily.timer", "tradekeep-drill-toy.timer")
    assert not Path(made().state_dir, ".sandbox").exists()
    assert f"drop-in into {place}/tradekeep-failure-toy@.service.d/" in done.record["failures"]
    assert "(journalctl --user -t tradekeep)" in done.record["failures"]
    assert not install_units(made(), host.ports, unit_dir=place).changed
    weekly = made(schedules=[{"tier": "weekly", "calendar": "Sun 03:00"}])
    replaced = install_units(weekly, host.ports, unit_dir=place)
    assert replaced.record["removed"] == ["tradekeep-backup-toy-daily.service", "tradekeep-backup-toy-daily.timer"]
    assert "tradekeep-backup-toy-daily.timer" not in host.enabled
    assert install_units(weekly, host.ports, unit_dir=place, present=False).changed
    assert list(directory.iterdir()) == []


def test_the_place_of_the_units_is_the_accounts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: SAM.pw_uid)
    host = Host()
    assert UnitManager(host, user=True).directory() == Path(SAM.pw_dir) / ".config/systemd/user"  # type: ignore[arg-type]
    assert UnitManager(host).directory() == Path("/etc/systemd/system")  # type: ignore[arg-type]


def test_without_a_systemd_of_the_account_the_way_out_is_a_line_for_cron(made: Any, tmp_path: Path) -> None:
    application, place = made(), str(tmp_path / "units")
    for dry_run in (True, False):
        with pytest.raises(ServiceError) as caught:
            install_units(application, Host(runs=False).ports, unit_dir=place, dry_run=dry_run)
        assert caught.value.exit_status is ExitStatus.FAILED
    program = f"{application.bin_dir}/tradekeep --config {application.config_file} --no-progress"
    assert f"crontab -e: 17 3 * * * {program} backup --tier daily && {program} prune" in str(caught.value)
    assert "schedules: []" in str(caught.value)
    assert not Path(place).exists()
    alone = install_units(made(schedules=[]), Host(runs=False).ports, unit_dir=place)
    assert (alone.changed, alone.record["units"]) == (False, [])
    problems = check_configuration(application, Host(runs=False).ports).record["problems"]
    assert any("has no systemd of its own" in problem for problem in problems)


def test_lingering_missing_units_and_timers_are_told_of_by_site_and_by_config_check(made: Any, tmp_path: Path) -> None:
    application, account = made(), pwd.getpwuid(os.geteuid()).pw_name
    host = Host(lingers=False)
    install_configuration(application)
    Path(application.root).mkdir()
    install_units(application, host.ports, unit_dir=str(tmp_path / "units"))
    linger = (
        f"timers run only while {account} is logged in, as lingering is off for the account: have root run "
        f"loginctl enable-linger {account}"
    )
    assert linger in host.notes
    assert any(note.startswith("toy.service: there is no such service on this host") for note in host.notes)
    assert not any(note.startswith("dashboard") for note in host.notes)
    found = check_configuration(application, host.ports).record
    assert (found["problems"], linger in found["warnings"]) == ([], True)
    assert linger not in check_configuration(application, Host().ports).record["warnings"]
    host.enabled.clear()
    stopped = check_configuration(application, host.ports).record["problems"]
    assert any("systemctl --user enable --now tradekeep-backup-toy-daily.timer" in text for text in stopped)
    os.utime(application.config_file, times=(0, 0))
    late = list(overdue(application, host.ports, host.ports.clock.now() - timedelta(days=40)))
    assert len(late) == 1
    assert "systemctl --user list-timers" in late[0]


def test_units_of_the_profile_are_those_of_the_accounts_own_systemd(made: Any) -> None:
    application = made()
    found = [(item.manager.value, item.units, item.start, item.stop, item.is_active) for item in application.services]
    assert found == [
        (
            "command",
            (unit,),
            ("systemctl", "--user", "start", unit),
            ("systemctl", "--user", "stop", unit),
            ("systemctl", "--user", "is-active", "--quiet", unit),
        )
        for unit in ("toy.service", "dashboard")
    ]
    text = render_configuration(application)
    assert parse_configuration(text, path="toy.json") == application
    with pytest.raises(ConfigurationError, match="without root, name each unit"):
        made(services=[{"manager": "systemd", "units": ["toy@*.service"]}])


def test_whoever_is_not_root_looks_after_data_of_its_own_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    places = {name: str(tmp_path / name) for name in ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")}
    options = {"profile": {**PROFILE, "owner": "root"}, "system": True, **places}
    as_root = render_configuration(application_on_host(options))
    assert "user_units" not in as_root
    monkeypatch.setattr(os, "geteuid", lambda: SAM.pw_uid)
    monkeypatch.setattr(os, "getegid", lambda: SAM.pw_gid)
    for wrong in (options, {**options, "profile": PROFILE, "owner": "root"}):
        with pytest.raises(ConfigurationError) as caught:
            application_on_host(wrong)
        assert str(caught.value) == (
            f"owner: expected {SAM.pw_name}, found 'root': without root an account looks after its own data alone "
            "(leave out the owner, or connect as root)"
        )
    for owner in ("", SAM.pw_name, str(SAM.pw_uid)):
        found = application_on_host({**options, "profile": PROFILE, "owner": owner})
        assert (found.owner, found.system, found.user_units) == (SAM.pw_name, False, True)
    # A built-in names an account that a server of its own would have.
    assert application_on_host({**options, "profile": "kalshi"}).owner == SAM.pw_name
    # Told to leave the system alone, it installs no timers either.
    assert not application_on_host({**options, "profile": PROFILE, "system": False}).has_units


def test_packages_are_named_and_never_installed(made: Any) -> None:
    host = Host()
    done = prepare_host(made(compression="zstd"), host.ports, Wanted())
    assert done.status is ExitStatus.USAGE
    assert (done.record["packages"], done.record["optional_packages"]) == ([], [])
    assert done.record["problems"] == [
        "packages: missing on the host: zstd (compression) "
        "(without root none is installed: have root run apt-get install zstd)"
    ]
    host.installed.update(("zstd", "isal"))
    host.notes.clear()
    assert prepare_host(made(), host.ports, Wanted()).record["problems"] == []
    assert host.notes == ["gnupg (encryption) is missing, and all works without; root can install it"]
