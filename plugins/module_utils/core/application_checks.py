# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Where an application may live: the refusals that need the paths of the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from .application import Application
from .errors import ConfigurationError
from .patterns import Classifier

_SYSTEM_DIRECTORIES = frozenset(
    f"/{name}"
    for name in (
        *("", "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "proc", "root"),
        *("run", "sbin", "srv", "sys", "tmp", "usr", "var", "usr/bin", "usr/lib", "usr/local", "usr/sbin"),
        *("var/lib", "var/tmp"),
    )
)
_NOT_DISKS = ("/proc", "/sys", "/dev")


def check_application(application: Application) -> None:
    """Refuse a root or directories that an operation could not treat safely; raises ConfigurationError."""
    _check_root(application.root)
    for key, directory in _own_directories(application):
        _check_directory(application, key, directory)
    _check_encryption(application)


def _own_directories(application: Application) -> Iterator[tuple[str, PurePosixPath]]:
    yield "backup_dir", application.backup_dir
    yield "config_dir", application.config_dir
    yield "state_dir", application.state_dir
    yield "bin_dir", application.bin_dir


def _within(path: PurePosixPath, directory: PurePosixPath) -> bool:
    return path == directory or directory in path.parents


def _check_root(root: PurePosixPath) -> None:
    if str(root) in _SYSTEM_DIRECTORIES or any(_within(root, PurePosixPath(place)) for place in _NOT_DISKS):
        raise ConfigurationError(
            f"expected a directory of the bot's own, found {str(root)!r}", path="root", hint="for instance /opt/my_bot"
        )


def _check_directory(application: Application, key: str, directory: PurePosixPath) -> None:
    if str(directory) == "/" or any(_within(directory, PurePosixPath(place)) for place in _NOT_DISKS):
        raise ConfigurationError(f"expected a directory on a disk, found {str(directory)!r}", path=key)
    root = application.root
    if key == "backup_dir" and _within(root, directory):
        raise ConfigurationError(
            f"expected a root outside the backup directory, found {str(root)!r} inside {str(directory)!r}",
            path="root",
            hint="choose another backup_dir",
        )
    for component in application.profile.components:
        for path in component.paths:
            if key == "backup_dir" and _within(root / path, directory):
                raise _inside(key, directory, component.name, "around")
    if _within(directory, root) and directory != root:
        relative = directory.relative_to(root).as_posix()
        found = Classifier(application.profile, looking=False).directory(relative)
        if found is not None:
            raise _inside(key, directory, found.component.name, "inside")


def _inside(key: str, directory: PurePosixPath, component: str, how: str) -> ConfigurationError:
    return ConfigurationError(
        f"expected a directory apart from the data, found {str(directory)!r} {how} component {component}",
        path=key,
        hint="choose a directory outside, or exclude it from the component",
    )


def _check_encryption(application: Application) -> None:
    encryption = application.encryption
    if encryption.recipients and encryption.passphrase_file:
        raise ConfigurationError(
            "expected recipients or a passphrase file, found both", path="encryption", hint="remove one of the two"
        )
    if encryption.configured:
        _check_plain_archives(application)
        return
    for component in application.profile.components:
        if component.require_encryption:
            raise ConfigurationError(
                "expected recipients or a passphrase file to encrypt this component with, found neither",
                path=f"components.{component.name}.require_encryption",
                hint="set backup_gpg_recipients or backup_passphrase_file",
            )


def _check_plain_archives(application: Application) -> None:
    """There is a key: nothing secret may be in an archive that is not encrypted."""
    secret = application.secret_components
    for index, schedule in enumerate(application.profile.schedules):
        if schedule.encrypt is False and secret:
            raise ConfigurationError(
                f"expected true, as component {secret[0]} holds secrets and there is a key to encrypt it with",
                path=f"schedules[{index}].encrypt",
                hint="leave out encrypt: false; with backup: false a component is in no archive",
            )
