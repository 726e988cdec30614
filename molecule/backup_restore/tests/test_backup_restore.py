# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Backups of a bot that never stops writing, and the way back from them, on real servers."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from trading_server import BACKUPS, FILLS, KEYS, ROOT, Server, eventually

TIERS = ("daily", "weekly", "monthly")


def unit_property(server: Server, unit: str, name: str) -> str:
    return server.run(f"systemctl show --value --property={name} {unit}")


@pytest.mark.parametrize("tier", TIERS)
def test_timer_catches_up_on_a_missed_backup(server: Server, tier: str) -> None:
    """The server was off when the backup was due: Persistent=true makes it as soon as the timer is back."""
    unit = f"tradekeep-backup-kalshi-{tier}"
    before = server.archives()
    server.run(f"systemctl stop {unit}.timer")
    server.run(f"mkdir -p /run/systemd/system/{unit}.timer.d")
    # The jitter is the one thing that the test does not wait for.
    server.run(f"printf '[Timer]\\nRandomizedDelaySec=0\\n' > /run/systemd/system/{unit}.timer.d/test.conf")
    server.run("systemctl daemon-reload")
    server.run(f"touch --date='40 days ago' /var/lib/systemd/timers/stamp-{unit}.timer")
    server.run(f"systemctl start {unit}.timer")

    assert eventually(lambda: bool(server.archives() - before), seconds=60), server.run(f"journalctl -u {unit} -n 20")
    assert eventually(lambda: unit_property(server, f"{unit}.service", "ActiveState") == "inactive", seconds=60)
    assert unit_property(server, f"{unit}.service", "Result") == "success"
    (made,) = server.archives() - before
    assert made.endswith(".gpg")
    assert json.loads(server.host.file(f"{BACKUPS}/{made}.json").content_string)["tier"] == tier
    assert server.trading()


def test_backup_that_fails_is_told(server: Server) -> None:
    """A required database is missing: no backup, a failed unit, and the unit that tells of it has run."""
    positions = FILLS.replace("fills.db", "positions.db")
    server.run(f"mv {positions} {positions}.away")
    before = server.archives()
    try:
        result = server.host.run("systemctl start tradekeep-backup-kalshi-daily.service")
    finally:
        server.run(f"mv {positions}.away {positions}")
    assert result.rc != 0
    assert server.archives() == before
    assert server.leftovers() == ""
    assert "positions.db" in server.run("journalctl --no-pager -u tradekeep-backup-kalshi-daily.service -n 20")
    for unit in unit_property(server, "tradekeep-backup-kalshi-daily.service", "OnFailure").split():
        assert unit_property(server, unit, "InvocationID"), f"{unit} never ran"
    server.run("systemctl reset-failed")
    server.run("systemctl start tradekeep-backup-kalshi-daily.service")


def test_encrypted_backup_can_be_checked_and_not_be_read(server: Server) -> None:
    before = server.archives()
    server.succeed("backup", backup_encrypt=True, backup_name="sealed")
    (made,) = server.archives() - before
    assert made.endswith("_sealed.tar.gz.gpg")
    for name in (made, f"{made}.sha256", f"{made}.json"):
        assert server.host.file(f"{BACKUPS}/{name}").mode == 0o600
    server.run(f"cd {BACKUPS} && sha256sum --check --strict {made}.sha256")
    assert server.latest() == made
    assert server.host.run(f"tar -tzf {BACKUPS}/{made}").rc != 0
    assert server.host.run(f"grep -rl not-a-real-key {BACKUPS} /var/lib/tradekeep /etc/tradekeep /tmp").stdout == ""
    assert server.leftovers() == ""


def test_backup_is_an_ordinary_archive_to_gpg_and_tar(server: Server) -> None:
    committed = server.fills()
    server.back_up(name="ordinary")
    scratch = server.run("mktemp -d")
    server.run(f"{server.decrypt(server.latest())} | tar -xzf - -C {scratch}")
    restored = f"{scratch}/databases/accounts/kalshi/demo/fills.db"
    assert server.run(f"sqlite3 {restored} 'PRAGMA integrity_check'") == "ok"
    assert int(server.run(f"sqlite3 {restored} 'SELECT count(*) FROM fills'")) >= committed
    server.run(f"rm -r {scratch}")


@pytest.mark.parametrize("given", [False, True], ids=["by itself", "with a person's key"])
def test_restore_brings_every_fill_back(server: Server, recovery: dict[str, str], given: bool) -> None:
    committed = server.fills()
    server.back_up()
    damage(server)
    damaged_pid = server.bot_pid()

    server.succeed("restore", **(recovery if given else {}))
    assert "_before_restore.tar.gz.gpg" in max(name for name in server.archives() if "before_restore" in name)

    assert server.fills() >= committed
    assert server.bot_pid() not in ("", damaged_pid)
    assert server.trading()
    assert server.preference("position_size") == 1
    assert server.host.file(f"{ROOT}/credentials/kalshi/demo/kalshi.pem").mode == 0o600
    assert server.host.file(FILLS).user == "trading_user"
    assert server.run(f"find {ROOT}/credentials {ROOT}/databases -perm /077 -o ! -user trading_user") == ""
    server.host.run_expect([0], "tradekeep tree")
    server.host.run_expect([0], "tradekeep db check")
    assert server.leftovers() == ""


def damage(server: Server) -> None:
    """A bad day: fills deleted, preferences mangled, a key and a database gone, while the bot goes on."""
    server.run(f"runuser -u trading_user -- sqlite3 -cmd '.timeout 20000' {FILLS} 'DELETE FROM fills'")
    server.run(f"printf '{{' > {ROOT}/preferences/trading/trade_preferences.json")
    server.run(f"rm {ROOT}/credentials/kalshi/demo/kalshi.pem {ROOT}/databases/trade_history/trades.db*")


def test_restore_of_one_component_leaves_the_others(server: Server) -> None:
    server.back_up()
    server.write_preference("multiplier", 7)
    committed = server.fills()
    server.succeed("restore", restore_components=["preferences"])
    assert server.preference("multiplier") == 1
    assert server.fills() >= committed
    assert server.trading()


def test_restore_into_a_scratch_place_leaves_the_bot_alone(server: Server) -> None:
    server.back_up()
    pid = server.bot_pid()
    server.run("rm -rf /var/tmp/look")
    server.succeed("restore", restore_to="/var/tmp/look")
    assert server.bot_pid() == pid
    assert server.host.file("/var/tmp/look/databases/accounts/kalshi/demo/fills.db").exists
    assert (
        server.run("stat -c %a /var/tmp/look") == "700"
        or server.run("find /var/tmp/look -name '*.pem' -perm /077") == ""
    )
    server.run("rm -r /var/tmp/look")


def test_check_mode_of_restore_writes_nothing(server: Server) -> None:
    server.back_up()
    server.write_preference("multiplier", 5)
    pid = server.bot_pid()
    kept = server.archives()
    server.succeed("restore", check=True)
    assert server.bot_pid() == pid
    assert server.preference("multiplier") == 5
    assert server.archives() == kept
    assert server.leftovers() == ""
    server.write_preference("multiplier", 1)


def test_restore_of_what_is_there_changes_nothing(server: Server) -> None:
    """The second of two equal restores finds nothing to do and leaves a stopped bot stopped."""
    server.stop_bot()
    server.back_up()
    assert "changed=0" in server.succeed("restore")
    assert server.bot_pid() == ""
    server.start_bot()


@pytest.fixture
def refused_backup(server: Server) -> Any:
    """A backup whose preferences make the bot give up two seconds after it seemed to have started."""
    server.write_preference("position_size", 0)
    server.back_up(name="refused")
    server.write_preference("position_size", 1)
    return server.latest()


def test_restore_is_undone_when_the_service_does_not_stay_up(server: Server, refused_backup: str) -> None:
    committed = server.fills()
    result = server.host.run("tradekeep --json restore %s", refused_backup)
    assert result.rc == 3, result.stdout + result.stderr
    assert isinstance(json.loads(result.stdout), dict)
    assert ("trading_system" if server.manager == "systemd" else "bot") in result.stdout + result.stderr
    assert server.preference("position_size") == 1
    assert server.fills() >= committed
    assert server.trading()
    server.host.run_expect([0], "tradekeep db check")
    server.host.run_expect([0], "tradekeep recover")
    assert server.leftovers() == ""


def test_playbook_says_that_a_restore_was_undone(server: Server, refused_backup: str) -> None:
    done = server.playbook("restore", restore_backup=refused_backup)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert server.preference("position_size") == 1
    assert server.trading()


def served_by(server: Server, services: Any) -> str:
    """The same application with other services; the file's name."""
    document = json.loads(server.host.file("/etc/tradekeep/kalshi.json").content_string)
    document["profile"]["services"] = services
    server.run(f"umask 077; echo {shlex.quote(json.dumps(document))} > /root/served.json")
    return "/root/served.json"


def test_a_bot_that_the_profile_does_not_stop_is_found_by_what_it_writes(server: Server) -> None:
    """Whether the profile names nothing, or a unit whose name is mistyped."""
    server.back_up()
    server.write_preference("multiplier", 9)
    pid = server.bot_pid()
    for services in ([], [{"manager": "systemd", "units": ["trading_sytem.service"]}]):
        refused = server.host.run("tradekeep --config %s restore latest", served_by(server, services))
        assert refused.rc == 3, refused.stderr
        assert f"(process {pid}) writes {ROOT}/" in refused.stderr
    checked = server.host.run("tradekeep --config /root/served.json config check")
    assert checked.rc == 1 and "trading_sytem.service: there is no such service" in checked.stdout + checked.stderr
    assert (server.bot_pid(), server.preference("multiplier")) == (pid, 9)
    server.write_preference("multiplier", 1)
    assert server.trading()


def test_a_bot_that_commands_start_outlives_the_restore(server: Server) -> None:
    """By a script, as from a crontab: the process belongs to nobody's unit, and a restore starts it again."""
    server.back_up()
    server.write_preference("multiplier", 9)
    server.stop_bot()
    script = (
        "#!/bin/sh\n"
        "case $1 in\n"
        "start) setsid /opt/trading_system/bot.py > /dev/null 2>&1 < /dev/null & ;;\n"
        "stop) pkill -u trading_user -f /opt/trading_system/bot.py ;;\n"
        "status) pgrep -u trading_user -f /opt/trading_system/bot.py > /dev/null ;;\n"
        "esac\n"
    )
    server.run(f"printf {shlex.quote(script)} > /opt/trading_system/run.sh; chmod 755 /opt/trading_system/run.sh")
    run = {name: ["/opt/trading_system/run.sh", word] for name, word in (("start", "start"), ("stop", "stop"))}
    commands = {"manager": "command", "units": ["bot"], **run, "is_active": ["/opt/trading_system/run.sh", "status"]}
    configuration = served_by(server, [{**commands, "stay_up_seconds": 1}])
    server.run("runuser -u trading_user -- /opt/trading_system/run.sh start")
    assert eventually(lambda: bool(server.bot_pid()), seconds=15)
    pid = server.bot_pid()
    server.run(f"tradekeep --config {configuration} restore latest")
    assert server.bot_pid() not in ("", pid)
    assert server.preference("multiplier") == 1
    assert server.trading()
    server.run("runuser -u trading_user -- /opt/trading_system/run.sh stop")
    assert eventually(lambda: not server.bot_pid(), seconds=15)
    server.start_bot()


def test_wrong_key_leaves_everything_as_it_is(server: Server) -> None:
    server.back_up(name="locked")
    pid = server.bot_pid()
    server.run("umask 077; echo wrong > /run/wrong-passphrase")
    wrong = "--passphrase-file /run/wrong-passphrase" if server.has_passphrase else f"--key {KEYS}/public.asc"
    result = server.host.run(f"tradekeep restore {wrong} latest")
    assert result.rc in (2, 3), result.stderr
    assert "Traceback" not in result.stderr
    assert server.bot_pid() == pid
    assert server.leftovers() == ""


def test_every_backup_stands_up_to_deep_verification(server: Server) -> None:
    checked = json.loads(server.run("tradekeep --json verify all --deep"))["record"]["backups"]
    assert {item["level"] for item in checked} == {"deep"}


def test_a_drop_in_on_the_unit_for_failures_reaches_the_network(server: Server) -> None:
    place = "/etc/systemd/system/tradekeep-failure-kalshi@.service.d"
    tells = '[Service]\\nExecStart=/bin/bash -c "echo %%i >/dev/tcp/127.0.0.1/5999"\\n'
    listens = (
        "import socket; s = socket.create_server(('127.0.0.1', 5999)); "
        "open('/run/told', 'wb').write(s.accept()[0].recv(100))"
    )
    server.run(f"install -d {place} && printf '{tells}' > {place}/tell.conf && systemctl daemon-reload")
    server.run(f'systemd-run --quiet --collect python3 -c "{listens}"')
    try:
        start = "systemctl start tradekeep-failure-kalshi@a_trial.service"
        assert eventually(lambda: server.host.run(start).rc == 0, seconds=10)
        assert server.run("cat /run/told").strip() == "a_trial"
    finally:
        server.run(f"rm -rf {place} /var/lib/tradekeep/kalshi/failures.log && systemctl daemon-reload")
