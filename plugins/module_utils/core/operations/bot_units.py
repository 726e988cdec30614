# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The units that run the bot: installed and enabled as they are handed over, and never started here.

What is a person's or a package's is not overwritten: only a file that is as it was installed from here gives way.
Whether it is, the record in the state directory knows.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..application import Application, Profile, ServiceManager
from ..errors import ConfigurationError, TradekeepError, UnsafePathError
from ..formatting import pasted
from ..host.files import atomic_write, fsync_directory, make_private_directory, os_errors
from ..host.masking import UNIT_DIR
from ..ports import Ports
from ..transaction.fence_file import read_fence
from .outcome import Outcome
from .unit_files import held_back
from .unit_syntax import advice, judge_units, not_understood, runs_as_root, shown_lines

_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(?:service|socket|timer|path|target)")
_INSTANCE = re.compile(r"@[^.]*\.")
_INSTALL = re.compile(r"(?m)^\[Install\]\s*$")
_RECORD = "installed-units.json"
_NOWHERE = "/dev/null"


@dataclass(frozen=True)
class UnitFile:
    """A unit as the controller hands it over. replace: it takes the place of one that somebody else put there."""

    name: str
    content: bytes
    replace: bool = False

    @property
    def text(self) -> str:
        """As a diff shows it."""
        return self.content.decode("utf-8", errors="replace")

    @property
    def starts_at_boot(self) -> bool:
        """Whether it can be enabled. Of a template instances can, and which of them is not for us to say."""
        return "@." not in self.name and _INSTALL.search(self.text) is not None


@dataclass(frozen=True)
class BotUnitsPlan:
    """What is different. kept: files of others that are replaced. adopted: others that are as they should be.

    active: units that run as they were.
    """

    write: tuple[UnitFile, ...]
    enable: tuple[str, ...]
    reload: bool
    kept: tuple[str, ...]
    adopted: tuple[str, ...]
    active: frozenset[str]
    ours: Mapping[str, str]
    record_differs: bool
    before: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything has to be done, if only to remember what is there already."""
        return bool(self.write or self.enable or self.reload or self.record_differs)


_NOTHING = BotUnitsPlan((), (), False, (), (), frozenset(), {}, False, {}, ())


def _why_left_out(application: Application) -> str:
    if application.user_units:
        return "they are root's: put them into ~/.config/systemd/user and enable them with systemctl --user enable"
    return "tradekeep_become is false"


def misnamed_units(profile: Profile, names: Iterable[str]) -> Iterator[ConfigurationError]:
    """Files that are no unit of the application's: no restore and no deploy would stop what they run."""
    named = [
        unit if "." in unit else f"{unit}.service"
        for services in profile.services
        if services.manager is ServiceManager.SYSTEMD
        for unit in services.units
    ]
    known = {*named, *map(held_back, named), *(_INSTANCE.sub("@.", unit) for unit in named)}
    for name in names:
        if not _NAME.fullmatch(name):
            yield ConfigurationError(
                f"expected a unit's name, found {name!r}", path="units_files", hint="such as my_bot.service"
            )
        elif name not in known:
            has = f"it has {', '.join(named)}" if named else "it has none of systemd's"
            yield ConfigurationError(
                f"is none of the profile's services ({has}), so that no restore and no deploy would stop it",
                path=name,
                hint="mend the name in units_files, or name it in services of the profile",
            )


def unit_problems(
    application: Application, ports: Ports, files: Sequence[UnitFile], directory: Path = UNIT_DIR
) -> Iterator[TradekeepError]:
    """Everything for which ``install_bot_units`` would refuse."""
    if not files or not application.system:
        return
    yield from misnamed_units(application.profile, [item.name for item in files])
    recorded, states = _recorded(application), _states(ports, [item.name for item in files])
    for item in files:
        problem = _foreign(item, directory, recorded, states.get(item.name, {}))
        if problem is not None:
            yield problem
    for name, judged in judge_units(application, ports, {item.name: item.content for item in files}).items():
        yield from (not_understood(name, reason) for reason in judged.refused)


def install_bot_units(
    application: Application,
    ports: Ports,
    files: Sequence[UnitFile],
    *,
    unit_dir: str = str(UNIT_DIR),
    enable: bool = True,
    dry_run: bool = False,
) -> Outcome:
    """Install the units and have those start at boot that can; nothing is started or stopped.

    Raises what ``unit_problems`` finds first. A unit that is not handed over any more stays, and is named.
    """
    directory = Path(unit_dir)
    if not application.system:
        if files:
            ports.progress.note(f"units_files are left out, because {_why_left_out(application)}")
        return _outcome(_NOTHING, directory, dry_run)
    if not files and not _recorded(application):
        return _outcome(_NOTHING, directory, dry_run)
    for problem in unit_problems(application, ports, files, directory):
        raise problem
    plan = _plan(application, ports, files, directory, enable)
    for note in plan.notes:
        ports.progress.note(note)
    if not dry_run:
        _apply(application, ports, plan, directory)
    return _outcome(plan, directory, dry_run)


def _plan(
    application: Application, ports: Ports, files: Sequence[UnitFile], directory: Path, enable: bool
) -> BotUnitsPlan:
    recorded, states = _recorded(application), _states(ports, [item.name for item in files])
    # Neither a mask of a person's nor that of a fence is taken off. What a fence has set aside comes back with it.
    masked = {item.name for item in files if _is_masked(directory / item.name)}
    fenced = read_fence(Path(application.application_state_dir)) is not None
    there = {item.name: _content(directory / item.name) for item in files if item.name not in masked}
    write = tuple(item for item in files if item.name in there and there[item.name] != item.content)
    wanted = [item for item in files if item.name in there and item.starts_at_boot and enable and not fenced]
    ours = {item.name: _digest(item.content) for item in files if item.name not in masked}
    gone = {name: digest for name, digest in recorded.items() if name not in ours and (directory / name).exists()}
    return BotUnitsPlan(
        write=write,
        enable=tuple(
            item.name for item in wanted if item in write or states.get(item.name, {}).get("UnitFileState") != "enabled"
        ),
        reload=any(states.get(item.name, {}).get("NeedDaemonReload") == "yes" for item in files),
        kept=tuple(item.name for item in write if _is_of_others(there[item.name], recorded.get(item.name))),
        adopted=tuple(item.name for item in files if item.name in set(ours) - set(recorded) and item not in write),
        active=frozenset(name for name, state in states.items() if state.get("ActiveState") == "active"),
        ours={**gone, **ours},
        record_differs={**gone, **ours} != recorded,
        before={item.name: shown_lines((there[item.name] or b"").decode("utf-8", "replace")) for item in write},
        notes=(
            *_notes(application, ports, files, write),
            *(f"{name}: is masked, and was left alone" for name in sorted(masked)),
            *(_no_longer_named(name, directory) for name in sorted(set(gone) - masked)),
        ),
    )


def _notes(
    application: Application, ports: Ports, files: Sequence[UnitFile], write: Sequence[UnitFile]
) -> Iterator[str]:
    for item in files:
        yield from advice(item.name, item.text)
    for item in write:
        if runs_as_root(item.name, item.text):
            yield f"{item.name}: names no User=, so that what it starts runs as root"
    for judged in judge_units(application, ports, {item.name: item.content for item in write}).values():
        yield from judged.notes


def _no_longer_named(name: str, directory: Path) -> str:
    return (
        f"{name}: was installed from units_files, which names it no more; it stays until you remove it: "
        f"systemctl disable --now {pasted(name)} && rm {pasted(directory / name)} && systemctl daemon-reload"
    )


def _foreign(
    item: UnitFile, directory: Path, recorded: Mapping[str, str], state: Mapping[str, str]
) -> Optional[TradekeepError]:
    """Why a unit cannot be put where it belongs, if it cannot."""
    place = directory / item.name
    if _is_masked(place):
        return None
    if place.is_symlink() or (place.exists() and not place.is_file()):
        return UnsafePathError(
            f"is a symlink to {os.readlink(place)}" if place.is_symlink() else "is not a file",
            path=place,
            hint="move it away",
        )
    if item.replace:
        return None
    there = _content(place)
    if there is None:
        elsewhere = state.get("FragmentPath", "")
        if elsewhere and Path(elsewhere).parent != directory:
            return ConfigurationError(
                f"is a unit of this host's, {elsewhere}, which a file in {directory} would take the place of",
                path=item.name,
                hint="give yours another name, or set replace: true for it in units_files",
            )
    elif there != item.content and _is_of_others(there, recorded.get(item.name)):
        return ConfigurationError(
            "differs from the one in units_files, and was not installed from there like this; nothing was changed",
            path=place,
            hint="bring what differs into your file, or set replace: true for it in units_files: the old one is kept",
        )
    return None


def _is_of_others(content: Optional[bytes], digest: Optional[str]) -> bool:
    """Whether there is a file that is not as it was installed from here."""
    return content is not None and _digest(content) != digest


def _is_masked(place: Path) -> bool:
    return place.is_symlink() and os.readlink(place) == _NOWHERE


def _content(place: Path) -> Optional[bytes]:
    with os_errors(place):
        return place.read_bytes() if place.is_file() else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _states(ports: Ports, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What systemd knows of each; nothing of a template, which only instances of are started."""
    asked = [name for name in names if "@." not in name]
    if not asked or ports.runner.find("systemctl") is None:
        return {}
    wanted = "FragmentPath,UnitFileState,ActiveState,NeedDaemonReload"
    done = ports.runner.run(["systemctl", "show", f"--property={wanted}", *asked], check=False)
    shown = done.stdout.split("\n\n")
    if len(shown) != len(asked):
        return {}
    return {
        name: dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for name, block in zip(asked, shown)
    }


def _recorded(application: Application) -> dict[str, str]:
    """The units that were installed from here, with the digest of what was. One that cannot be read knows none."""
    place = Path(application.application_state_dir) / _RECORD
    try:
        known = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = known.get("units") if isinstance(known, dict) else None
    return {str(name): str(digest) for name, digest in known.items()} if isinstance(known, dict) else {}


def _apply(application: Application, ports: Ports, plan: BotUnitsPlan, directory: Path) -> None:
    """The record comes last: what a run that was killed has written is known by its content all the same."""
    state = Path(application.application_state_dir)
    if plan.kept:
        _keep(state, directory, plan.kept, ports)
    with os_errors(directory):
        for item in plan.write:
            ports.step(f"write {item.name}")
            atomic_write(directory / item.name, item.content, mode=0o644)
        if plan.write:
            fsync_directory(directory)
    if plan.record_differs:
        make_private_directory(state)
        atomic_write(state / _RECORD, (json.dumps({"units": dict(plan.ours)}, indent=2) + "\n").encode())
    if plan.write or plan.reload:
        ports.runner.run(["systemctl", "daemon-reload"])
    if plan.enable:
        # "reenable" also takes back what an earlier [Install] section asked for.
        ports.runner.run(["systemctl", "reenable", *plan.enable])


def _keep(state: Path, directory: Path, names: Sequence[str], ports: Ports) -> None:
    """What somebody else had there, beside the credentials that were replaced."""
    kept = state / "replaced"
    make_private_directory(state)
    make_private_directory(kept)
    stamp = ports.clock.now().strftime("%Y%m%d_%H%M%S_%f")
    for name in names:
        atomic_write(kept / f"{name}.{stamp}", _content(directory / name) or b"", mode=0o600)
        ports.progress.mention(f"{name}: what was replaced is kept as {name}.{stamp} in {kept}")


def _outcome(plan: BotUnitsPlan, directory: Path, dry_run: bool) -> Outcome:
    would = "would " if dry_run else ""
    new = [item.name for item in plan.write if not plan.before[item.name] and item.name not in plan.active]
    changed = [item.name for item in plan.write if item.name in plan.active]
    lines = [f"{would}write {directory / item.name}" for item in plan.write]
    lines += [f"{would}adopt {directory / name}, which is as units_files has it" for name in plan.adopted]
    lines += [f"{would}enable {name}" for name in plan.enable]
    if not dry_run:
        lines += [f"{name} is not started; the first deploy starts it, or: systemctl start {name}" for name in new]
        lines += [f"{name} runs as it was installed before, until: systemctl restart {name}" for name in changed]
    return Outcome(
        changed=plan.changed,
        record={"written": [item.name for item in plan.write], "enabled": list(plan.enable), "lines": lines},
        lines=tuple(lines),
        before={name: lines for name, lines in plan.before.items() if lines},
        after={item.name: shown_lines(item.text) for item in plan.write},
    )
