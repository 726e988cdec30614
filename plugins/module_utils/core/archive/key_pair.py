# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Making a key pair, and asking which secret keys there are. The secret half is given back and kept nowhere."""

from __future__ import annotations

import os
import re
from typing import Optional

from ..errors import CommandError, EncryptionError
from ..host.runner import home_directory
from ..ports import Runner
from .encryption import GPG, QUIET, as_encryption_error, import_secret_key, require_gpg, temporary_home

# A certificate that says no more than it must, and a subkey to encrypt to. The date is one that no clock lies before:
# gpg does not encrypt to a key that was made in the future, and the clock of a new server may be ahead.
_PARAMETERS = """\
%no-protection
Key-Type: EDDSA
Key-Curve: ed25519
Key-Usage: cert
Subkey-Type: ECDH
Subkey-Curve: cv25519
Subkey-Usage: encrypt
Creation-Date: 20200101T000000
Expire-Date: 0
Name-Real: {name}
%commit
"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{4,100}")


def make_key_pair(name: str, runner: Runner) -> tuple[str, str]:
    """A new key pair without a passphrase: the public half and the secret one, armored."""
    if not _NAME.fullmatch(name):
        raise EncryptionError("not a name for a key", path=name)
    require_gpg(runner)
    with temporary_home(runner) as home:
        _ask(runner, home, "--generate-key", input_text=_PARAMETERS.format(name=name))
        public = _ask(runner, home, "--armor", "--export")
        secret = _ask(runner, home, "--armor", "--export-secret-keys")
    if "PUBLIC KEY BLOCK" not in public or "PRIVATE KEY BLOCK" not in secret:
        raise EncryptionError("gpg made no key pair", path=GPG, hint="look at gpg --version; 2.2 or newer is needed")
    return public, secret


def public_half_of(secret_key_file: str, runner: Runner) -> str:
    """The public half of a secret key in a file, armored."""
    with temporary_home(runner) as home:
        import_secret_key(secret_key_file, home, runner)
        return _ask(runner, home, "--armor", "--export")


def secret_key_ids(home: Optional[str], runner: Runner) -> frozenset[str]:
    """The key IDs of the secret keys in a gpg home, subkeys included; None for the home of who runs this."""
    if home is None and not os.path.isdir(f"{home_directory()}/.gnupg"):
        # gpg would make it.
        return frozenset()
    lines = _ask(runner, home, "--with-colons", "--list-secret-keys").splitlines()
    fields = [line.split(":") for line in lines if line.startswith(("sec:", "ssb:"))]
    # "#": the secret half of that key is not there.
    return frozenset(item[4].upper() for item in fields if len(item) > 14 and item[14] != "#")


def public_key_ids(fingerprint: str, runner: Runner) -> frozenset[str]:
    """The key IDs of a key in the keyring of who runs this, subkeys included."""
    if not os.path.isdir(f"{home_directory()}/.gnupg"):
        return frozenset()
    lines = _ask(runner, None, "--with-colons", "--list-keys", "--", fingerprint).splitlines()
    fields = [line.split(":") for line in lines if line.startswith(("pub:", "sub:"))]
    return frozenset(item[4].upper() for item in fields if len(item) > 4)


def _ask(runner: Runner, home: Optional[str], *arguments: str, input_text: Optional[str] = None) -> str:
    argv = (GPG, *QUIET, *(("--homedir", home) if home else ()), *arguments)
    try:
        return runner.run(argv, input_text=input_text, timeout_seconds=120).stdout
    except CommandError as error:
        raise as_encryption_error(error) from error
