# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the site playbook leaves on a fresh server, seen from outside over ssh."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

ROOT = "/opt/trading_system/user_data"
ACCOUNT = "trading_user"
TIERS = ("daily", "weekly", "monthly")
TIMERS = [*(f"tradekeep-backup-kalshi-{tier}" for tier in TIERS), "tradekeep-verify-kalshi"]

PRIVATE = (
    "credentials",
    "credentials/kalshi",
    "credentials/kalshi/demo",
    "credentials/kalshi/prod",
    "credentials/other_apis",
    "databases",
    "databases/accounts/kalshi/demo",
    "databases/accounts/kalshi/prod",
    "databases/trade_history",
    "databases/price_history",
)
OPEN = ("preferences", "preferences/trading", "preferences/system", "preferences/ui", "state")
DOCUMENTS = (
    "preferences/trading/trade_preferences.json",
    "preferences/trading/auto_entry_settings.json",
    "preferences/trading/auto_stop_settings.json",
    "preferences/system/system_preferences.json",
    "preferences/ui/ui_preferences.json",
    "state/account_mode.json",
)


def unit_property(host: Host, unit: str, name: str) -> str:
    """What systemd has loaded, rather than what a file says."""
    return str(host.check_output("systemctl show --value --property=%s %s", name, unit))


def test_account_exists_and_cannot_log_in(host: Host) -> None:
    user = host.user(ACCOUNT)
    assert user.exists
    assert user.group == ACCOUNT
    assert user.shell.endswith(("nologin", "false"))


@pytest.mark.parametrize(("path", "mode"), [*((p, 0o700) for p in PRIVATE), *((p, 0o755) for p in OPEN)])
def test_directory_has_owner_and_mode(host: Host, path: str, mode: int) -> None:
    directory = host.file(f"{ROOT}/{path}")
    assert directory.is_directory
    assert (directory.user, directory.group, directory.mode) == (ACCOUNT, ACCOUNT, mode)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_document_is_there_for_the_bot(host: Host, path: str) -> None:
    document = host.file(f"{ROOT}/{path}")
    assert (document.user, document.group, document.mode) == (ACCOUNT, ACCOUNT, 0o644)
    assert isinstance(json.loads(document.content_string), dict)


def test_bot_reads_and_writes_its_tree(host: Host) -> None:
    probe = f"{ROOT}/databases/trade_history/probe"
    host.run_expect(
        [0], f"runuser -u {ACCOUNT} -- sh -c 'cat {ROOT}/state/account_mode.json && touch {probe} && rm {probe}'"
    )


def test_others_do_not_reach_secrets(host: Host) -> None:
    assert host.check_output(f"find {ROOT}/credentials {ROOT}/databases -perm /077") == ""
    host.run_expect([1, 2], f"runuser -u nobody -- ls {ROOT}/credentials")


def test_command_is_installed_for_root_to_change_only(host: Host) -> None:
    command = host.file("/usr/local/bin/tradekeep")
    assert (command.user, command.group, command.mode) == ("root", "root", 0o755)
    # All that is not there is the bot; where supervisor is installed, its configuration comes with the bot too.
    *found, last = host.run_expect([1], "tradekeep config check").stdout.splitlines()
    assert any("trading_system.service: there is no such service on this host" in line for line in found)
    assert all("no such service" in line or "supervisord.conf: does not exist" in line for line in found)
    assert last.startswith("/etc/tradekeep/kalshi.json: ")


def test_configuration_belongs_to_root(host: Host) -> None:
    configuration = host.file("/etc/tradekeep/kalshi.json")
    assert configuration.user == "root"
    assert not configuration.mode & 0o022
    assert json.loads(configuration.content_string)["version"] == 1


def test_passphrase_is_only_in_its_file(host: Host) -> None:
    passphrase = host.file("/etc/recovery/passphrase").content_string.strip()
    found = host.run("grep -rlF -- %s /etc/tradekeep /etc/systemd/system /var/lib/tradekeep /usr/local/bin", passphrase)
    assert found.stdout == ""


def test_command_answers_with_one_json_object(host: Host) -> None:
    assert isinstance(json.loads(host.check_output("tradekeep --json list")), dict)


def test_site_makes_no_backup_and_nobody_else_sees_them(host: Host) -> None:
    directory = host.file("/opt/backups")
    assert (directory.user, directory.mode) == ("root", 0o700)
    assert directory.listdir() == []


@pytest.mark.parametrize("timer", TIMERS)
def test_timer_runs_and_catches_up(host: Host, timer: str) -> None:
    unit = host.service(f"{timer}.timer")
    assert unit.is_enabled
    assert unit.is_running
    assert unit_property(host, f"{timer}.timer", "Persistent") == "yes"
    assert unit_property(host, f"{timer}.timer", "NextElapseUSecRealtime")


@pytest.mark.parametrize(
    ("tier", "calendar"),
    [("daily", "*-*-* 02:00:00"), ("weekly", "Sun *-*-* 03:00:00"), ("monthly", "*-*-01 04:00:00")],
)
def test_timer_has_the_profiles_time(host: Host, tier: str, calendar: str) -> None:
    assert f"OnCalendar={calendar} ;" in unit_property(host, f"tradekeep-backup-kalshi-{tier}.timer", "TimersCalendar")


@pytest.mark.parametrize("service", TIMERS)
def test_service_is_modest_and_its_failure_is_told(host: Host, service: str) -> None:
    unit = f"{service}.service"
    assert unit_property(host, unit, "OnFailure")
    assert int(unit_property(host, unit, "Nice")) > 0
    assert unit_property(host, unit, "IOSchedulingClass") in ("3", "idle")


@pytest.mark.parametrize("service", TIMERS)
def test_service_is_hardened(host: Host, service: str) -> None:
    # The threshold counts tenths.
    host.run_expect([0], f"systemd-analyze security --no-pager --threshold=12 {service}.service")
    host.run_expect([0], f"systemd-analyze verify {service}.service {service}.timer")


def test_drills_have_a_timer_as_the_host_can_read_its_backups(host: Host) -> None:
    """With the passphrase, or with a key of its own that nobody but root sees."""
    with_key = host.ansible.get_variables().get("backup_passphrase_file", "") == ""
    # Where there is no such key find fails, and says what is asserted.
    keys = host.check_output("find /var/lib/tradekeep/.host-keys -mindepth 1 -printf '%f %u %m\n' 2>&1 || true")
    shown = {"kalshi root 700", "public.asc root 600", "secret.asc root 600"}
    assert (set(keys.splitlines()) == shown) if with_key else ("No such file" in keys)
    test_timer_runs_and_catches_up(host, "tradekeep-drill-kalshi")
    test_service_is_modest_and_its_failure_is_told(host, "tradekeep-drill-kalshi")
    test_service_is_hardened(host, "tradekeep-drill-kalshi")


def test_nothing_has_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --no-legend --plain") == ""


def test_drift_is_found_and_mended(host: Host) -> None:
    host.run_expect([0], "tradekeep tree")
    host.check_output(
        f"chmod 0755 {ROOT}/credentials && rmdir {ROOT}/databases/price_history && chown root {ROOT}/state"
    )
    host.run_expect([1], "tradekeep tree")
    assert host.file(f"{ROOT}/credentials").mode == 0o755, "a look must not mend"
    host.run_expect([0], "tradekeep tree --fix")
    assert host.file(f"{ROOT}/credentials").mode == 0o700
    assert host.file(f"{ROOT}/databases/price_history").user == ACCOUNT
    assert host.file(f"{ROOT}/state").user == ACCOUNT
    host.run_expect([0], "tradekeep tree")


def test_dry_run_writes_nothing(host: Host) -> None:
    listing = f"find {ROOT} /opt/backups /var/lib/tradekeep /etc/tradekeep -printf '%p %s %m %u %T@ %C@\\n' | sort"
    before = host.check_output(listing)
    host.run_expect([0], "tradekeep backup --dry-run")
    assert host.check_output(listing) == before
