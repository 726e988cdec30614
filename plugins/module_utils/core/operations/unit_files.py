# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The systemd units of one application: text only, nothing is read or written here.

A backup's unit runs as root, because it reads files of the bot that only their owner may read. What root may do is
cut down to that: see ``_CAPABILITIES``.

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

HEADER = "# Managed by tradekeep for application {name}; changes will be overwritten"
_APPLICATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_CALENDAR = re.compile(r"[A-Za-z0-9 ,.:*/~_+-]+")
_VERIFY_CALENDAR = "Sat 04:00"
_VERIFY_JITTER = 3600
_HIDDEN_HOMES = tuple(PurePosixPath(path) for path in ("/home", "/root", "/run/user"))
_TEMPORARY = tuple(PurePosixPath(path) for path in ("/tmp", "/var/tmp"))  # noqa: S108

# DAC_OVERRIDE: read every file of the bot, and write the -shm of a live WAL database (reading one needs that).
# CHOWN: SQLite gives a -wal or -shm that it creates as root to the database's owner; else the bot is locked out.
_CAPABILITIES = "CAP_DAC_OVERRIDE CAP_CHOWN"
# FOWNER: move the bot's files where the filesystem cannot exchange two names and links them instead.
_CAPABILITIES_TO_MOVE = f"{_CAPABILITIES} CAP_FOWNER"

_LOW_PRIORITY = "Nice=10\nCPUWeight=20\nIOWeight=20\nIOSchedulingClass=idle\n"
_SUFFIXES = (".service", ".target", ".socket", ".timer", ".path", ".mount", ".scope", ".slice", ".swap", ".automount")
_TRIGGERS = (".timer", ".socket", ".path")
SUPERVISOR = "supervisor.service"
_MASKS = PurePosixPath("/etc/systemd/system")

_HARDENED = """\
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
ProtectSystem=strict
ProtectHome={home}
PrivateTmp={private_tmp}
PrivateDevices=yes
DevicePolicy=closed
{network}IPAddressDeny=any
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
RestrictAddressFamilies=AF_UNIX{families}
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
{more_calls}UMask=0077
"""


def render_units(application: Application) -> dict[str, str]:
    """Every unit that the application needs, by file name: recovery always, the rest as its schedules ask for."""
    name = application.name
    if not _APPLICATION.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot be part of a unit's name", path="tradekeep_app")
    units: dict[str, str] = dict(_recovery(application))
    for stem, schedule in _named_schedules(application):
        commands = [f"backup --tier {schedule.tier.value}", "prune"]
        units[f"{stem}.service"] = _job(application, f"Backup of {name} ({schedule.tier.value})", commands)
        units[f"{stem}.timer"] = _timer(application, stem, schedule.calendar, schedule.jitter_seconds)
    if application.profile.schedules:
        verify = f"tradekeep-verify-{name}"
        units[f"{verify}.service"] = _job(application, f"Deep verification of {name}", ["verify all --deep"])
        units[f"{verify}.timer"] = _timer(application, verify, _VERIFY_CALENDAR, _VERIFY_JITTER)
    if _drills_by_timer(application):
        stem, settings = f"tradekeep-drill-{name}", application.profile.drill
        units[f"{stem}.service"] = _drill(application)
        units[f"{stem}.timer"] = _timer(application, stem, settings.calendar, settings.jitter_seconds)
    units[f"tradekeep-failure-{name}@.service"] = _failure(application)
    return units


def drill_is_locked_out(application: Application) -> bool:
    """Whether a host is to drill and cannot: it has no key to its own backups, as is best."""
    profile = application.profile
    encrypted = any(item.encrypt for item in profile.schedules) or any(
        item.require_encryption and item.backup for item in profile.components
    )
    locked = bool(application.encryption.recipients) and encrypted and profile.drill.key_file is None
    return profile.drill.enabled and bool(profile.schedules) and locked


def _drills_by_timer(application: Application) -> bool:
    profile = application.profile
    return profile.drill.enabled and bool(profile.schedules) and not drill_is_locked_out(application)


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
    journal = _condition(application, JOURNAL_PATH)
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
                moves=True,
            ),
        )
    conditions = [journal, _condition(application, STOPPED_PATH)]
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
            moves=True,
        ),
    )


def _condition(application: Application, path: str) -> str:
    """A path of the state directory for a condition, which takes the line as it is."""
    text = str(application.application_state_dir / path)
    _argument(PurePosixPath(text))
    return text.replace("%", "%%")


def _named_schedules(application: Application) -> Iterable[tuple[str, Schedule]]:
    """A stem for each schedule; a second one of the same tier gets a number."""
    seen: dict[str, int] = {}
    for schedule in application.profile.schedules:
        tier = schedule.tier.value
        seen[tier] = seen.get(tier, 0) + 1
        suffix = "" if seen[tier] == 1 else f"-{seen[tier]}"
        yield f"tradekeep-backup-{application.name}-{tier}{suffix}", schedule


def _head(application: Application, description: str) -> str:
    return f"{HEADER.format(name=application.name)}\n[Unit]\nDescription=tradekeep: {description}\n"


def _job(application: Application, description: str, commands: Sequence[str]) -> str:
    """What a timer starts: out of the bot's way, and not before a crash is dealt with."""
    return _service(
        application,
        description,
        commands,
        unit=f"After=tradekeep-recover-{application.name}.service\n",
        service=f"TimeoutStartSec=12h\n{_LOW_PRIORITY}",
    )


def _drill(application: Application) -> str:
    """Restores aside. The live data can be written to only because reading a live WAL database writes its index."""
    settings = application.profile.drill
    scratch = [] if settings.scratch is None else [PurePosixPath(settings.scratch)]
    key = [] if settings.key_file is None else [PurePosixPath(settings.key_file)]
    return _service(
        application,
        f"Drill of {application.name}",
        ["drill"],
        unit=f"After=tradekeep-recover-{application.name}.service\n",
        mounts=[application.backup_dir, application.state_dir, application.root, *scratch],
        writes=[application.state_dir, application.root, *scratch],
        reads=key,
        service=f"TimeoutStartSec=12h\n{_LOW_PRIORITY}",
    )


def _service(
    application: Application,
    description: str,
    commands: Sequence[str],
    *,
    unit: str,
    service: str,
    mounts: Sequence[PurePosixPath] = (),
    writes: Optional[Sequence[PurePosixPath]] = None,
    also_writes: Sequence[PurePosixPath] = (),
    reads: Sequence[PurePosixPath] = (),
    install: str = "",
    moves: bool = False,
) -> str:
    """A oneshot: each command runs only after the one before it succeeded.

    unit, service, install: more lines of those sections. mounts: what must be mounted (default: all places). writes:
    where it may write (default: all places). also_writes: where besides. reads: what it needs besides. moves: whether
    it stops and starts services and moves the bot's files.
    """
    tradekeep = f"{_argument(application.bin_dir / 'tradekeep')} --config {_argument(application.config_file)}"
    starts = "".join(f"ExecStart={tradekeep} --no-progress {command}\n" for command in commands)
    places = [application.backup_dir, application.state_dir, application.root]
    keyring = [PurePosixPath("/root/.gnupg")] if _uses_keyring(application) and writes is None else []
    writable = [*(places if writes is None else writes), *also_writes, *keyring]
    used = [*_paths_used(application), *(writes or ()), *reads]
    paths = " ".join(_argument(path, optional=True) for path in writable)
    return (
        _head(application, description)
        + f"OnFailure=tradekeep-failure-{application.name}@%n.service\n"
        + f"RequiresMountsFor={' '.join(_argument(path) for path in mounts or places)}\n{unit}"
        + f"\n[Service]\nType=oneshot\nUser=root\n{starts}{service}"
        + f"ReadWritePaths={paths}\n"
        + _hardened(
            capabilities=_CAPABILITIES_TO_MOVE if moves else _CAPABILITIES,
            home=_protect_home(application, used),
            private_tmp="no" if _any_beneath(used, _TEMPORARY) else "yes",
            more_calls="SystemCallFilter=@chown\n",
            loopback=moves and _uses_supervisor(application),
        )
        + (f"\n[Install]\n{install}" if install else "")
    )


def _hardened(*, capabilities: str, home: str, private_tmp: str, more_calls: str, loopback: bool = False) -> str:
    """loopback: supervisord may listen on a port of this machine."""
    return _HARDENED.format(
        capabilities=capabilities,
        home=home,
        private_tmp=private_tmp,
        more_calls=more_calls,
        network="IPAddressAllow=localhost\n" if loopback else "PrivateNetwork=yes\n",
        families=" AF_INET AF_INET6" if loopback else "",
    )


def _timer(application: Application, stem: str, calendar: str, jitter_seconds: int) -> str:
    """Catches up after downtime; the jitter is the same at every boot."""
    if not _CALENDAR.fullmatch(calendar):
        raise ConfigurationError(f"{calendar!r} is not a calendar expression", path="schedules", hint="systemd.time(7)")
    return (
        _head(application, f"timer of {stem}")
        + f"\n[Timer]\nOnCalendar={calendar}\nPersistent=true\n"
        + f"RandomizedDelaySec={max(0, int(jitter_seconds))}s\nFixedRandomDelay=true\nAccuracySec=1s\n"
        + f"Unit={stem}.service\n\n[Install]\nWantedBy=timers.target\n"
    )


def _failure(application: Application) -> str:
    """Says in the journal which unit failed and keeps a line of it; alerts will hook in here."""
    record = str(application.application_state_dir / "failures.log").replace("%", "%%")
    text = f"{application.name}: %i failed, see journalctl -u %i"
    return (
        _head(application, f"failure of %i ({application.name})")
        + "\n[Service]\nType=oneshot\nUser=root\n"
        + f'ExecStart=/usr/bin/logger --priority daemon.err --tag tradekeep "{text}"\n'
        + 'ExecStart=/bin/date --utc "+%%Y-%%m-%%dT%%H:%%M:%%SZ %i failed"\n'
        + f"StandardOutput=append:{record}\n"
        + _hardened(capabilities="", home="yes", private_tmp="yes", more_calls="SystemCallFilter=~@resources\n")
    )


def _argument(path: PurePosixPath, *, optional: bool = False) -> str:
    """A path as a word of a unit file. ``optional``: it need not exist (ReadWritePaths)."""
    text = str(path)
    if any(not c.isprintable() for c in text):
        raise ConfigurationError("a path in a unit has control characters", path=text)
    word = ("-" if optional else "") + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{word}"' if re.search(r"[\s\"'\\;$]", word) else word


def _paths_used(application: Application) -> list[PurePosixPath]:
    used = [application.root, application.backup_dir, application.state_dir, application.config_dir]
    used += [application.bin_dir]
    used += [PurePosixPath(item) for item in application.encryption.recipients if item.startswith("/")]
    if application.encryption.passphrase_file:
        used.append(PurePosixPath(application.encryption.passphrase_file))
    return used


def _uses_keyring(application: Application) -> bool:
    """Whether recipients are fingerprints, to be found in root's own keyring."""
    return any(not item.startswith("/") for item in application.encryption.recipients)


def _uses_supervisor(application: Application) -> bool:
    return any(item.manager is ServiceManager.SUPERVISOR for item in application.profile.services)


def _protect_home(application: Application, used: Iterable[PurePosixPath]) -> str:
    needs_home = _uses_keyring(application) or _any_beneath(used, _HIDDEN_HOMES)
    return "read-only" if needs_home else "yes"


def _any_beneath(paths: Iterable[PurePosixPath], tops: Sequence[PurePosixPath]) -> bool:
    return any(top == path or top in path.parents for path in paths for top in tops)
