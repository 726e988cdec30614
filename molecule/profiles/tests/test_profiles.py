# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Several bots on one server, each as its profile says."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone

import pytest
from testinfra.host import Host

V6_TIMER = "tradekeep-backup-v6-daily.timer"
WEEKDAYS = "Mon..Fri *-*-* 17:00:00 America/New_York"


def show(host: Host, unit: str, name: str) -> str:
    return str(host.check_output("systemctl show --value --property=%s %s", name, unit))


def utc(said: str) -> datetime:
    """A moment as systemd prints it with TZ=UTC."""
    found = re.search(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2} UTC", said)
    assert found, said
    return datetime.strptime(found[0], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=timezone.utc)


def after_close(moment: datetime, host: Host) -> bool:
    """Whether it is 17:00 in New York on a weekday, by the host's own time zones; the jitter adds minutes."""
    local = host.check_output("TZ=America/New_York date --date=@%s '+%%u %%H:%%M'", str(int(moment.timestamp())))
    day, clock = local.split()
    return int(day) <= 5 and "17:00" <= clock <= "17:05"


def test_v6_backs_up_after_the_market_closes(host: Host) -> None:
    assert f"OnCalendar={WEEKDAYS} ;" in show(host, V6_TIMER, "TimersCalendar")
    planned = utc(host.check_output("TZ=UTC systemctl show --value -p NextElapseUSecRealtime %s", V6_TIMER))
    assert after_close(planned, host)
    assert V6_TIMER in host.check_output("systemctl list-timers")


@pytest.mark.parametrize(
    ("now", "elapse"), [("2026-07-03 12:00", "2026-07-03 21:00"), ("2026-01-09 12:00", "2026-01-09 22:00")]
)
def test_v6_follows_the_clock_of_new_york_through_the_year(host: Host, now: str, elapse: str) -> None:
    """In summer 17:00 there is 21:00 UTC, in winter 22:00."""
    said = host.check_output("TZ=UTC systemd-analyze calendar --base-time=%s %s", f"{now} UTC", WEEKDAYS)
    assert utc(said.partition("Next elapse:")[2]) == utc(f"{elapse}:00 UTC")


def test_v6_backup_holds_tables_and_environment(host: Host) -> None:
    """Delta tables are plain files; the environment file is owner-only before and after."""
    root, lake = "/opt/v6-trading", "/opt/v6-trading/data/lake/position_updates"
    for path, content in {
        f"{lake}/_delta_log/00000000000000000000.json": "{}",
        f"{lake}/part-0.parquet": "parquet",
        f"{root}/config/production.yaml": "mode: paper",
        f"{root}/.env": "ACCOUNT=1",
    }.items():
        host.check_output("umask 077 && mkdir -p $(dirname %s) && echo %s > %s", path, content, path)
    host.check_output("tradekeep --app v6 tree --fix")
    made = json.loads(host.check_output("tradekeep --app v6 --json backup --tier daily"))
    path = made["record"]["backup"]["path"]
    assert path.startswith("/opt/backups/backup_")
    look = "tradekeep --app v6 restore --to /root/look %s && cd /root/look && find . -type f -printf '%%P\\n'"
    listed = host.check_output(look, path).splitlines()
    assert {".env", "config/production.yaml", "data/lake/position_updates/part-0.parquet"} <= set(listed)
    host.check_output("rm -r %s /opt/v6-trading/.env /root/look", lake)
    host.check_output("tradekeep --app v6 restore latest")
    environment = host.file("/opt/v6-trading/.env")
    assert (environment.user, environment.mode) == ("trading", 0o600)
    assert host.file(f"{lake}/_delta_log/00000000000000000000.json").content_string == "{}\n"


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("data", 0o750),
        ("data/performance", 0o750),
        ("data/historical", 0o750),
        ("dashboard/data/backtest_results", 0o750),
        ("reports/daily_health", 0o750),
        ("logs", 0o755),
        # The bot's own: the profile states no mode for what it writes anew each time.
        ("data/portfolio.json", 0o666),
        ("data/portfolio.json.bak", 0o666),
        ("data/historical/BTC.parquet", 0o666),
        ("logs/supervisor.log", 0o666),
    ],
)
def test_crypto_bot_has_its_modes(host: Host, crypto_bot: str, path: str, mode: int) -> None:
    found = host.file(f"{crypto_bot}/{path}")
    assert (found.user, found.group, oct(found.mode)) == ("crypto_bot", "crypto_bot", oct(mode))


@pytest.fixture(scope="module")
def crypto_bot(host: Host) -> str:
    """The crypto bot's root after its bot, careless about modes, has run and the tree was mended."""
    root = "/opt/AI-crypto-bot"
    files = "data/portfolio.json data/portfolio.json.bak data/historical/BTC.parquet logs/supervisor.log"
    host.check_output(f"cd {root} && umask 0 && for name in {files}; do echo '{{}}' > $name; done && chmod 0777 data")
    drift = host.run("tradekeep --app crypto_bot tree")
    assert drift.rc == 1
    assert "logs/supervisor.log: 0666 lets other accounts write" in drift.stdout + drift.stderr
    host.check_output("tradekeep --app crypto_bot tree --fix")
    assert host.run("tradekeep --app crypto_bot tree").rc == 0
    return root


def test_a_bot_by_one_mapping(host: Host) -> None:
    """Account, tree, command and a backup that comes back, for six lines of YAML."""
    data = host.file("/srv/moon_bot/data")
    assert (data.user, data.group, data.mode) == ("moon", "moon", 0o750)
    host.check_output("runuser -u moon -- sqlite3 /srv/moon_bot/data/x.db 'CREATE TABLE t AS SELECT 7 AS n'")
    host.check_output("tradekeep --app moon_bot backup")
    host.check_output("rm /srv/moon_bot/data/x.db")
    host.check_output("tradekeep --app moon_bot restore latest")
    assert host.check_output("runuser -u moon -- sqlite3 -readonly /srv/moon_bot/data/x.db 'SELECT n FROM t'") == "7"


def backups(host: Host, name: str) -> set[str]:
    """The names of an application's backups."""
    listed = json.loads(host.check_output("tradekeep --app %s --json list", name))
    return {item["name"] for item in listed["record"]["backups"]}


def test_bots_do_not_mix(host: Host) -> None:
    """With several applications each has to be named, and each lists its own backups."""
    unnamed = host.run("tradekeep list")
    assert unnamed.rc == 2
    assert all(name in unnamed.stderr for name in ("v6", "crypto_bot", "moon_bot"))
    listed = {name: backups(host, name) for name in ("v6", "moon_bot")}
    assert all(listed.values())
    assert not listed["v6"] & listed["moon_bot"]
    assert not host.file("/etc/systemd/system/tradekeep-backup-moon_bot-daily.timer").exists
    found = host.check_output("find /opt/backups -name 'latest_backup*' -printf '%f %l,'").strip(",").split(",")
    links = dict(line.split() for line in found)
    (of_moon_bot,) = (target for name, target in links.items() if name.startswith("latest_backup_moon_bot.tar."))
    assert of_moon_bot in listed["moon_bot"]
    assert {target for name, target in links.items() if name.startswith("latest_backup.tar.")} <= listed["v6"]
    refused = host.run("tradekeep --app v6 restore /opt/backups/%s", of_moon_bot)
    assert refused.rc == 2
    assert "is of the profile moon_bot" in refused.stderr
