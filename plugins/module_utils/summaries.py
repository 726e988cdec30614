# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules did, in a few plain lines for the end of a play.

A record is an answer of a host: nothing in it is relied on to be there, and every line is made safe to show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from .core.formatting import printable
from .core.operations.text import counted, human_bytes

_MOST_NAMES = 5
_MOST_LINES = 20
_NOTES = ("notes", "warnings")
_NOTED = ("backups", "databases")
"""Lists in a record whose items have notes of their own."""

Record = Mapping[str, Any]


def summary_lines(results: Mapping[str, Any], check: bool = False) -> list[str]:
    """A few lines on what each module did. results: what was registered of modules, by the module's short name.

    check: they ran in check mode, so that what changed was not done.
    """
    lines: list[str] = []
    for name, result in results.items():
        record = result.get("record") if isinstance(result, Mapping) else None
        if not isinstance(record, Mapping) or not record or result.get("failed"):
            continue
        changed = bool(result.get("changed"))
        told = _SUMMARIES[name](record, changed)
        lines.extend(
            f"check mode, not done: {line}" if check and changed and _is_claim(line) else line for line in told
        )
    return [printable(line) for line in lines]


def _is_claim(line: str) -> bool:
    """Whether a line says that something was done."""
    return not line.startswith("would ") and not line.endswith((", nothing to do", "; nothing was done"))


def notes_in(record: Any) -> list[str]:
    """What a record calls notes or warnings, of the whole or of one backup or database, each once."""
    found: list[str] = []
    if isinstance(record, Mapping):
        found.extend(_texts(record))
        for key in _NOTED:
            for item in _list(record, key):
                found.extend(_prefixed(item))
    unique = list(dict.fromkeys(found))
    more = len(unique) - _MOST_LINES
    return unique if more <= 0 else [*unique[:_MOST_LINES], f"and {more} more, see the record of the result"]


def _texts(mapping: Record) -> Iterator[str]:
    for key in _NOTES:
        value = mapping.get(key)
        if isinstance(value, (list, tuple)):
            yield from (text for text in value if isinstance(text, str))


def _prefixed(item: Any) -> Iterator[str]:
    if isinstance(item, Mapping):
        name = item.get("name") or item.get("path")
        yield from (f"{name}: {text}" if name else text for text in _texts(item))


def _named(names: Sequence[Any]) -> str:
    """The first names of many."""
    shown = ", ".join(str(name) for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return shown if more <= 0 else f"{shown} and {more} more"


def _list(record: Record, key: str) -> list[Any]:
    value = record.get(key)
    return list(value) if isinstance(value, (list, tuple)) else []


def _paths(record: Record) -> list[Any]:
    return [item.get("path") for item in _list(record, "changes") if isinstance(item, Mapping)]


def _downtime(record: Record) -> str:
    seconds = record.get("seconds")
    downtime = seconds.get("downtime") if isinstance(seconds, Mapping) else record.get("downtime_seconds")
    return f"; downtime {downtime:.2f} s" if isinstance(downtime, (int, float)) and downtime > 0 else ""


def _backup(record: Record, _changed: bool) -> Iterator[str]:
    made = record.get("backup")
    if isinstance(made, Mapping):
        how = "encrypted" if made.get("encrypted") else "not encrypted"
        yield f"made {made.get('path')}: {human_bytes(made.get('size') or 0)}, {how}"
    elif isinstance(record.get("plan"), Mapping):
        plan = record["plan"]
        size = human_bytes(plan.get("bytes") or 0)
        yield f"would back up {counted(plan.get('files') or 0, 'file')}, {size}; nothing was written"
    missing = _list(record, "missing")
    if missing:
        yield f"not there yet: {_named(missing)}"


def _restore(record: Record, changed: bool) -> Iterator[str]:
    name, state, paths = record.get("backup"), record.get("state"), _paths(record)
    if record.get("to"):
        verb = "would restore" if state == "planned" else "restored"
        yield f"{verb} {counted(record.get('files') or 0, 'file')} of {name} into {record['to']}"
        return
    if not changed:
        yield f"everything is as {name} has it; nothing was done"
        return
    same = record.get("unchanged") or 0
    if state == "planned":
        yield f"would restore {counted(len(paths), 'path')} from {name}: {_named(paths)}; {same} are the same"
    else:
        yield f"restored {counted(len(paths), 'path')} from {name}: {_named(paths)}{_downtime(record)}"
    if record.get("safety_backup"):
        yield f"what was there before is in {record['safety_backup']}"
    left = _list(record, "left_alone")
    if left:
        yield f"not restored, may be inconsistent with the restored data: {_named(left)}"


def _migrate(record: Record, changed: bool) -> Iterator[str]:
    source, paths = record.get("source"), _paths(record)
    given = source.get("given") or source.get("host") if isinstance(source, Mapping) else source
    whence = given or "the source"
    if record.get("state") == "planned":
        yield f"would migrate {counted(len(paths), 'path')} from {whence}: {_named(paths)}; nothing was written"
    elif not changed:
        yield f"everything is as {whence} has it; nothing was done"
    else:
        yield f"migrated {counted(len(paths), 'path')} from {whence}: {_named(paths)}{_downtime(record)}"
    for key, text in (("backup", "the data before is in"), ("safety_backup", "what was written after that is in")):
        if record.get(key):
            yield f"{text} {record[key]}"
    plan = record.get("plan")
    if isinstance(plan, Mapping):
        for key, text in (("refused", "refused, and not here"), ("left", "left, in no component of the profile")):
            left = [item.get("path") if isinstance(item, Mapping) else item for item in _list(plan, key)]
            if left:
                yield f"{text}: {_named(left)}"
    started = _list(record, "started")
    if started:
        yield f"started {_named(started)}"


def _verify(record: Record, _changed: bool) -> Iterator[str]:
    backups = [item for item in _list(record, "backups") if isinstance(item, Mapping)]
    if not backups:
        yield "there are no backups"
    for level, text in (
        ("deep", "verified in depth"),
        ("entries", "verified, each entry"),
        ("checksum", "NOT OPENED: this host cannot decrypt it, so its checksum alone was compared"),
    ):
        names = [item.get("name") for item in backups if item.get("ok") and item.get("level") == level]
        if names:
            yield f"{text}: {_named(names)}"


def _prune(record: Record, changed: bool) -> Iterator[str]:
    if record.get("refused"):
        yield f"nothing was removed: {record['refused']}"
        return
    removed, kept = _list(record, "removed"), _list(record, "kept")
    what = f"removed {counted(len(removed), 'backup')}, {human_bytes(record.get('freed') or 0)}: {_named(removed)}"
    yield f"{what if changed else 'nothing to remove'}; {counted(len(kept), 'backup')} kept"


def _recover(record: Record, _changed: bool) -> Iterator[str]:
    yield from (str(action) for action in _list(record, "actions")[:_MOST_NAMES])
    if not _list(record, "actions"):
        yield "nothing to recover"


def _deploy(record: Record, changed: bool) -> Iterator[str]:
    old, new = (str(record.get(key) or "nothing")[:12] for key in ("old_commit", "new_commit"))
    state = str(record.get("state") or "")
    if state == "planned":
        yield f"would deploy {new} in place of {old}"
    elif changed:
        yield f"{state.replace('_', ' ')}: {new} in place of {old}{_downtime(record)}"
    elif state == "unchanged":
        yield f"{new} is deployed already; nothing was done"


def _tree(record: Record, changed: bool) -> Iterator[str]:
    yield f"data tree: {_named(_paths(record))}" if changed else "data tree: as the profile says"


def _runtime(record: Record, changed: bool) -> Iterator[str]:
    before, version = record.get("installed"), record.get("version")
    what = f"{before} -> {version}" if changed and before and before != version else str(version)
    yield f"command: {what}{' installed' if changed else ', nothing to do'}"


def _configuration(record: Record, changed: bool) -> Iterator[str]:
    command = record.get("command")
    if isinstance(command, Mapping):
        yield from _runtime(command, bool(command.get("changed")))
    yield f"configuration: {record.get('path')}{' written' if changed else ', nothing to do'}"


def _units(record: Record, changed: bool) -> Iterator[str]:
    told = record.get("services")
    services = _list(told, "lines") if isinstance(told, Mapping) else []
    yield from map(str, services)
    if "units" not in record:
        return
    timers = [name for name in _list(record, "units") if str(name).endswith(".timer")]
    parts = [f"{verb} {_named(_list(record, verb))}" for verb in ("written", "removed", "enabled") if record.get(verb)]
    if not changed or (services and not parts):
        yield f"timers: {_named(timers) or 'none'}, nothing to do"
        return
    yield f"units: {'; '.join(parts) or 'systemd read them again'}"


_SUMMARIES: Mapping[str, Callable[[Record, bool], Iterator[str]]] = {
    "backup": _backup,
    "configuration": _configuration,
    "deploy": _deploy,
    "migrate": _migrate,
    "prune": _prune,
    "recover": _recover,
    "restore": _restore,
    "runtime": _runtime,
    "tree": _tree,
    "units": _units,
    "verify": _verify,
}
SUMMARISED = tuple(sorted(_SUMMARIES))
"""The modules whose results can be told in a few lines."""
