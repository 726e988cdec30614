# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Who signed a commit or tag: by ssh keys (an allowed_signers file) or by gpg keys (a keyring), and by no others.

Whether a key is expired or revoked is judged at the time of the deploy. The dates in commits, tags and signatures are
chosen by whoever signs: a signer whose time is over could date a commit back into it. gpg compares with the present
time; git has ssh-keygen compare with the date of the commit, so an ssh signature is verified a second time, without
that date. A commit of a signer who was removed since must therefore be signed anew (or a tag on it) before it is
deployed; a rollback goes to what was deployed on this host before, and asks no signer.

The list of signers is the file that the profile names, copied for this one verification. Neither the owner's own lists,
keyrings and settings count, nor those of the repository.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..errors import CommandError, ConfigurationError, FindingsError
from ..host.account import command_as, environment_of
from ..host.files import os_errors
from ..host.filesystem.identity import privileged
from ..host.trust import read_trusted
from ..ports import Completed
from .process import Git, private_directory, readable
from .refs import Resolved

_SSH_GOOD = re.compile(r'^Good "git" signature for (.*) with (\S+) key (\S+)$', re.MULTILINE)
_GPG_GOOD = re.compile(r"^\[GNUPG:\] GOODSIG \S+ (.*)$", re.MULTILINE)
_GPG_VALID = re.compile(r"^\[GNUPG:\] VALIDSIG (\S+)", re.MULTILINE)
_ARMOR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_KEY_TYPE = re.compile(rb"\s(sk-)?(ssh|ecdsa)-[a-z0-9@.-]+\s+[A-Za-z0-9+/]")
_LIMIT = 8 * 1024 * 1024
_SIGNATURE_HEADERS = (b"gpgsig ", b"gpgsig-sha256 ")
_SIGNATURE_IN_TAG = b"-----BEGIN SSH SIGNATURE-----\n"
_NOT_NOW = "its signer is not valid now, whatever date it has"
# The states of a signature, of which a good one has GOODSIG alone (doc/DETAILS of gpg).
_GPG_STATES = re.compile(r"^\[GNUPG:\] (GOODSIG|EXPSIG|EXPKEYSIG|REVKEYSIG|BADSIG|ERRSIG) ", re.MULTILINE)


@dataclass(frozen=True)
class Signature:
    """A good signature. what: "tag" or "commit"; format: "ssh" or "gpg"; key: the fingerprint."""

    what: str
    format: str
    signer: str
    key: str


def verify(git: Git, target: Resolved, signers: Path) -> Signature:
    """The signature of the tag, where it has one, else of the commit; raises FindingsError where neither is good.

    The owner's own git and gpg settings do not count, whatever they trust; nor do the dates in the commit.
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
            return _first_good(verifying, target, content if ssh else None)
        finally:
            if not ssh:
                _gpg(git, scratch, "gpgconf", "--kill", "all")


def _first_good(git: Git, target: Resolved, ssh_signers: Optional[bytes]) -> Signature:
    said = ""
    for what, number in (("tag", target.tag), ("commit", target.commit)):
        if number is None:
            continue
        completed = git.run(f"verify-{what}", "--raw", number, check=False)
        found = _signature(what, completed)
        if found is not None and (ssh_signers is None or _is_good_now(git, what, number, ssh_signers)):
            return found
        said = said or (completed.stderr.strip() if found is None else _NOT_NOW)
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
    if _GPG_STATES.findall(completed.stderr) != ["GOODSIG"]:
        return None
    signed, valid = _GPG_GOOD.search(completed.stderr), _GPG_VALID.search(completed.stderr)
    return Signature(what, "gpg", signed[1], valid[1]) if signed and valid else None


def _is_good_now(git: Git, what: str, number: str, signers: bytes) -> bool:
    """Whether the ssh signature, which git has found good at the date of the commit or tag, is good at this moment."""
    payload, signature = _parted(git.read("cat-file", what, number), what)
    with private_directory(git.account, {"signers": signers, "signature": signature}) as scratch:
        files = ("-f", str(scratch / "signers"), "-s", str(scratch / "signature"))
        found = _ssh_keygen(git, b"", "find-principals", *files) or ""
        return any(
            _ssh_keygen(git, payload, "verify", "-n", "git", "-I", principal, *files) is not None
            for principal in found.splitlines()
        )


def _ssh_keygen(git: Git, given: bytes, action: str, *arguments: str) -> Optional[str]:
    """What ssh-keygen says, judging by the present time; None where it refuses."""
    argv = command_as(git.account, ["ssh-keygen", "-Y", action, *arguments])
    with readable(given) as stdin:
        pipe = git.runner.pipe(argv, stdin=stdin, environment=environment_of(git.account))
        try:
            said: bytes = pipe.stdout.read()
            pipe.finish()
        except CommandError:
            return None
        except BaseException:
            pipe.kill()
            raise
        finally:
            pipe.stdout.close()
    return said.decode("utf-8", "surrogateescape")


def _parted(content: bytes, what: str) -> tuple[bytes, bytes]:
    """What was signed, and the signature: a header of a commit, and the end of a tag (gitformat-signature(5))."""
    if what == "tag":
        start = content.rfind(b"\n" + _SIGNATURE_IN_TAG) + 1
        return content[:start], content[start:]
    headers, gap, message = content.partition(b"\n\n")
    kept: list[bytes] = []
    signature: list[bytes] = []
    chosen = kept
    for line in headers.split(b"\n"):
        if not line.startswith(b" "):
            chosen = signature if line.startswith(_SIGNATURE_HEADERS) else kept
            line = line.partition(b" ")[2] if chosen is signature else line
        elif chosen is signature:
            line = line[1:]
        chosen.append(line)
    return b"\n".join(kept) + gap + message, b"\n".join(signature) + b"\n"


def _reason(said: str) -> str:
    for sign, meaning in (
        ("NO_PUBKEY", "the key is not in the keyring"),
        ("No principal matched", "the key is not in the signers file, or was not valid at the date of the commit"),
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
