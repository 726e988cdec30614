# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whether an application's keys are what they should be, asked long before the day on which they are needed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ..application import Application
from ..archive.encryption import prove_round_trip, require_gpg
from ..archive.openpgp import LARGEST_KEY_FILE, keys_in
from ..archive.passphrase import read_passphrase
from ..errors import ConfigurationError, EncryptionError, TradekeepError
from ..formatting import pasted
from ..ports import Ports
from .keys import encryption_of, require_usable_keys


def readable_by_anybody(application: Application) -> Iterator[str]:
    """One line where there is no key and archives hold secrets."""
    secret = application.secret_components
    if secret and not application.encryption.configured:
        parts = f"{secret[0]}" if len(secret) == 1 else f"{', '.join(secret[:-1])} and {secret[-1]}"
        yield (
            f"there is no key to encrypt with: archives with {parts} are readable by whoever gets them; "
            "set backup_gpg_key_files, backup_gpg_recipients or backup_passphrase_file"
        )


def unseen_in_passphrase(application: Application) -> Iterator[str]:
    """One line where a passphrase file holds more than what a person would type."""
    path = application.encryption.passphrase_file
    with contextlib.suppress(EncryptionError):  # a problem of its own
        unseen = read_passphrase(path).unseen if path else ""
        if unseen:
            yield (
                f"{path}: {unseen} around the passphrase, left out for new archives: type it without; "
                "keep the file as it is while there are archives of a version that took it along"
            )


def key_problems(application: Application, ports: Ports) -> Iterator[TradekeepError]:
    """What will make backups, restores or drills fail, or gives a secret away."""
    yield from _secret_keys_lying_about(application)
    encryption = application.encryption
    if not encryption.configured:
        return
    missing = [item for item in encryption.recipients if "/" in item and not Path(item).is_file()]
    for recipient in missing:
        yield EncryptionError("the recipient's key file does not exist", path=recipient, hint="install it there")
    try:
        require_gpg(ports.runner)
        if encryption.passphrase_file is not None:
            read_passphrase(encryption.passphrase_file)
        if application.uses_host_key and os.path.isfile(application.host_secret_key):
            _check_mode(application)
    except TradekeepError as error:
        yield error


def host_key_warnings(application: Application) -> Iterator[str]:
    """Where the host is to have a key and has none: nothing fails but that it can restore and drill by itself."""
    places = (application.host_secret_key, application.host_public_key)
    if application.uses_host_key and not all(os.path.isfile(path) for path in places):
        yield str(
            EncryptionError(
                "this host has no key of its own yet, so that it cannot read its new backups",
                path=application.host_key_dir,
                hint="run the playbook site, or set backup_host_key: false",
            )
        )


def prove_keys(application: Application, ports: Ports, recovery_key: Optional[str]) -> None:
    """Decrypt a sample with each key that is here: a passphrase, the host's own, and a recovery key for this once.

    Where there is none, at least every recipient's key must be good to encrypt to.
    """
    encryption = encryption_of(application)
    own = str(application.host_secret_key)
    has_own = application.uses_host_key and str(application.host_public_key) in encryption.recipients
    if encryption.passphrase_file is not None or recovery_key is not None:
        prove_round_trip(
            encryption,
            runner=ports.runner,
            secret_key_file=recovery_key,
            passphrase_file=encryption.passphrase_file,
        )
    if has_own and os.path.isfile(own):
        prove_round_trip(encryption, runner=ports.runner, secret_key_file=own)
    elif recovery_key is None:
        require_usable_keys(application, ports)


def _check_mode(application: Application) -> None:
    path = application.host_secret_key
    if os.stat(path).st_mode & 0o077:
        raise EncryptionError("the host's key can be read by others", path=path, hint=f"chmod 600 {pasted(path)}")


def _secret_keys_lying_about(application: Application) -> Iterator[TradekeepError]:
    """In the directory of public keys, which everybody can read."""
    directory = Path(application.public_key_dir).parent
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                secret = keys_in(file.read(LARGEST_KEY_FILE)).secret
            if secret:
                yield ConfigurationError(
                    "a secret key lies among the public ones, where others may have read it",
                    path=path,
                    hint=f"shred -u {path}, make a new key pair, and install its public half",
                )
