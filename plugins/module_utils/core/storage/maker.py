# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Who makes an application's backups here, and whose a backup is: by its sidecar, of one application on one host.

Several hosts may share a backup directory, some under one name, and a host may get another name. So beside the name of
the host a sidecar holds the number of the installation, which is drawn by its first backup and kept in the state
directory. Of older backups, which hold no number, the name of the host tells; of those without a name, nothing.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from ..application import Application
from ..host.files import atomic_write, make_private_directory
from ..host.filesystem.identity import with_privileges
from .backup import Backup, read_small
from .names import parse_name

INSTALLATION, HOST = "installation", "host"
"""Keys of a sidecar."""
NUMBER_FILE = "installation"
"""In the application's state directory."""
_NUMBER = re.compile(r"[0-9a-f]{16}")
_LETTERS = str.maketrans("0123456789", "ghijklmnop")


@dataclass(frozen=True)
class Maker:
    """An application on this host. installation: None until its first backup."""

    application: str
    prefix: str
    host: str
    installation: Optional[str] = None

    @property
    def tag(self) -> str:
        """What marks its own temporary files, in lower-case letters; empty before the first backup."""
        return (self.installation or "")[:8].translate(_LETTERS)

    def made_here(self, sidecar: Mapping[str, Any]) -> bool:
        """Whether a sidecar is of this installation, under whatever name of the host."""
        number, host = sidecar.get(INSTALLATION), sidecar.get(HOST)
        if isinstance(number, str):
            return number == self.installation
        return host == self.host if isinstance(host, str) else True

    def keeps_record_of(self, backup: Backup) -> bool:
        """Whether what is found of a backup belongs into the records of this host."""
        other = backup.application not in (None, self.application)
        return not other and (self.made_here(backup.sidecar) or backup.sidecar.get(HOST) == self.host)

    def owns(self, backup: Backup) -> bool:
        """Whether a backup is of this application and this installation."""
        return self.is_of_application(backup) and self.made_here(backup.sidecar)

    def owns_name(self, archive: str, sidecar: Mapping[str, Any]) -> bool:
        """The same of a file name; where no sidecar says it, the prefix decides."""
        application = sidecar.get("application")
        if isinstance(application, str):
            return application == self.application and self.made_here(sidecar)
        return parse_name(self.prefix, archive) is not None

    def visible(self, backups: Iterable[Backup], host: Optional[str] = None) -> list[Backup]:
        """Its own backups. While there are none, those of an earlier installation under this name of the host.

        host: instead those that were made on the host of this name, whatever the installation.
        """
        found = [item for item in backups if self.is_of_application(item)]
        if host is None:
            own = [item for item in found if self.made_here(item.sidecar)]
            if own:
                return own
            host = self.host
        return [item for item in found if item.sidecar.get(HOST) == host]

    def others(self, backups: Iterable[Backup]) -> dict[str, list[Backup]]:
        """The backups of this application by other installations, by the name of the host."""
        found: dict[str, list[Backup]] = {}
        for item in backups:
            if self.is_of_application(item) and not self.made_here(item.sidecar):
                host = str(item.sidecar.get(HOST) or "unknown")
                found.setdefault(host, []).append(item)
        return found

    def is_of_application(self, backup: Backup) -> bool:
        """Whether a backup is of the application of this name, on whatever host."""
        if backup.application is not None:
            return backup.application == self.application
        return parse_name(self.prefix, backup.name) is not None


@with_privileges
def maker_of(application: Application) -> Maker:
    """Who makes this application's backups. Writes nothing."""
    try:
        number = read_small(_file(application), 64).decode("ascii").strip()
    except (OSError, ValueError):
        number = ""
    return Maker(
        application.name,
        application.profile.archive_prefix,
        socket.gethostname(),
        number if _NUMBER.fullmatch(number) else None,
    )


@with_privileges
def established(application: Application, number: Optional[str] = None) -> Maker:
    """The same with a number; drawn and kept where there is none yet. The caller holds the application's lock.

    number: the one to keep where there is none.
    """
    maker = maker_of(application)
    if maker.installation is not None:
        return maker
    number = number or secrets.token_hex(8)
    make_private_directory(Path(application.application_state_dir))
    atomic_write(_file(application), f"{number}\n".encode("ascii"))
    return replace(maker, installation=number)


def _file(application: Application) -> Path:
    return Path(application.application_state_dir) / NUMBER_FILE
