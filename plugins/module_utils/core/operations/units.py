# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Installing and removing an application's systemd units, so that they are what its profile says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Optional

from ..application import Application
from ..configuration import configured_names
from ..errors import ConfigurationError, ServiceError
from ..host.files import atomic_write, fsync_directory, make_private_directory, os_errors
from ..host.unit_manager import SYSTEM_UNIT_DIR, UnitManager
from ..ports import Ports
from .claims import RENAME
from .configured import standing_warnings
from .fence import mend_fence
from .outcome import Outcome
from .runs import FAILURES_LOG
from .services_check import unmanaged
from .text import counted
from .unit_files import HEADER, drill_is_locked_out, render_units
from .unit_sight import sandbox_root
from .user_units import by_cron, manager_of, units_of

__all__ = ["install_units", "render_units"]
_INSTALL = "\n[Install]\n"
_PREFIXES = (
    "import os, sys; print(sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__), sep='\\n')"
)
_LONGEST_LINE = 4096
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64")


@dataclass(frozen=True)
class UnitsPlan:
    """What is different from what should be. sandbox: whether its directory is missing."""

    write: Mapping[str, str]
    remove: tuple[str, ...]
    enable: tuple[str, ...]
    disable: tuple[str, ...]
    reload: bool
    sandbox: bool
    before: Mapping[str, Sequence[str]]
    after: Mapping[str, Sequence[str]]

    @property
    def changed(self) -> bool:
        """Whether anything has to be done."""
        return bool(self.write or self.remove or self.enable or self.reload or self.sandbox)


def install_units(
    application: Application,
    ports: Ports,
    *,
    unit_dir: str = SYSTEM_UNIT_DIR,
    dry_run: bool = False,
    present: bool = True,
    coming: Collection[str] = (),
) -> Outcome:
    """Make the units what the profile says (or remove all, unless ``present``); other applications' are not touched.

    coming: units of the bot's own that a run that is none would have installed by now.
    """
    manager = manager_of(application, ports)
    why_none = _why_none(application, manager)
    if why_none is not None:
        return _left_out(why_none)
    wanted = units_of(application, _runtime(application, ports)) if present else {}
    directory = manager.directory(unit_dir)
    _require_systemd(application, ports, manager, directory if present else None)
    plan = _plan(application, ports, directory, wanted)
    if present:
        for warning in (*standing_warnings(application, ports, coming), *unmanaged(application)):
            ports.progress.note(warning)
    if present and plan.changed and drill_is_locked_out(application):
        ports.progress.note(
            "no timer for drills, as this host cannot read its own backups (backup_host_key is false): run the "
            "playbook drill with drill_controller_key, or set drill.key_file in the profile"
        )
    if not dry_run and plan.changed:
        if present:
            # The failure unit appends to a file in there, and must not itself fail.
            make_private_directory(Path(application.application_state_dir))
            _make_sandbox(application)
        _apply(ports, manager, directory, plan)
    for text in _unclaimed(application, directory) if present else ():
        ports.progress.note(text)
    masked = mend_fence(application, ports, unit_dir=directory) if present and not dry_run else []
    told = failures_in_words(application, str(directory)) if present else None
    return _outcome(plan, wanted, dry_run, masked, told)


def _why_none(application: Application, manager: UnitManager) -> Optional[str]:
    """Why there are no units here; None where there are to be some."""
    if not application.has_units:
        return "units are left out, because tradekeep_become is false"
    if application.user_units and not application.profile.schedules and not manager.answers():
        return "units are left out: the account has no systemd of its own here, and the profile no schedules"
    return None


def _require_systemd(application: Application, ports: Ports, manager: UnitManager, directory: Optional[Path]) -> None:
    """directory: of units that are to be installed. An account's own is made where it is missing."""
    if application.user_units:
        manager.require(by_cron(application))
        return
    if ports.runner.find("systemctl") is None:
        raise ServiceError("systemctl is missing", hint="timers need systemd; set tradekeep_become to false without it")
    if directory is not None and not directory.is_dir():
        raise ConfigurationError(
            "the directory of the units does not exist", path=directory, hint="set backup_unit_dir to one of systemd's"
        )


def _left_out(why: str) -> Outcome:
    record: dict[str, Any] = {"units": [], "written": [], "removed": [], "enabled": [], "failures": None}
    return Outcome(changed=False, record=record, lines=(why,))


def failures_in_words(application: Application, unit_dir: str = SYSTEM_UNIT_DIR) -> str:
    """Where somebody hears of a backup that failed at night."""
    log = application.application_state_dir / FAILURES_LOG
    return (
        f"what fails is told by 'tradekeep' on the host, in {log} and in the journal "
        f"(journalctl {'--user ' if application.user_units else ''}-t tradekeep); "
        f"to be told elsewhere, put a drop-in into {unit_dir}/tradekeep-failure-{application.name}@.service.d/ "
        "(docs/failures.md)"
    )


def _runtime(application: Application, ports: Ports) -> list[PurePosixPath]:
    """Where the interpreter of the installed program lies, unless it is the system's or there is no program yet.

    Units of an account's own see all that it sees.
    """
    if not application.system:
        return []
    interpreter = _interpreter_of(Path(application.bin_dir) / "tradekeep")
    if interpreter is None or _of_the_system(interpreter):
        return []
    said = ports.runner.run([interpreter, "-I", "-c", _PREFIXES], timeout_seconds=60).stdout.splitlines()
    places = [str(PurePosixPath(interpreter).parent), *said]
    return [PurePosixPath(place) for place in dict.fromkeys(places) if not _of_the_system(place)]


def _interpreter_of(program: Path) -> Optional[str]:
    """What the first line of a program names, also of one that an older release built; None without one."""
    try:
        with open(program, "rb") as file:
            words = file.readline(_LONGEST_LINE).split()
    except FileNotFoundError:
        return None
    return os.fsdecode(words[0][2:]) if words and words[0].startswith(b"#!/") else None


def _of_the_system(path: str) -> bool:
    return path == "/" or any(path == top or path.startswith(f"{top}/") for top in _SYSTEM)


def _make_sandbox(application: Application) -> None:
    """An empty directory that everyone may pass through: the application's owner reads what is mounted there."""
    if not application.system:
        return
    directory = Path(sandbox_root(application))
    with os_errors(directory):
        for path in (directory.parent, directory):
            path.mkdir(mode=0o755, exist_ok=True)
            path.chmod(0o755)


def _plan(application: Application, ports: Ports, directory: Path, wanted: Mapping[str, str]) -> UnitsPlan:
    installed = _installed(application, directory, wanted)
    write = {name: text for name, text in wanted.items() if installed.get(name) != text}
    _check_calendars(ports, write)
    remove = tuple(sorted(set(installed) - set(wanted)))
    present = [name for name in wanted if name in installed]
    states = _states(manager_of(application, ports), present)
    enabled = [name for name in sorted(wanted) if _INSTALL in wanted[name]]
    return UnitsPlan(
        write=write,
        remove=remove,
        enable=tuple(name for name in enabled if name in write or not _is_set_up(name, states.get(name, {}))),
        disable=tuple(name for name in remove if _INSTALL in installed[name]),
        sandbox=bool(wanted) and application.system and not Path(sandbox_root(application)).is_dir(),
        reload=any(states.get(name, {}).get("NeedDaemonReload") == "yes" for name in present),
        # In full, line by line: a unit holds no secret. Of what stays as it is nothing.
        before={name: tuple(text.splitlines()) for name, text in sorted(installed.items()) if wanted.get(name) != text},
        after={name: tuple(text.splitlines()) for name, text in sorted(write.items())},
    )


def _installed(application: Application, directory: Path, wanted: Mapping[str, str]) -> dict[str, str]:
    """This application's units as they are; refuses a file that somebody else put under one of their names."""
    header = HEADER.format(name=application.name)
    found: dict[str, str] = {}
    with os_errors(directory):
        for path in sorted(directory.glob("tradekeep-*")):
            if path.suffix not in (".service", ".timer"):
                continue
            text = "" if path.is_symlink() else path.read_text(encoding="utf-8", errors="replace")
            if text.startswith(header + "\n"):
                found[path.name] = text
            elif path.name in wanted:
                raise ConfigurationError("exists and is not tradekeep's", path=path, hint="move it away")
    return found


def _unclaimed(application: Application, directory: Path) -> Iterator[str]:
    """Notes of units of ours whose application is not configured on this host."""
    known = {application.name, *configured_names(str(application.config_dir))}
    before, _name, after = HEADER.partition("{name}")
    found: dict[str, list[str]] = {}
    for path in sorted(directory.glob("tradekeep-*")):
        if path.suffix in (".service", ".timer") and not path.is_symlink():
            first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
            name = first[len(before) : -len(after)]
            if first == HEADER.format(name=name) and name not in known:
                found.setdefault(name, []).append(path.name)
    for name, units in sorted(found.items()):
        yield (
            f"{directory}: {counted(len(units), 'unit')} of the application {name}, which is not configured here; if "
            f"it is {application.name} now, run {RENAME} -e rename_from={name}, else remove them: {', '.join(units)}"
        )


def _check_calendars(ports: Ports, wanted: Mapping[str, str]) -> None:
    """Refuse a schedule that systemd does not understand before anything is written."""
    if ports.runner.find("systemd-analyze") is None:
        return
    for name, text in wanted.items():
        for line in text.splitlines():
            key, _equals, calendar = line.partition("=")
            if key != "OnCalendar":
                continue
            done = ports.runner.run(["systemd-analyze", "calendar", "--", calendar], check=False)
            if done.status != 0:
                raise ConfigurationError(
                    f"systemd does not understand {calendar!r}", path=name, hint="see systemd.time(7), OnCalendar"
                )


def _states(manager: UnitManager, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Id, UnitFileState, ActiveState and NeedDaemonReload of each unit, asked for at once."""
    asked = [name for name in names if "@" not in name]
    if not asked:
        return {}
    done = manager.systemctl("show", "--property=Id,UnitFileState,ActiveState,NeedDaemonReload", *asked, check=False)
    states = {}
    for block in done.stdout.split("\n\n"):
        facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        states[facts.get("Id", "")] = facts
    return states


def _is_set_up(name: str, state: Mapping[str, str]) -> bool:
    if state.get("UnitFileState") != "enabled":
        return False
    return not _is_timer(name) or state.get("ActiveState") == "active"


def _is_timer(name: str) -> bool:
    return name.endswith(".timer")


def _apply(ports: Ports, manager: UnitManager, directory: Path, plan: UnitsPlan) -> None:
    """Timers that go are stopped while systemd still knows them; those that change are restarted to be planned anew.

    A service is never stopped: the bot requires the guard, and systemd would stop it too. That it is disabled before
    its file goes matters as much: a bot that requires what does not exist cannot start.
    """
    timers, services = _by_type(plan.disable)
    if timers:
        manager.systemctl("disable", "--now", *timers)
    if services:
        manager.systemctl("disable", *services)
    with os_errors(directory):
        if plan.write:
            directory.mkdir(parents=True, exist_ok=True)  # an account's own may not be there yet
        for name, text in plan.write.items():
            ports.step(f"write {name}")
            atomic_write(directory / name, text.encode(), mode=0o644)
        for name in plan.remove:
            with contextlib.suppress(FileNotFoundError):
                (directory / name).unlink()
        fsync_directory(directory)
    manager.systemctl("daemon-reload")
    if plan.enable:
        # "reenable" also takes back what an earlier [Install] section asked for.
        manager.systemctl("reenable", *plan.enable)
        timers, _others = _by_type(plan.enable)
        if timers:
            manager.systemctl("restart", *timers)


def _by_type(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The timers, and the others."""
    return [name for name in names if _is_timer(name)], [name for name in names if not _is_timer(name)]


def _outcome(
    plan: UnitsPlan, wanted: Mapping[str, str], dry_run: bool, masked: Sequence[str], told: Optional[str]
) -> Outcome:
    would = "would " if dry_run else ""
    lines = [f"{would}write {name}" for name in sorted(plan.write)]
    lines += [f"{would}remove {name}" for name in plan.remove]
    lines += [f"{would}enable {'and start ' if _is_timer(name) else ''}{name}" for name in plan.enable]
    lines += [f"masked {name}, as this host is fenced" for name in masked]
    return Outcome(
        changed=plan.changed or bool(masked),
        record={
            "units": sorted(wanted),
            "written": sorted(plan.write),
            "removed": list(plan.remove),
            "enabled": list(plan.enable),
            "failures": told,
        },
        lines=(*(lines or ["units are as they should be"]), *([] if told is None else [told])),
        before={"units": dict(plan.before)},
        after={"units": dict(plan.after)},
    )
