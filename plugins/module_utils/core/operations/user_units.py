# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The units of an application without root, for the systemd of its account: text only.

They are the timers of ``unit_files.py`` with another sandbox. Without root there is no other account to become and no
part of the host to hide: what is left are the filters of system calls, which keep a job from the network and from more
rights. The files of the account are all in sight of its jobs, as they are of the bot.

No unit guards the start of the bot: its own units are the person's, and are not ordered after ours. Recovery after a
crash comes when the account's systemd starts, stops what runs by then, and makes the data whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from ..application import Application, Tier
from ..host.account import current_account
from ..host.unit_manager import UnitManager, lingers
from ..ports import Ports
from ..transaction.exchange import JOURNAL_PATH
from ..transaction.stopped import STOPPED_PATH
from . import unit_files as system
from .runs import FAILURES_LOG, RUNNING, RUNS
from .stopped_for_backup import stops_for_backup

# Without root a unit that asks for more of systemd.exec(5) either fails or runs without it, which would be a claim.
_HARDENED = """\
LimitCORE=0
LimitNOFILE=4096
TasksMax=512
MemoryHigh=1G
MemoryMax=2G
OOMScoreAdjust=500
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies={families}
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources @keyring
SystemCallFilter=@setuid @chown setfsuid setfsgid capset
UMask=0077
"""
_LOW_PRIORITY = "Nice=10\nCPUSchedulingPolicy=batch\nIOSchedulingClass=idle\n"


def units_of(application: Application, runtime: Sequence[PurePosixPath] = ()) -> dict[str, str]:
    """Every unit that the application needs, by file name, for the systemd that is to run them.

    runtime: see ``render_units``.
    """
    return _render(application) if application.user_units else system.render_units(application, runtime)


def manager_of(application: Application, ports: Ports) -> UnitManager:
    """The systemd that runs them."""
    return UnitManager(ports.runner, user=application.user_units)


def journal_of(application: Application, unit: str) -> str:
    """The command that shows what a unit said."""
    return f"journalctl {'--user ' if application.user_units else ''}-u {unit}"


def linger_warning(application: Application, ports: Ports) -> Iterator[str]:
    """What it means that nobody is logged in, where the account's systemd then stops."""
    account = current_account().name
    if application.user_units and application.profile.schedules and lingers(ports.runner, account) is False:
        yield (
            f"timers run only while {account} is logged in, as lingering is off for the account: have root run "
            f"loginctl enable-linger {account}"
        )


def by_cron(application: Application) -> str:
    """What to do where there is no systemd of the account's: a line that cron(8) runs each night."""
    program = f"{application.bin_dir}/tradekeep --config {application.config_file} --no-progress"
    line = f"17 3 * * * {program} backup --tier {Tier.DAILY.value} && {program} prune"
    return f"or set schedules: [] in the profile, and add a line by crontab -e: {line}"


def _render(application: Application) -> dict[str, str]:
    name = application.name
    system.check_name(name)
    journal, stopped = (system.condition(application, path) for path in (JOURNAL_PATH, STOPPED_PATH))
    units = {
        f"tradekeep-recover-{name}.service": _at_boot(
            application,
            f"Recovery of {name} after a crash",
            "recover",
            f"ConditionPathExists=|{journal}\nConditionPathExists=|{stopped}\n",
        )
    }
    for stem, schedule in system.named_schedules(application):
        commands = [f"backup --tier {schedule.tier.value}", "prune"]
        units[f"{stem}.service"] = _job(
            application, f"Backup of {name} ({schedule.tier.value})", commands, backs_up=True
        )
        units[f"{stem}.timer"] = system.timer(application, stem, schedule.calendar, schedule.jitter_seconds)
    if application.profile.schedules:
        marks = system.condition(application, f"{RUNS}/*{RUNNING}")
        units[system.missed_of(application)] = _at_boot(
            application,
            f"jobs of {name} that a crash cut off, started again",
            "recover --missed",
            f"ConditionPathExistsGlob={marks}\nAfter=tradekeep-recover-{name}.service\n",
        )
        stem = f"tradekeep-verify-{name}"
        units[f"{stem}.service"] = _job(application, f"Deep verification of {name}", ["verify all --deep"])
        units[f"{stem}.timer"] = system.timer(application, stem, system.VERIFY_CALENDAR, system.VERIFY_JITTER)
    if system.drills_by_timer(application):
        stem, settings = f"tradekeep-drill-{name}", application.profile.drill
        units[f"{stem}.service"] = _job(application, f"Drill of {name}", ["drill"])
        units[f"{stem}.timer"] = system.timer(application, stem, settings.calendar, settings.jitter_seconds)
    units[f"tradekeep-failure-{name}@.service"] = _teller(application)
    return units


def _head(application: Application, description: str) -> str:
    return system.head(application, description) + f"OnFailure=tradekeep-failure-{application.name}@%n.service\n"


def _job(application: Application, description: str, commands: Sequence[str], *, backs_up: bool = False) -> str:
    """What a timer starts: out of the bot's way, and not before a crash is dealt with."""
    encrypts = application.encryption.configured or application.profile.drill.key_file is not None
    stops = backs_up and stops_for_backup(application)
    recovery = f"tradekeep-recover-{application.name}.service"
    return (
        _head(application, description)
        # What a backup stopped that was killed in between, the recovery starts.
        + (f"OnFailure={recovery}\n" if stops else "")
        + f"After={recovery}\n"
        + f"\n[Service]\nType=oneshot\n{system.starts(application, commands)}TimeoutStartSec=12h\n{_LOW_PRIORITY}"
        # gpg asks for its agent, and who stops services for systemd, by a socket in the account's own directories.
        + _HARDENED.format(families="AF_UNIX" if encrypts or stops else "none")
    )


def _at_boot(application: Application, description: str, command: str, conditions: str) -> str:
    """What comes when the account's systemd starts. It may start the bot, whose processes are not ended with it."""
    return (
        _head(application, description)
        + conditions
        + f"\n[Service]\nType=oneshot\n{system.starts(application, [command])}TimeoutStartSec=12h\nKillMode=process\n"
        + "\n[Install]\nWantedBy=default.target\n"
    )


def _teller(application: Application) -> str:
    """As that of the system: a line for the journal, one for the log, and what a drop-in of the person's own adds."""
    name, record = application.name, system.condition(application, FAILURES_LOG)
    text = f"{name}: %i failed; run 'tradekeep --app {name}', or see journalctl --user -u %i"
    return (
        system.head(application, f"failure of %i ({name})")
        + "\n[Service]\nType=oneshot\nTimeoutStartSec=10min\nLimitCORE=0\n"
        + f'ExecStart=-/usr/bin/logger --priority user.err --tag tradekeep "{text}"\n'
        + 'ExecStart=-/bin/date --utc "+%%Y-%%m-%%dT%%H:%%M:%%SZ %i failed"\n'
        + f"StandardOutput=append:{record}\nUMask=0077\n"
    )
