# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which keys there are: what archives are encrypted to, who can open one, and whether this host can.

Beside the public keys of people a host has one of its own, unless that is switched off. Its secret half lies in a
directory that root alone can enter, so that restores and drills need nobody. It opens what this host made and no more.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Optional

from ..application import Application, Encryption
from ..archive.encryption import import_recipients, is_encrypted, require_gpg, temporary_home
from ..archive.key_pair import public_key_ids, secret_key_ids
from ..archive.openpgp import HEAD, LARGEST_KEY_FILE, MessageKeys, keys_in, message_keys
from ..archive.passphrase import read_passphrase
from ..archive.recipients import fingerprints_to_use, said_of_expiring, said_of_unusable
from ..errors import ArchiveError, EncryptionError, TradekeepError
from ..host.filesystem.identity import with_privileges
from ..ports import Ports
from ..storage.local import Backup, LocalCatalog
from .reading import home_of_key

ANYBODY, PASSPHRASE, THIS_HOST = "anybody", "the passphrase", "this host"


@with_privileges
def encryption_of(application: Application) -> Encryption:
    """What archives are encrypted with: as configured, and the host's own key where there is one."""
    encryption = application.encryption
    if not application.uses_host_key or not os.path.isfile(application.host_public_key):
        return encryption
    own = str(application.host_public_key)
    return replace(encryption, recipients=(*encryption.recipients, own), own_key=own)


@with_privileges
def require_usable_keys(application: Application, ports: Ports) -> None:
    """Prove that archives can be encrypted, before an operation begins that has to. Raises EncryptionError."""
    encryption = encryption_of(application)
    if not encryption.configured:
        return
    require_gpg(ports.runner)
    if encryption.passphrase_file is not None:
        read_passphrase(encryption.passphrase_file)
        return
    with temporary_home(ports.runner) as home:
        fingerprints_to_use(import_recipients(encryption.recipients, home, ports.runner), encryption.own_key)


@with_privileges
def told_of_keys(application: Application, ports: Ports) -> tuple[list[str], list[str]]:
    """What is to be said of keys that archives are not encrypted to any more, and of those that expire soon.

    Raises EncryptionError where nothing can be encrypted.
    """
    encryption = encryption_of(application)
    if not encryption.recipients:
        return [], []
    require_gpg(ports.runner)
    with temporary_home(ports.runner) as home:
        keys = import_recipients(encryption.recipients, home, ports.runner)
    fingerprints_to_use(keys, encryption.own_key)
    return said_of_unusable(keys), said_of_expiring(keys, ports.clock.now())


@with_privileges
def keys_of_archive(path: Path) -> Optional[MessageKeys]:
    """What opens an archive; None where anybody can read it."""
    try:
        head = _start_of(path, HEAD)
    except OSError as error:
        raise ArchiveError(f"cannot be opened: {error.strerror}", path=path) from error
    return message_keys(head) if is_encrypted(head) else None


@with_privileges
def host_key_for(application: Application, path: Path) -> Optional[str]:
    """The file with this host's secret key, where that opens the archive."""
    if not os.path.isfile(application.host_secret_key):
        return None
    keys = keys_of_archive(path)
    if keys is None or not _ids_in_file(application.host_public_key) & set(keys.key_ids):
        return None
    return str(application.host_secret_key)


def home_for(
    application: Application, path: Path, key_file: Optional[str], ports: Ports
) -> AbstractContextManager[Optional[str]]:
    """A gpg home with what opens an archive: the key that is given, else the host's own where that opens it.

    None, for the account's own keyring, where it does not.
    """
    if key_file is None and (own := host_key_for(application, path)) is not None:
        return home_of_key(own, ports)
    return home_of_key(key_file, ports)


class Keys:
    """Who can open which archive. Programs are asked once, and only where the answer is needed.

    passphrase_file: what archives to a passphrase are opened with here. keyring: whether the secret keys of who runs
    this count, as they do for a restore.
    """

    def __init__(
        self, application: Application, ports: Ports, *, passphrase_file: Optional[str] = None, keyring: bool = True
    ) -> None:
        self._application = application
        self._ports = ports
        self._passphrase = passphrase_file is not None
        self._keyring = keyring
        self._names: Optional[dict[str, str]] = None
        self._ours: Optional[frozenset[str]] = None

    def opened_by(self, path: Path) -> tuple[str, ...]:
        """The names of the keys that open an archive, as people know them."""
        keys = keys_of_archive(path)
        if keys is None:
            return (ANYBODY,)
        names = [self._name(key_id) for key_id in keys.key_ids]
        return tuple(dict.fromkeys([*names, *([PASSPHRASE] if keys.passphrase else [])]))

    def can_read(self, path: Path) -> bool:
        """Whether this host holds what opens an archive. What does not say what opens it has to be tried."""
        keys = keys_of_archive(path)
        if keys is None or not (keys.key_ids or keys.passphrase) or (keys.passphrase and self._passphrase):
            return True
        if host_key_for(self._application, path) is not None:
            return True
        return bool(self._in_keyring() & set(keys.key_ids)) or any(not key_id.strip("0") for key_id in keys.key_ids)

    def require(self, path: Path) -> None:
        """Raises EncryptionError, saying who can read it, where this host cannot."""
        if not self.can_read(path):
            keys = keys_of_archive(path)
            names = " or ".join(self.opened_by(path))
            if keys is not None and keys.passphrase and not keys.key_ids:
                raise EncryptionError(
                    "backup is encrypted with a passphrase", path=path, hint="name the passphrase file"
                )
            raise EncryptionError(
                f"no secret key for this backup on this host; it opens with {names}",
                path=path,
                hint="name a file with that secret key: --key FILE",
            )

    def newest_readable(self, backups: Iterable[Backup]) -> Optional[Backup]:
        """The first that this host can read. What is newer than that is noted, with who can read it."""
        newer: Optional[Backup] = None
        for backup in backups:
            if self.can_read(backup.path):
                if newer is not None:
                    self._ports.progress.note(self.passed_over(newer, backup))
                return backup
            newer = newer or backup
        return None

    def passed_over(self, newer: Backup, taken: Backup) -> str:
        """Why not the newest."""
        names = " or ".join(self.opened_by(newer.path))
        return f"{newer.name} is newer, but this host cannot read it: it opens with {names}; taking {taken.name}"

    def _name(self, key_id: str) -> str:
        if self._names is None:
            self._names = self._known_names()
        return self._names.get(key_id, f"key {key_id}")

    def _known_names(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for recipient in self._application.encryption.recipients:
            found.update(dict.fromkeys(self._ids_of(recipient), _short(recipient)))
        found.update(dict.fromkeys(_ids_in_file(self._application.host_public_key), THIS_HOST))
        return found

    def _ids_of(self, recipient: str) -> frozenset[str]:
        if "/" in recipient:
            return _ids_in_file(PurePosixPath(recipient))
        with suppress(TradekeepError):
            return public_key_ids(recipient, self._ports.runner)
        return frozenset()

    def _in_keyring(self) -> frozenset[str]:
        if self._ours is None:
            self._ours = frozenset()
            if self._keyring and self._ports.runner.find("gpg") is not None:
                with suppress(TradekeepError):
                    self._ours = secret_key_ids(None, self._ports.runner)
        return self._ours


def find_to_read(
    application: Application, ports: Ports, reference: str, *, passphrase_file: Optional[str], key_given: bool
) -> Backup:
    """The backup that a reference stands for. ``latest`` is the newest good one that this host can read.

    With a key that is given for it ``latest`` is the newest: that key has to open it. Raises EncryptionError, saying
    who can read it, where this host cannot.
    """
    catalog = LocalCatalog(application, ports.clock, note=ports.progress.note)
    backup = catalog.find(reference)
    if key_given:
        return backup
    keys = Keys(application, ports, passphrase_file=passphrase_file)
    if reference == "latest" and not keys.can_read(backup.path):
        candidates = [item for item in catalog.list() if item.good and not item.is_safety]
        backup = keys.newest_readable(candidates) or backup
    keys.require(backup.path)
    return backup


def _short(recipient: str) -> str:
    """A recipient as people call it: the name of its file, or the end of its fingerprint."""
    return PurePosixPath(recipient).stem if "/" in recipient else f"key {recipient[-16:]}"


@with_privileges
def _ids_in_file(path: PurePosixPath) -> frozenset[str]:
    try:
        return keys_in(_start_of(path, LARGEST_KEY_FILE)).key_ids
    except OSError:
        return frozenset()


def _start_of(path: os.PathLike[str], limit: int) -> bytes:
    """The first bytes of a regular file. Nothing else is waited for, wherever a person's path leads."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return file.read(limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
