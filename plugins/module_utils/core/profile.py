# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Profiles: from a name or a mapping to the frozen model, and back.

A user's mapping merges over the built-in that it ``extends``, as JSON merge patch does (RFC 7386): mappings merge,
scalars and lists replace, and ``null`` removes.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any, Optional, Union

from .application import Application, BotPath, Component, Encryption, OurPath, Profile, ServiceManager
from .application_checks import check_application
from .component_paths import WHOLE
from .errors import ConfigurationError
from .profile_schema import PROFILE, check_profile
from .profiles import BUILT_IN
from .schema import ListOf, child, did_you_mean, wrong
from .user_services import services_of_the_account
from .vocabulary import ABSOLUTE_PATH, ACCOUNT, NAME, RECIPIENT, SECRET_FILE

Definition = Union[str, Mapping[str, Any], Profile]

DEFAULT_BACKUP_DIR = "/opt/backups"
DEFAULT_CONFIG_DIR = "/etc/tradekeep"
DEFAULT_STATE_DIR = "/var/lib/tradekeep"
DEFAULT_BIN_DIR = "/usr/local/bin"


def built_in_names() -> tuple[str, ...]:
    """The names of the built-in profiles, sorted."""
    return tuple(sorted(BUILT_IN))


def resolve_profile(definition: Definition, *, default_name: Optional[str] = None) -> Profile:
    """The profile that a name or a mapping defines; raises ConfigurationError with the key's path.

    default_name: of the application. What a mapping leaves open bears it, so that two applications differ.
    """
    if isinstance(definition, Profile):
        return definition
    merged = _merged(definition)
    if default_name is not None:
        merged.setdefault("name", default_name)
    prefix = default_name or merged.get("name")
    if isinstance(prefix, str):
        merged.setdefault("archive_prefix", prefix)
    profile: Profile = PROFILE.read(merged, "")
    check_profile(profile)
    return profile


def resolve_mapping(definition: Definition) -> dict[str, Any]:
    """The merged, validated mapping with every default written out; it defines the same profile again."""
    return profile_as_mapping(resolve_profile(definition))


def merge(base: Mapping[str, Any], changes: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """``changes`` over ``base``: mappings merge, scalars and lists replace, ``None`` removes."""
    merged = dict(base)
    for key, value in changes.items():
        if value is None:
            if path == "components" and key not in base:
                raise ConfigurationError(
                    "expected a component that is there to be removed",
                    path=child(path, str(key)),
                    hint=did_you_mean(str(key), tuple(base)),
                )
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            inner = merged.get(key)
            merged[key] = merge(inner if isinstance(inner, Mapping) else {}, value, child(path, str(key)))
        else:
            merged[key] = value
    return merged


def profile_as_mapping(profile: Profile) -> dict[str, Any]:
    """The mapping that defines a profile, with every default written out."""
    mapping = _as_mapping(profile)
    mapping["components"] = {component.name: _component_as_mapping(component) for component in profile.components}
    return {key: value for key, value in mapping.items() if value != ""}


def resolve_application(
    profile: Definition,
    *,
    app: Optional[str] = None,
    root: Optional[str] = None,
    owner: Optional[str] = None,
    group: Optional[str] = None,
    backup_dir: Optional[str] = None,
    config_dir: Optional[str] = None,
    state_dir: Optional[str] = None,
    bin_dir: Optional[str] = None,
    become: bool = True,
    user_units: bool = False,
    gpg_recipients: tuple[str, ...] = (),
    passphrase_file: Optional[str] = None,
    host_key: bool = True,
) -> Application:
    """The application that a profile and the inputs of the playbooks define; empty inputs count as not given."""
    named = NAME.read(app, "app") if app else None
    resolved = resolve_profile(profile, default_name=named)
    # Without the system nothing changes owner, so that the name stands for nobody and need not be given.
    if become and not (owner or resolved.owner):
        raise ConfigurationError(
            f"the profile {resolved.name} names no account that its data belongs to",
            path="owner",
            hint="set tradekeep_owner to the account that the bot runs as",
        )
    account = _account("owner", owner or resolved.owner or ("" if become else app or resolved.name))
    group_name = _account("group", group or (resolved.group if not owner else "") or account)
    where = _directory("root", root or resolved.root)
    # The profile says the same as the application, so that both survive the configuration file alike.
    located = dataclasses.replace(resolved, root=where, owner=account, group=group_name)
    if become:
        # Commands of the bot's are the owner's, unless the profile says whose they are.
        commanded = tuple(
            dataclasses.replace(item, user=account)
            if item.manager is ServiceManager.COMMAND and item.user is None
            else item
            for item in located.services
        )
        located = dataclasses.replace(located, services=commanded)
    elif user_units:
        located = dataclasses.replace(located, services=services_of_the_account(located.services))
    application = Application(
        name=named or NAME.read(resolved.name, "app"),
        profile=located,
        root=BotPath(where),
        owner=account,
        group=group_name,
        backup_dir=OurPath(_directory("backup_dir", backup_dir or DEFAULT_BACKUP_DIR)),
        config_dir=OurPath(_directory("config_dir", config_dir or DEFAULT_CONFIG_DIR)),
        state_dir=OurPath(_directory("state_dir", state_dir or DEFAULT_STATE_DIR)),
        bin_dir=OurPath(_directory("bin_dir", bin_dir or DEFAULT_BIN_DIR)),
        system=become,
        user_units=user_units and not become,
        encryption=Encryption(
            recipients=ListOf(RECIPIENT).read(list(gpg_recipients), "gpg_recipients"),
            passphrase_file=SECRET_FILE.read(passphrase_file, "passphrase_file") if passphrase_file else None,
            host_key=host_key,
        ),
    )
    if any(WHOLE in component.paths for component in located.components):
        # Most have none, and need not load what looks for code.
        from .git.not_data import BesideData

        application = dataclasses.replace(
            application, profile=dataclasses.replace(located, not_data=BesideData(application))
        )
    check_application(application)
    return application


def _directory(key: str, value: str) -> str:
    text: str = ABSOLUTE_PATH.read(value, key)
    return text


def _account(key: str, value: str) -> str:
    text: str = ACCOUNT.read(value, key)
    return text


def _merged(definition: Union[str, Mapping[str, Any]]) -> dict[str, Any]:
    if isinstance(definition, str):
        return _built_in(definition, "profile")
    if not isinstance(definition, Mapping):
        raise wrong("profile", "a built-in's name or a mapping", definition)
    changes = {key: value for key, value in definition.items() if key != "extends"}
    base = definition.get("extends")
    return merge({} if base is None else _built_in(base, "extends"), changes)


def _built_in(name: Any, key: str) -> dict[str, Any]:
    if not isinstance(name, str):
        raise wrong(key, "the name of a built-in profile", name)
    if name not in BUILT_IN:
        raise ConfigurationError(
            f"expected a built-in profile, found {name!r}", path=key, hint=did_you_mean(name, built_in_names())
        )
    return dict(BUILT_IN[name])


def _component_as_mapping(component: Component) -> dict[str, Any]:
    mapping = _as_mapping(component)
    del mapping["name"]
    return mapping


def _as_mapping(value: Any) -> dict[str, Any]:
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {name: _as_plain(name, item) for name, item in fields.items() if item is not None and name != "not_data"}


def _as_plain(name: str, value: Any) -> Any:
    if name == "template":
        return copy.deepcopy(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, int) and (name == "mode" or name.endswith("_mode")):
        return f"{value:04o}"
    if isinstance(value, tuple):
        return [_as_plain("", item) for item in value]
    return _as_mapping(value) if dataclasses.is_dataclass(value) else value
