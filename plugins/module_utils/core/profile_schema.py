# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a profile may say: the schema of its mapping, and the rules that span several keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .application import (
    NEW_FILE_MODE,
    CheckLevel,
    Component,
    FileRule,
    Profile,
    Retention,
    Schedule,
    ServiceManager,
    Services,
    Tier,
)
from .component_paths import covers, is_open
from .deploy_schema import DEPLOY, Words
from .drill_schema import DRILL
from .errors import ConfigurationError
from .migrate_schema import MIGRATE
from .patterns import is_plain
from .schema import Choice, Flag, FreeText, JsonDocument, ListOf, MapOf, Mode, Number, Table
from .vocabulary import ABSOLUTE_PATH, ACCOUNT, CALENDAR, COMPONENT_PATH, NAME, PATTERN, RELATIVE_PATH, UNIT

KIND_NAMES = ("sqlite", "json", "jsonl", "log", "file")

_FILE_MODE = Mode(floor=0o400)
_DIRECTORY_MODE = Mode(floor=0o700)
_TIERS = tuple(tier.value for tier in Tier)
_COUNT = Number(0, 100_000)

_FILE_RULE = Table(
    {
        "pattern": PATTERN,
        "kind": Choice(KIND_NAMES),
        "mode": _FILE_MODE,
        "owner": ACCOUNT,
        "group": ACCOUNT,
        "secret": Flag(),
        "required": Flag(),
        "may_shrink": Flag(),
        "template": JsonDocument(),
    },
    required=("pattern",),
    build=FileRule,
)

_COMPONENT = Table(
    {
        "paths": ListOf(COMPONENT_PATH, minimum=1),
        "directories": ListOf(RELATIVE_PATH),
        "exclude": ListOf(PATTERN),
        "files": ListOf(_FILE_RULE),
        "directory_mode": _DIRECTORY_MODE,
        "file_mode": _FILE_MODE,
        "owner": ACCOUNT,
        "group": ACCOUNT,
        "critical": Flag(),
        "secret": Flag(),
        "require_encryption": Flag(),
        "preserve": Flag(),
        "backup": Flag(),
        "may_shrink": Flag(),
        "follow_links": ListOf(ABSOLUTE_PATH),
        "description": FreeText(),
    },
    required=("paths",),
)

_SERVICES = Table(
    {
        "manager": Choice(tuple(m.value for m in ServiceManager), ServiceManager),
        "units": ListOf(UNIT),
        "supervisor_config": ABSOLUTE_PATH,
        "stay_up_seconds": Number(0, 3600, whole=False),
        "stop_timeout_seconds": Number(1, 3600, whole=False),
        "start": Words(),
        "stop": Words(),
        "is_active": Words(),
        "user": ACCOUNT,
        "start_timeout_seconds": Number(1, 3600, whole=False),
        "is_active_timeout_seconds": Number(0.1, 600, whole=False),
        "stop_for_backup": Flag(),
    },
    required=("manager",),
    build=Services,
)

_SCHEDULE = Table(
    {
        "tier": Choice(tuple(t for t in _TIERS if t != Tier.MANUAL.value), Tier),
        "calendar": CALENDAR,
        "encrypt": Flag(),
        "jitter_seconds": Number(0, 86_400),
    },
    required=("tier", "calendar"),
    build=Schedule,
)

_RETENTION = Table(
    {"daily": _COUNT, "weekly": _COUNT, "monthly": _COUNT, "keep_last": _COUNT, "within_days": _COUNT},
    build=Retention,
)


_COMMANDS = ("start", "stop", "is_active")
_OF_COMMANDS = ("user", "start_timeout_seconds", "is_active_timeout_seconds")


def _build_profile(components: dict[str, dict[str, Any]], **fields: Any) -> Profile:
    # Sorted, so that a profile is the same before and after its stable text.
    named = tuple(Component(name=name, **components[name]) for name in sorted(components))
    return Profile(components=named, **fields)


PROFILE = Table(
    {
        "name": NAME,
        "description": FreeText(),
        "root": ABSOLUTE_PATH,
        "owner": ACCOUNT,
        "group": ACCOUNT,
        "home": ABSOLUTE_PATH,
        "archive_prefix": NAME,
        "root_mode": _DIRECTORY_MODE,
        "components": MapOf(NAME, _COMPONENT),
        "services": ListOf(_SERVICES),
        "schedules": ListOf(_SCHEDULE),
        "retention": _RETENTION,
        "compression": Choice(("gzip", "zstd")),
        "check_level": Choice(tuple(level.value for level in CheckLevel), CheckLevel),
        "full_check_tiers": ListOf(Choice(_TIERS, Tier)),
        "maximum_row_loss_percent": Number(0, 100, whole=False),
        "maximum_file_loss_percent": Number(0, 100, whole=False),
        "maximum_byte_loss_percent": Number(0, 100, whole=False),
        "tables_may_shrink": ListOf(PATTERN),
        "ignore_uncovered": ListOf(PATTERN),
        "deploy": DEPLOY,
        "drill": DRILL,
        "migrate": MIGRATE,
    },
    required=("name", "components"),
    build=_build_profile,
)


def check_profile(profile: Profile) -> None:
    """Refuse what each key alone cannot show; raises ConfigurationError."""
    if not profile.components:
        raise ConfigurationError("expected at least one component", path="components")
    for component in profile.components:
        _check_component(component, f"components.{component.name}")
    _check_overlaps(profile)
    _check_services(profile)
    _check_schedules(profile)


def within(path: str, top: str) -> bool:
    """Whether a path is a directory or lies beneath it (both absolute, or both relative)."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def _check_component(component: Component, key: str) -> None:
    for index, directory in enumerate(component.directories):
        if not any(covers(path, directory) for path in component.paths):
            raise ConfigurationError(
                f"expected a directory beneath the component's paths, found {directory!r}",
                path=f"{key}.directories[{index}]",
                hint=f"add it to {key}.paths",
            )
    file_mode = NEW_FILE_MODE if component.file_mode is None else component.file_mode
    if component.secret and file_mode & 0o007:
        raise _open_secret(file_mode, f"{key}.file_mode")
    if component.require_encryption and not component.backup:
        raise ConfigurationError(
            "expected a component that is backed up", path=f"{key}.require_encryption", hint="remove one of the two"
        )
    for index, rule in enumerate(component.files):
        _check_rule(component, rule, f"{key}.files[{index}]")


def _check_rule(component: Component, rule: FileRule, key: str) -> None:
    secret = component.secret if rule.secret is None else rule.secret
    mode = component.file_mode if rule.mode is None else rule.mode
    if secret and mode is not None and mode & 0o007:
        raise _open_secret(mode, f"{key}.mode")
    if rule.required or rule.template is not None:
        why = "required" if rule.required else "template"
        if not is_plain(rule.pattern) or not any(covers(path, rule.pattern) for path in component.paths):
            raise ConfigurationError(
                f"expected the whole path of one file in the component with {why!r}, found {rule.pattern!r}",
                path=f"{key}.pattern",
            )


def _open_secret(mode: int, key: str) -> ConfigurationError:
    return ConfigurationError(
        f'expected a mode that keeps others out of a secret, found "{mode:04o}"', path=key, hint='"0600" is usual'
    )


def _listed_paths(profile: Profile) -> Iterator[tuple[str, str, str]]:
    for component in profile.components:
        for index, path in enumerate(component.paths):
            yield path, component.name, f"components.{component.name}.paths[{index}]"


def _check_overlaps(profile: Profile) -> None:
    """A path belongs to one component. Patterns may match what another names: the path counts before the pattern."""
    seen: dict[str, str] = {}
    for path, name, key in _listed_paths(profile):
        if is_open(path) and path in seen:
            raise ConfigurationError(
                f"expected a pattern of one component, found {path!r} in {seen[path]} too", path=key
            )
        seen[path] = name
    # Sorted by parts, a path that contains another comes directly before it or before its siblings beneath it.
    listed = sorted(
        (entry for entry in _listed_paths(profile) if not is_open(entry[0])), key=lambda entry: entry[0].split("/")
    )
    for (outer, outer_name, _key), (inner, _name, key) in zip(listed, listed[1:]):
        if within(inner, outer):
            raise ConfigurationError(
                f"expected paths that do not overlap, found {inner!r} inside {outer!r} of {outer_name}", path=key
            )


def _check_services(profile: Profile) -> None:
    for index, services in enumerate(profile.services):
        key = f"services[{index}]"
        if (services.manager is ServiceManager.NONE) == bool(services.units):
            what = (
                "no units without a manager" if services.units else "the units that must stop while data is exchanged"
            )
            raise ConfigurationError(f"expected {what}", path=f"{key}.units")
        if services.supervisor_config and services.manager is not ServiceManager.SUPERVISOR:
            raise ConfigurationError("expected this key only with manager supervisor", path=f"{key}.supervisor_config")
        if services.stop_for_backup and services.manager not in (ServiceManager.SYSTEMD, ServiceManager.SUPERVISOR):
            # A bot that commands start would be one of the backup's own unit, in its sandbox, and end with it.
            raise ConfigurationError(
                "expected this key only with manager systemd or supervisor", path=f"{key}.stop_for_backup"
            )
        _check_commands(services, key)


def _check_commands(services: Services, key: str) -> None:
    if services.manager is not ServiceManager.COMMAND:
        for name in (*_COMMANDS, *_OF_COMMANDS):
            if getattr(services, name) is not None:
                raise ConfigurationError("expected this key only with manager command", path=f"{key}.{name}")
        return
    for name in _COMMANDS:
        if getattr(services, name) is None:
            raise ConfigurationError(
                "expected a command as a list of words, found none",
                path=f"{key}.{name}",
                hint="the manager command needs start, stop and is_active",
            )
    if len(services.units) != 1 or "*" in services.units[0]:
        raise ConfigurationError(
            "expected one name for what the commands start",
            path=f"{key}.units",
            hint="write units: [bot], and an entry of its own for each further one",
        )


def _check_schedules(profile: Profile) -> None:
    seen: set[Tier] = set()
    for index, schedule in enumerate(profile.schedules):
        if schedule.tier in seen:
            raise ConfigurationError(
                f"expected one schedule for each tier, found {schedule.tier.value} again",
                path=f"schedules[{index}].tier",
                hint="one calendar can hold several days and hours: Mon,Fri 08,20:00",
            )
        seen.add(schedule.tier)
