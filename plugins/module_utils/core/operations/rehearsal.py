# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the timers will need each night: gone through beforehand, without doing any of it.

Everything that a backup, the prune after it, a verification or a drill fails for although the configuration can be read
is decided here, so that `config check` and the playbook `site` say the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from ..application import Application
from ..archive.compression import choose_engine
from ..archive.encryption import prove_round_trip
from ..errors import ConfigurationError, ServiceError, TradekeepError
from ..host.filesystem.identity import acting_as
from ..host.fstab import require_mounted
from ..patterns import look_up
from ..ports import Ports
from .drills.scratch import scratch_base
from .leftovers import reader_account
from .retention import keeps_something
from .unit_files import drill_is_locked_out
from .unit_sight import sandbox_root
from .user_units import by_cron, manager_of, units_of

_FAILURE_PROGRAMS = (("/usr/bin/logger", "bsdutils"), ("/bin/date", "coreutils"))


def problems(application: Application, ports: Ports) -> Iterator[TradekeepError]:
    """What lets a backup, a verification or a drill of a timer fail."""
    drills = application.profile.drill.enabled and bool(application.profile.schedules)
    checks: list[Callable[[], object]] = [
        lambda: require_mounted(application.backup_dir),
        lambda: require_mounted(application.state_dir),
        lambda: require_mounted(application.root),
        lambda: choose_engine(application.profile.compression, ports.runner),
        lambda: _require_writable("state_dir", Path(application.application_state_dir)),
        lambda: _require_readable(application),
        lambda: look_up(application.profile),
    ]
    if drills and not drill_is_locked_out(application):
        checks += [lambda: scratch_base(application), lambda: _require_drill_key(application, ports)]
    for check in checks:
        try:
            check()
        except TradekeepError as error:
            yield error
    if application.has_units and application.profile.schedules:
        yield from _timer_problems(application, ports)


def warnings(application: Application) -> Iterator[str]:
    """What goes well tonight and not for ever."""
    profile = application.profile
    if profile.schedules and not keeps_something(profile.retention):
        yield str(
            ConfigurationError(
                "no backup is ever removed, because the profile has schedules and no retention: the disk will be full",
                path=application.config_file,
                hint="set retention in the profile, such as {daily: 7, weekly: 4}",
            )
        )


def _require_writable(key: str, directory: Path) -> None:
    if directory.is_dir() and not os.access(directory, os.W_OK | os.X_OK):
        raise TradekeepError(
            f"the directory of {key} is not writable", path=directory, hint="run as root, or mount it for writing"
        )


def _require_readable(application: Application) -> None:
    """Backups are read in the name of the application's owner."""
    account = reader_account(application)
    if account is None or not Path(application.root).is_dir():
        return
    try:
        with acting_as(account):
            os.listdir(application.root)
    except OSError as error:
        raise TradekeepError(
            f"the account {account.name} cannot read the data: {(error.strerror or str(error)).lower()}",
            path=application.root,
            hint="let it pass the directories above (chmod o+x), and run the playbook site for those below",
        ) from error


def _require_drill_key(application: Application, ports: Ports) -> None:
    key_file = application.profile.drill.key_file
    if key_file is not None and application.encryption.recipients:
        prove_round_trip(application.encryption, runner=ports.runner, secret_key_file=str(key_file))


def _timer_problems(application: Application, ports: Ports) -> Iterator[TradekeepError]:
    """Timers that are not there or do not run, and what their units need beside the program."""
    manager = manager_of(application, ports)
    if application.user_units:
        try:
            manager.require(by_cron(application))
        except ServiceError as error:
            yield error
            return
    states = _timers(application, ports)
    for name, state in states.items():
        if state.get("LoadState") == "not-found":
            yield ServiceError(
                "the timer is not installed, so nothing of it happens", path=name, hint="run the playbook site"
            )
        elif state.get("LoadState") == "loaded" and state.get("ActiveState") == "inactive":
            yield ServiceError("the timer does not run", path=name, hint=f"{manager.command} enable --now {name}")
    if not any(state.get("LoadState") == "loaded" for state in states.values()):
        return
    place = Path(sandbox_root(application))
    if application.system and not place.is_dir():
        yield TradekeepError("the directory that units are shut in is gone", path=place, hint="run the playbook site")
    for program, package in _FAILURE_PROGRAMS:
        if not os.access(program, os.X_OK):
            yield TradekeepError(
                "is missing, so that no failure is written down", path=program, hint=f"apt-get install {package}"
            )


def _timers(application: Application, ports: Ports) -> dict[str, dict[str, str]]:
    """What systemd knows of each timer; nothing where there is no systemd."""
    names = [name for name in units_of(application) if name.endswith(".timer")]
    if not names or ports.runner.find("systemctl") is None:
        return {}
    done = manager_of(application, ports).systemctl("show", "--property=Id,LoadState,ActiveState", *names, check=False)
    states = {}
    for block in done.stdout.split("\n\n"):
        facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if facts.get("Id"):
            states[facts["Id"]] = facts
    return states
