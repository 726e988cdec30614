# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Who signed a commit or tag: by ssh keys (an allowed_signers file) or by gpg keys (a keyring), and by no others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..errors import ConfigurationError, FindingsError
from ..host.account import command_as, environment_of
from ..host.files import os_errors
from ..host.filesystem.identity import privileged
from ..host.trust import read_trusted
from ..ports import Completed
from .process import Git, private_directory
from .refs import Resolved

_SSH_GOOD = re.compile(r'^Good "git" signature for (.*) with (\S+) key (\S+)$', re.MULTILINE)
_GPG_GOOD = re.compile(r"^\[GNUPG:\] GOODSIG \S+ (.*)$", re.MULTILINE)
_GPG_VALID = re.compile(r"^\[GNUPG:\] VALIDSIG (\S+)", re.MULTILINE)
_ARMOR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_KEY_TYPE = re.compile(rb"\s(sk-)?(ssh|ecdsa)-[a-z0-9@.-]+\s+[A-Za-z0-9+/]")
_LIMIT = 8 * 1024 * 1024


@dataclass(frozen=True)
class Signature:
    """A good signature. what: "tag" or "commit"; format: "ssh" or "gpg"; key: the fingerprint."""

    what: str
    format: str
    signer: str
    key: str


def verify(git: Git, target: Resolved, signers: Path) -> Signature:
    """The signature of the tag, where it has one, else of the commit; raises FindingsError where neither is good.

    The owner's own git and gpg settings do not count, whatever they trust.
    """
    content = _read(signers)
    ssh = not _is_keyring(content, signers)
    with private_directory(git.account, {"signers": content}) as scratch:
        verifying = git.also(
            environment={"GIT_CONFIG_GLOBAL": "/dev/null", "GNUPGHOME": str(scratch)},
            settings=(
                "gpg.program=gpg",
                "gpg.openpgp.program=gpg",
                "gpg.ssh.program=ssh-keygen",
                "gpg.x509.program=false",
                "gpg.minTrustLevel=undefined",
                "gpg.ssh.revocationFile=",
                f"gpg.ssh.allowedSignersFile={scratch / 'signers' if ssh else '/dev/null'}",
            ),
        )
        try:
            if not ssh:
                _import(git, scratch)
            return _first_good(verifying, target)
        finally:
            if not ssh:
                _gpg(git, scratch, "gpgconf", "--kill", "all")


def _first_good(git: Git, target: Resolved) -> Signature:
    said = ""
    for what, number in (("tag", target.tag), ("commit", target.commit)):
        if number is not None:
            completed = git.run(f"verify-{what}", "--raw", number, check=False)
            found = _signature(what, completed)
            if found is not None:
                return found
            said = said or completed.stderr.strip()
    unsigned = not said or "no signature found" in said
    raise FindingsError(
        "is not signed" if unsigned else f"has no good signature of an allowed signer: {_reason(said)}",
        path=f"{target.ref} ({target.commit[:12]})",
        hint="sign it with a key that is listed, or add the key to the signers",
    )


def _signature(what: str, completed: Completed) -> Optional[Signature]:
    if completed.status != 0:
        return None
    good = _SSH_GOOD.search(completed.stderr)
    if good is not None:
        return Signature(what, "ssh", good[1], good[3])
    signed, valid = _GPG_GOOD.search(completed.stderr), _GPG_VALID.search(completed.stderr)
    return Signature(what, "gpg", signed[1], valid[1]) if signed and valid else None


def _reason(said: str) -> str:
    for sign, meaning in (
        ("NO_PUBKEY", "the key is not in the keyring"),
        ("No principal matched", "the key is not in the signers file"),
        ("REVKEYSIG", "the key is revoked"),
        ("EXPKEYSIG", "the key is expired"),
        ("EXPSIG", "the signature is expired"),
        ("BADSIG", "the signature is bad"),
    ):
        if sign in said:
            return meaning
    return said.splitlines()[-1][:200]


def _import(git: Git, home: Path) -> None:
    completed = _gpg(git, home, "gpg", "--batch", "--quiet", "--no-autostart", "--import", "--", str(home / "signers"))
    if completed.status != 0:
        last = completed.stderr.strip().splitlines()[-1:] or [""]
        raise ConfigurationError(f"is not a keyring of gpg: {last[0]}", path="signers")


def _gpg(git: Git, home: Path, *argv: str) -> Completed:
    environment = {**environment_of(git.account), "GNUPGHOME": str(home)}
    return git.runner.run(command_as(git.account, argv), environment=environment, timeout_seconds=60, check=False)


def _read(signers: Path) -> bytes:
    with os_errors(signers), privileged():
        return read_trusted(signers, what="the list of signers", limit=_LIMIT)


def _is_keyring(content: bytes, path: Path) -> bool:
    """Whether the file is a keyring of gpg; raises where it is neither that nor a list of ssh keys."""
    if _ARMOR in content:
        return True
    if content[:1] and content[0] & 0x80:  # the first byte of every OpenPGP packet (RFC 4880, 4.2)
        return True
    if _KEY_TYPE.search(content):
        return False
    raise ConfigurationError(
        "is neither an allowed_signers file of ssh nor a keyring of gpg",
        path=path,
        hint="see ssh-keygen(1), ALLOWED SIGNERS",
    )
