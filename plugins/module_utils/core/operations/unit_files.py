# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The systemd units of one application: text only, nothing is read or written here.

A backup's unit runs as root, because it reads files of the bot that only their owner may read. What root may do is
cut down to that: see ``_CAPABILITIES``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from ..application import Application, Schedule
from ..errors import ConfigurationError

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

_HARDENED = """\
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
ProtectSystem=strict
ProtectHome={home}
PrivateTmp={private_tmp}
PrivateDevices=yes
DevicePolicy=closed
PrivateNetwork=yes
IPAddressDeny=any
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
RestrictAddressFamilies=AF_UNIX
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
    """Every unit that the application's profile asks for, by file name; empty without schedules."""
    name = application.name
    if not _APPLICATION.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot be part of a unit's name", path="tradekeep_app")
    units: dict[str, str] = {}
    for stem, schedule in _named_schedules(application):
        commands = [f"backup --tier {schedule.tier.value}", "prune"]
        units[f"{stem}.service"] = _service(application, f"Backup of {name} ({schedule.tier.value})", commands)
        units[f"{stem}.timer"] = _timer(application, stem, schedule.calendar, schedule.jitter_seconds)
    if units:
        verify = f"tradekeep-verify-{name}"
        units[f"{verify}.service"] = _service(application, f"Deep verification of {name}", ["verify all --deep"])
        units[f"{verify}.timer"] = _timer(application, verify, _VERIFY_CALENDAR, _VERIFY_JITTER)
        units[f"tradekeep-failure-{name}@.service"] = _failure(application)
    return units


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


def _service(application: Application, description: str, commands: Sequence[str]) -> str:
    """A oneshot: each command runs only after the one before it succeeded."""
    tradekeep = f"{_argument(application.bin_dir / 'tradekeep')} --config {_argument(application.config_file)}"
    starts = "".join(f"ExecStart={tradekeep} --no-progress {command}\n" for command in commands)
    writable = [application.backup_dir, application.state_dir, application.root]
    if _uses_keyring(application):
        writable.append(PurePosixPath("/root/.gnupg"))
    paths = " ".join(_argument(path, optional=True) for path in writable)
    return (
        _head(application, description)
        + f"OnFailure=tradekeep-failure-{application.name}@%n.service\n"
        + f"RequiresMountsFor={' '.join(_argument(path) for path in writable[:3])}\n"
        + f"\n[Service]\nType=oneshot\nUser=root\n{starts}"
        + "TimeoutStartSec=12h\nNice=10\nCPUWeight=20\nIOWeight=20\nIOSchedulingClass=idle\n"
        + f"ReadWritePaths={paths}\n"
        + _HARDENED.format(
            capabilities=_CAPABILITIES,
            home=_protect_home(application),
            private_tmp="no" if _any_beneath(_paths_used(application), _TEMPORARY) else "yes",
            more_calls="SystemCallFilter=@chown\n",
        )
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
        + _HARDENED.format(capabilities="", home="yes", private_tmp="yes", more_calls="SystemCallFilter=~@resources\n")
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


def _protect_home(application: Application) -> str:
    needs_home = _uses_keyring(application) or _any_beneath(_paths_used(application), _HIDDEN_HOMES)
    return "read-only" if needs_home else "yes"


def _any_beneath(paths: Iterable[PurePosixPath], tops: Sequence[PurePosixPath]) -> bool:
    return any(top == path or top in path.parents for path in paths for top in tops)
