# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The configuration on the host, ``<config_dir>/<app>.json``: one application with its whole profile.

The text is stable (sorted keys, one newline at the end), so that installing it twice changes nothing. It names key
files and never holds a key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional, Union

from .application import Application
from .errors import ConfigurationError, UsageError
from .host.trust import read_trusted
from .profile import DEFAULT_CONFIG_DIR, profile_as_mapping, resolve_application
from .schema import Flag, ListOf, Table, child, did_you_mean, wrong
from .vocabulary import ABSOLUTE_PATH, ACCOUNT, NAME, RECIPIENT, SECRET_FILE, parse_name

CONFIGURATION_VERSION = 1

_APPLICATION = Table(
    {
        "name": NAME,
        "root": ABSOLUTE_PATH,
        "owner": ACCOUNT,
        "group": ACCOUNT,
        "backup_dir": ABSOLUTE_PATH,
        "config_dir": ABSOLUTE_PATH,
        "state_dir": ABSOLUTE_PATH,
        "bin_dir": ABSOLUTE_PATH,
        "system": Flag(),
        "user_units": Flag(),
        "encryption": Table({"recipients": ListOf(RECIPIENT), "passphrase_file": SECRET_FILE, "host_key": Flag()}),
    },
    required=("name", "root", "owner", "group", "backup_dir", "config_dir", "state_dir", "bin_dir", "system"),
)
_KEYS = ("version", "application", "profile")
_SHOWN = frozenset(
    """archive_prefix check_level components compression description drill full_check_tiers group home
    maximum_row_loss_percent name owner retention root root_mode schedules""".split()  # noqa: SIM905 (words, not thirty lines of one each)
)
"""Keys of a profile that hold no secret. A command, an address or a template may."""
_TEMPLATE = "template"


def application_as_dict(application: Application) -> dict[str, Any]:
    """The configuration of an application as a mapping, as the file holds it and ``config show`` prints it."""
    encryption = application.encryption
    return {
        "version": CONFIGURATION_VERSION,
        "application": {
            "name": application.name,
            "root": str(application.root),
            "owner": application.owner,
            "group": application.group,
            "backup_dir": str(application.backup_dir),
            "config_dir": str(application.config_dir),
            "state_dir": str(application.state_dir),
            "bin_dir": str(application.bin_dir),
            "system": application.system,
            # Left out elsewhere: what earlier versions wrote stays as it is.
            **({"user_units": True} if application.user_units else {}),
            "encryption": {
                "recipients": list(encryption.recipients),
                "passphrase_file": encryption.passphrase_file,
                "host_key": encryption.host_key,
            },
        },
        "profile": profile_as_mapping(application.profile),
    }


def render_configuration(application: Application) -> str:
    """The text of the configuration file; equal applications give equal bytes."""
    document = application_as_dict(application)
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def shown_configuration(text: Union[str, bytes]) -> dict[str, Any]:
    """A configuration for a diff: whole, but for what may hold a secret, of which there is a digest.

    One that cannot be read is a digest altogether.
    """
    try:
        document = _load_json(text, "configuration")
        profile = {key: (_shown if key in _SHOWN else _digest)(value) for key, value in document["profile"].items()}
        return {"application": dict(document["application"]), "profile": profile, "version": document["version"]}
    except (ConfigurationError, AttributeError, KeyError, TypeError, ValueError):
        return {"unreadable": _digest(str(text))}


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _digest(item) if key == _TEMPLATE else _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _digest(value: Any) -> Any:
    """Of what may be secret: each text, and each list of words. What is empty, and a number, is not."""
    if isinstance(value, Mapping):
        return {key: _digest(item) for key, item in value.items()}
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [_digest(item) for item in value]
    if not value or isinstance(value, (bool, int, float)):
        return value
    return f"sha256:{hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]}"


def parse_configuration(text: Union[str, bytes], *, path: object) -> Application:
    """The application that the text of a configuration file defines; every error names the file and the key."""
    document = _load_json(text, path)
    try:
        return _application(document)
    except ConfigurationError as error:
        # The key alone does not tell a person which of several files to open.
        where = str(path) if error.path is None else f"{path}: {error.path}"
        raise ConfigurationError(error.message, path=where, hint=error.hint) from None


def load_application(
    *, config_file: Optional[str] = None, app: Optional[str] = None, config_dir: str = DEFAULT_CONFIG_DIR
) -> Application:
    """The application of a file, or of a name; without either, the only one that is configured.

    Raises ConfigurationError where the file is not of the application that is named.
    """
    if config_file:
        found = _read(Path(config_file))
        if app and found.name != app:
            raise ConfigurationError(
                f"is the configuration of {found.name}, and not of {app}",
                path=config_file,
                hint="leave out --config or --app",
            )
        return found
    if app:
        return _read(_file_of(app, Path(config_dir)))
    return _read(_only_file(Path(config_dir)))


def configured_names(config_dir: str = DEFAULT_CONFIG_DIR) -> tuple[str, ...]:
    """The names of the configured applications, sorted; none where the directory does not exist."""
    return tuple(file.stem for file in _files(Path(config_dir)))


def _read(file: Path) -> Application:
    try:
        content = read_trusted(file, what="the configuration")
    except FileNotFoundError:
        raise ConfigurationError(
            "the configuration does not exist", path=file, hint="install it with the role runtime"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the configuration: {error.strerror}", path=file, hint="run as root or as its owner"
        ) from None
    return _parsed(content, str(file))


@lru_cache(maxsize=64)
def _parsed(content: bytes, path: str) -> Application:
    """An application cannot change; what others claim of a host is asked for by several steps of one run."""
    return parse_configuration(content, path=path)


def _files(directory: Path) -> list[Path]:
    try:
        return sorted(file for file in directory.iterdir() if file.suffix == ".json" and not file.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(
            f"cannot list the configurations: {error.strerror}", path=directory, hint="run as root or as its owner"
        ) from None


def _file_of(app: str, directory: Path) -> Path:
    try:
        file = directory / f"{parse_name(app)}.json"
    except ValueError as reason:
        raise UsageError(f"expected the name of an application, found {app!r}: {reason}") from None
    names = [known.stem for known in _files(directory)]
    if app not in names:
        raise UsageError(f"no application {app!r} is configured", path=directory, hint=did_you_mean(app, names))
    return file


def _only_file(directory: Path) -> Path:
    files = _files(directory)
    if not files:
        raise UsageError("no application is configured", path=directory, hint="run the playbook tradekeep.ops.site")
    if len(files) > 1:
        raise UsageError(
            "several applications are configured",
            path=directory,
            hint=f"choose --app {' or '.join(f.stem for f in files)}",
        )
    return files[0]


def _load_json(text: Union[str, bytes], path: object) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_refuse_constant)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=path, hint=error.hint) from None
    except RecursionError:
        raise ConfigurationError("the configuration is nested too deeply", path=path) from None
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"the configuration is not JSON: {error.msg} at line {error.lineno}, column {error.colno}", path=path
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError("the configuration is not UTF-8 text", path=path) from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        keys = [key for key, _value in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ConfigurationError(f"expected each key once, found {twice!r} twice")
    return document


def _refuse_constant(word: str) -> Any:
    raise ConfigurationError(f"the configuration is not JSON: {word}")


def _application(document: Any) -> Application:
    if not isinstance(document, Mapping):
        raise wrong("", "a mapping", document)
    _check_version(document.get("version"))
    for key in document:
        if key not in _KEYS:
            raise ConfigurationError("unknown key", path=key, hint=did_you_mean(key, _KEYS))
    fields = _APPLICATION.read(document.get("application"), "application")
    try:
        return _resolve(fields, document.get("profile"))
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=_located(error.path, fields), hint=error.hint) from None


def _check_version(version: Any) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ConfigurationError(f"expected the number {CONFIGURATION_VERSION}", path="version")
    if version > CONFIGURATION_VERSION:
        raise ConfigurationError(
            f"made by a newer tradekeep: version {version}, this one reads {CONFIGURATION_VERSION}",
            path="version",
            hint="install that tradekeep here, or run the role runtime again",
        )


def _resolve(fields: dict[str, Any], profile: Any) -> Application:
    if not isinstance(profile, Mapping):
        raise wrong("profile", "a mapping", profile)
    encryption = fields.get("encryption", {})
    return resolve_application(
        profile if "host_key" in encryption else _without_old_defaults(profile),
        app=fields["name"],
        root=fields["root"],
        owner=fields["owner"],
        group=fields["group"],
        backup_dir=fields["backup_dir"],
        config_dir=fields["config_dir"],
        state_dir=fields["state_dir"],
        bin_dir=fields["bin_dir"],
        become=fields["system"],
        user_units=fields.get("user_units", False),
        gpg_recipients=encryption.get("recipients", ()),
        passphrase_file=encryption.get("passphrase_file"),
        host_key=encryption.get("host_key", True),
    )


def _without_old_defaults(profile: Mapping[str, Any]) -> dict[str, Any]:
    """The profile of a file that an earlier version wrote: "encrypt: false" was the default then, and nobody's wish."""
    schedules = profile.get("schedules")
    if not isinstance(schedules, list):
        return dict(profile)
    kept = [
        {key: value for key, value in item.items() if (key, value) != ("encrypt", False)}
        if isinstance(item, Mapping)
        else item
        for item in schedules
    ]
    return {**profile, "schedules": kept}


def _located(key: Optional[str], fields: Mapping[str, Any]) -> Optional[str]:
    """The path of a key in the file: of the application where it has that key, else of the profile."""
    if key is None or key == "profile":
        return key
    if key in fields:
        return child("application", key)
    return child("profile", key)
