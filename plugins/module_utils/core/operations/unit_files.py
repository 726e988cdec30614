# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The systemd units of one application: text only, nothing is read or written here.

Backups, prunes, verifications and drills read what the bot, or who made an archive, may have forged. Their units show
them a host on which there is nothing but this application: see ``unit_sight.Sight``. Their processes have no right of
root's but to become the application's owner: see ``_TO_BECOME_THE_OWNER``. What goes wrong in there stays in there.
Backups for which services are stopped have the unit of a recovery instead, as systemd is asked for that.

After a crash in the middle of a restore two units put things right when the machine starts. ``tradekeep-guard-APP``
comes before the bot's services, makes the data whole and, when it cannot, keeps them from starting on half of it;
``tradekeep-recover-APP`` comes after them, sees that they stay up, and ends the transaction. Two, because what comes
before a service cannot start that service: each would wait for the other. Without a transaction both are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Optional

from ..application import Application, Schedule, ServiceManager
from ..errors import ConfigurationError
from ..transaction.exchange import JOURNAL_PATH
from ..transaction.stopped import STOPPED_PATH
from .runs import FAILURES_LOG, RUNNING, RUNS
from .stopped_for_backup import stops_for_backup
from .unit_sight import (
    KEYRING,
    Sight,
    any_beneath,
    argument,
    paths_used,
    protect_home,
    sandbox_root,
    to_back_up,
    to_drill,
    to_verify,
    uses_keyring,
    whole_line,
)

HEADER = "# Managed by tradekeep for application {name}; changes will be overwritten"
_APPLICATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_CALENDAR = re.compile(r"[A-Za-z0-9 ,.:*/~_+-]+")
VERIFY_CALENDAR = "Sat 04:00"
VERIFY_JITTER = 3600
_TEMPORARY = tuple(PurePosixPath(path) for path in ("/tmp", "/var/tmp"))  # noqa: S108

# SETUID, SETGID: start the process that reads the bot's files, or an archive, as the application's owner.
# KILL: end that process, which is another account's, when its time is up.
_TO_BECOME_THE_OWNER = "CAP_SETUID CAP_SETGID CAP_KILL"
# DAC_OVERRIDE, CHOWN, FOWNER: exchange directories of several accounts, and give what is restored to its owner.
_TO_MOVE = f"CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER {_TO_BECOME_THE_OWNER}"

_LOW_PRIORITY = "Nice=10\nCPUWeight=20\nCPUSchedulingPolicy=batch\nIOWeight=20\nIOSchedulingClass=idle\n"
# The engine needs 150 MB, and more for each thread of the compressor. These are no budget but an end of what runs away:
# what a forged database or archive makes us ask for must not come out of the bot's memory.
_LIMITS = """\
LimitCORE=0
LimitNOFILE=4096
TasksMax=512
MemoryHigh=1G
MemoryMax=2G
OOMScoreAdjust=500
"""
_SUFFIXES = (".service", ".target", ".socket", ".timer", ".path", ".mount", ".scope", ".slice", ".swap", ".automount")
_TRIGGERS = (".timer", ".socket", ".path")
SUPERVISOR = "supervisor.service"
_MASKS = PurePosixPath("/etc/systemd/system")

# No User=root, which is the default: with it systemd 257 takes CAP_SETUID away from a unit that has a SystemCallFilter.
# Without it there is no HOME, in which gpg looks for the keyring.
_HARDENED = """\
Environment=HOME=/root
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
ProtectSystem=strict
ProtectHome={home}
PrivateTmp={private_tmp}
PrivateDevices=yes
PrivateMounts=yes
DevicePolicy=closed
{network}IPAddressDeny=any
KeyringMode=private
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies={families}
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged {less_calls}
{more_calls}UMask=0077
"""
_HARDENED_FOR_A_DROP_IN = """\
Environment=HOME=/root
ProtectSystem=full
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictRealtime=yes
SystemCallArchitectures=native
UMask=0077
"""
# What SystemCallFilter takes away with @privileged, and who becomes somebody else needs. The rest of that is left to
# capabilities: without CAP_CHOWN a process can still give its own file to the account that has it.
_CHANGE_ACCOUNTS = "SystemCallFilter=@setuid @chown setfsuid setfsgid capset\n"


def render_units(application: Application, runtime: Sequence[PurePosixPath] = ()) -> dict[str, str]:
    """Every unit that the application needs, by file name: recovery always, the rest as its schedules ask for.

    runtime: where the program's interpreter lies, when that is not the system's.
    """
    name = application.name
    check_name(name)
    units: dict[str, str] = dict(_recovery(application))
    for stem, schedule in named_schedules(application):
        commands = [f"backup --tier {schedule.tier.value}", "prune"]
        text = f"Backup of {name} ({schedule.tier.value})"
        units[f"{stem}.service"] = (
            _stopping_backup(application, text, commands)
            if stops_for_backup(application)
            else _job(application, text, commands, to_back_up(application), runtime)
        )
        units[f"{stem}.timer"] = timer(application, stem, schedule.calendar, schedule.jitter_seconds)
    if application.profile.schedules:
        units[missed_of(application)] = _missed(application)
        verify = f"tradekeep-verify-{name}"
        text, commands = f"Deep verification of {name}", ["verify all --deep"]
        units[f"{verify}.service"] = _job(application, text, commands, to_verify(application), runtime)
        units[f"{verify}.timer"] = timer(application, verify, VERIFY_CALENDAR, VERIFY_JITTER)
    if drills_by_timer(application):
        stem, settings = f"tradekeep-drill-{name}", application.profile.drill
        units[f"{stem}.service"] = _job(application, f"Drill of {name}", ["drill"], to_drill(application), runtime)
        units[f"{stem}.timer"] = timer(application, stem, settings.calendar, settings.jitter_seconds)
    units[f"tradekeep-failure-{name}@.service"] = _failure(application)
    return units


def check_name(name: str) -> None:
    """Refuse an application whose units could not bear its name."""
    if not _APPLICATION.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot be part of a unit's name", path="tradekeep_app")


def drill_is_locked_out(application: Application) -> bool:
    """Whether a host is to drill and cannot: it has no key to its own backups."""
    profile = application.profile
    encrypted = any(item.encrypt is not False for item in profile.schedules)
    people_alone = bool(application.encryption.recipients) and not application.uses_host_key
    locked = people_alone and encrypted and profile.drill.key_file is None
    return profile.drill.enabled and bool(profile.schedules) and locked


def drills_by_timer(application: Application) -> bool:
    """Whether there is a timer for drills."""
    profile = application.profile
    return profile.drill.enabled and bool(profile.schedules) and not drill_is_locked_out(application)


def missed_of(application: Application) -> str:
    """The unit that starts at boot what a crash cut off."""
    return f"tradekeep-missed-{application.name}.service"


def guard_of(application: Application) -> str:
    """The unit that makes the data whole before the services start."""
    return f"tradekeep-guard-{application.name}.service"


def guarded_units(application: Application) -> tuple[str, ...]:
    """The systemd units that must not start on data of an unfinished transaction.

    A timer or socket may run: what it triggers is held back. It cannot be ordered after us either, because systemd
    starts those before it starts services. Programs of the system's supervisor are held back with supervisor as a
    whole; a supervisor with a configuration elsewhere is run by a unit that the profile names.
    """
    found: list[str] = []
    for services in application.profile.services:
        if services.manager is ServiceManager.SYSTEMD:
            found.extend(held_back(unit) for unit in services.units if "*" not in unit)
        elif services.manager is ServiceManager.SUPERVISOR and of_the_system(services.supervisor_config):
            found.append(SUPERVISOR)
    return tuple(dict.fromkeys(found))


def of_the_system(supervisor_config: Optional[str]) -> bool:
    """Whether a supervisor is the one of the system, and not one that the application brings."""
    return supervisor_config is None or supervisor_config.startswith("/etc/")


def held_back(unit: str) -> str:
    """The service that a unit is or triggers."""
    stem, dot, suffix = unit.rpartition(".")
    if f".{suffix}" in _TRIGGERS:
        return f"{stem}.service"
    return unit if dot and f".{suffix}" in _SUFFIXES else f"{unit}.service"


def _recovery(application: Application) -> Iterable[tuple[str, str]]:
    name, services = application.name, guarded_units(application)
    journal = condition(application, JOURNAL_PATH)
    if services:
        yield (
            guard_of(application),
            _service(
                application,
                f"Data of {name} made whole before its services start",
                ["recover --boot"],
                # Also a start that is skipped counts against the limit, and the bot may be restarted often.
                unit=f"ConditionPathExists={journal}\nBefore={' '.join(services)}\nStartLimitIntervalSec=0\n",
                # The directory of the backups may lie on a server that is away: no reason to keep the bot down.
                mounts=[application.state_dir, application.root],
                service="TimeoutStartSec=1h\n",
                install=f"RequiredBy={' '.join(services)}\n",
            ),
        )
    conditions = [journal, condition(application, STOPPED_PATH)]
    yield (
        f"tradekeep-recover-{name}.service",
        _service(
            application,
            f"Recovery of {name} after a crash",
            ["recover"],
            unit="".join(f"ConditionPathExists=|{path}\n" for path in conditions)
            + (f"After={guard_of(application)} {' '.join(services)}\n" if services else ""),
            service="TimeoutStartSec=12h\n",
            install="WantedBy=multi-user.target\n",
            # The masks of a migration that was cut off come off again.
            also_writes=[_MASKS],
        ),
    )


def condition(application: Application, path: str) -> str:
    """A path below the records of an application, for a setting that takes the line as it is."""
    return whole_line(application.application_state_dir / path)


def named_schedules(application: Application) -> Iterable[tuple[str, Schedule]]:
    """A stem for each schedule; a second one of the same tier gets a number."""
    seen: dict[str, int] = {}
    for schedule in application.profile.schedules:
        tier = schedule.tier.value
        seen[tier] = seen.get(tier, 0) + 1
        suffix = "" if seen[tier] == 1 else f"-{seen[tier]}"
        yield f"tradekeep-backup-{application.name}-{tier}{suffix}", schedule


def head(application: Application, description: str) -> str:
    """What each unit begins with."""
    return f"{HEADER.format(name=application.name)}\n[Unit]\nDescription=tradekeep: {description}\n"


def _job(
    application: Application,
    description: str,
    commands: Sequence[str],
    sight: Sight,
    runtime: Sequence[PurePosixPath],
) -> str:
    """What a timer starts: out of the bot's way, not before a crash is dealt with, and in a sandbox."""
    mounts = [*sight.reads, *sight.writes, sandbox_root(application)]
    return (
        head(application, description)
        + f"OnFailure=tradekeep-failure-{application.name}@%n.service\n"
        + f"RequiresMountsFor={' '.join(map(argument, mounts))}\n"
        + f"After=tradekeep-recover-{application.name}.service\n"
        + f"\n[Service]\nType=oneshot\n{starts(application, commands)}TimeoutStartSec=12h\n{_LOW_PRIORITY}{_LIMITS}"
        + sight.lines(application, runtime)
        + _hardened(
            capabilities=_TO_BECOME_THE_OWNER,
            home=sight.home(application, runtime),
            families="AF_UNIX" if sight.gpg_agent else "none",
            less_calls="@resources @keyring",
            more_calls=_CHANGE_ACCOUNTS,
        )
    )


def _stopping_backup(application: Application, description: str, commands: Sequence[str]) -> str:
    """A backup that stops services and starts them again, which nobody can from within the sandbox of a job.

    Where it is killed in between, the unit of the recovery starts them.
    """
    recovery = f"tradekeep-recover-{application.name}.service"
    return _service(
        application,
        description,
        commands,
        unit=f"OnFailure={recovery}\nAfter={recovery}\n",
        service=f"TimeoutStartSec=12h\n{_LOW_PRIORITY}{_LIMITS}",
    )


def _service(
    application: Application,
    description: str,
    commands: Sequence[str],
    *,
    unit: str,
    service: str,
    install: str = "",
    mounts: Sequence[PurePosixPath] = (),
    also_writes: Sequence[PurePosixPath] = (),
) -> str:
    """A oneshot of root's that starts and stops services and moves the bot's files.

    unit, service, install: more lines of those sections. mounts: what must be mounted (default: all places).
    also_writes: where it may write beside all places.
    """
    places = [application.backup_dir, application.state_dir, application.root]
    keyring = [KEYRING] if uses_keyring(application) else []
    used = paths_used(application)
    paths = " ".join(argument(path, optional=True) for path in [*places, *also_writes, *keyring])
    loopback = _uses_supervisor(application)
    return (
        head(application, description)
        + f"OnFailure=tradekeep-failure-{application.name}@%n.service\n"
        + f"RequiresMountsFor={' '.join(argument(path) for path in mounts or places)}\n{unit}"
        + f"\n[Service]\nType=oneshot\n{starts(application, commands)}{service}LimitCORE=0\n"
        + f"ReadWritePaths={paths}\n"
        + _hardened(
            capabilities=_TO_MOVE,
            home=protect_home(application, used),
            private_tmp="no" if any_beneath(used, _TEMPORARY) else "yes",
            families="AF_UNIX AF_INET AF_INET6" if loopback else "AF_UNIX",
            less_calls="@keyring",
            more_calls=_CHANGE_ACCOUNTS,
            # supervisord may listen on a port of this machine.
            network="IPAddressAllow=localhost\n" if loopback else "PrivateNetwork=yes\n",
        )
        + (f"\n[Install]\n{install}" if install else "")
    )


def starts(application: Application, commands: Sequence[str]) -> str:
    """Each command runs only after the one before it succeeded."""
    tradekeep = f"{argument(application.bin_dir / 'tradekeep')} --config {argument(application.config_file)}"
    return "".join(f"ExecStart={tradekeep} --no-progress {command}\n" for command in commands)


def _hardened(
    *,
    capabilities: str,
    home: str,
    families: str,
    less_calls: str,
    more_calls: str = "",
    private_tmp: str = "yes",
    network: str = "PrivateNetwork=yes\n",
) -> str:
    return _HARDENED.format(
        capabilities=capabilities,
        home=home,
        private_tmp=private_tmp,
        less_calls=less_calls,
        more_calls=more_calls,
        network=network,
        families=families,
    )


def timer(application: Application, stem: str, calendar: str, jitter_seconds: int) -> str:
    """Catches up after downtime; the jitter is the same at every boot."""
    if not _CALENDAR.fullmatch(calendar):
        raise ConfigurationError(f"{calendar!r} is not a calendar expression", path="schedules", hint="systemd.time(7)")
    return (
        head(application, f"timer of {stem}")
        + f"\n[Timer]\nOnCalendar={calendar}\nPersistent=true\n"
        + f"RandomizedDelaySec={max(0, int(jitter_seconds))}s\nFixedRandomDelay=true\nAccuracySec=1s\n"
        + f"Unit={stem}.service\n\n[Install]\nWantedBy=timers.target\n"
    )


def _failure(application: Application) -> str:
    """Says in the journal which unit failed and keeps a line of it; a drop-in of the user's own tells somebody else.

    That may call any program of the system, send mail or reach the network. It reads nothing of the bot's, so that its
    unit is hardened only in what no such program needs. Neither line keeps the drop-in's commands from being run.
    """
    record = str(application.application_state_dir / FAILURES_LOG).replace("%", "%%")
    text = f"{application.name}: %i failed; run 'tradekeep --app {application.name}', or see journalctl -u %i"
    return (
        head(application, f"failure of %i ({application.name})")
        + "\n[Service]\nType=oneshot\nTimeoutStartSec=10min\nLimitCORE=0\n"
        + f'ExecStart=-/usr/bin/logger --priority daemon.err --tag tradekeep "{text}"\n'
        + 'ExecStart=-/bin/date --utc "+%%Y-%%m-%%dT%%H:%%M:%%SZ %i failed"\n'
        + f"StandardOutput=append:{record}\n{_HARDENED_FOR_A_DROP_IN}"
    )


def _missed(application: Application) -> str:
    """After a power loss: a timer knows that it has started a job, and not that the job was cut off."""
    marks = whole_line(application.application_state_dir / RUNS / f"*{RUNNING}")
    return (
        head(application, f"jobs of {application.name} that a crash cut off, started again")
        + f"ConditionPathExistsGlob={marks}\nAfter=tradekeep-recover-{application.name}.service\n"
        + f"OnFailure=tradekeep-failure-{application.name}@%n.service\n"
        + f"RequiresMountsFor={argument(application.application_state_dir)}\n"
        + f"\n[Service]\nType=oneshot\n{starts(application, ['recover --missed'])}TimeoutStartSec=10min\nLimitCORE=0\n"
        + f"ReadWritePaths={argument(application.application_state_dir, optional=True)}\n"
        + _hardened(
            capabilities=_TO_BECOME_THE_OWNER,
            home=protect_home(application, paths_used(application)),
            families="AF_UNIX",
            less_calls="@resources @keyring",
            more_calls=_CHANGE_ACCOUNTS,
        )
        + "\n[Install]\nWantedBy=multi-user.target\n"
    )


def _uses_supervisor(application: Application) -> bool:
    return any(item.manager is ServiceManager.SUPERVISOR for item in application.profile.services)
