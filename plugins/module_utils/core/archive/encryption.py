# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Encryption by gpg: to public keys, so that the host cannot read its own backups, or with a passphrase from a file.

Keys live in a private, temporary gpg home that is removed with its agent; no secret is ever an argument. Root reads
files with keys and passphrases only where nobody else can change them (``host/trust.py``), and makes homes only there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ..application import Encryption
from ..errors import CommandError, EncryptionError, TradekeepError
from ..host.filesystem.scratch import scratch_directory, sweep
from ..host.trust import require_trusted, untrusted_level
from ..ports import Runner
from .openpgp import LARGEST_KEY_FILE, keys_in
from .passphrase import Passphrase, passed_on, read_passphrase
from .recipients import PublicKey, fingerprints_to_use, keys_listed
from .streams import Chunks, ProgramStage, Stage, through_program
from .tar_headers import begins_as_tar

GPG = "gpg"
_PURPOSE = "gpg"
_LONGEST_PLACE = 107 - len("/.tradekeep-gpg-1234567-0123456789abcdef/S.gpg-agent.browser")
"""The path of a Unix socket has at most 107 bytes."""
_ARMOR = b"-----BEGIN PGP MESSAGE-----"
QUIET = ("--batch", "--no-tty", "--quiet", "--yes", "--no-options", "--pinentry-mode", "loopback")
_OTHER_WORDS = "wrong passphrase"
_PUBLIC_KEY_PACKET, _PASSPHRASE_PACKET = 1, 3


def _tag(first: bytes) -> int:
    """The type of the first OpenPGP packet, 0 when there is none."""
    if not first or not first[0] & 0x80:
        return 0
    return first[0] & 0x3F if first[0] & 0x40 else first[0] >> 2 & 0x0F


def is_encrypted(first: bytes) -> bool:
    """Whether a file that begins so is an OpenPGP message, and no tar whose first name begins with such a byte."""
    if begins_as_tar(first):
        return False
    return _tag(first) in (_PUBLIC_KEY_PACKET, _PASSPHRASE_PACKET, 18, 20) or first.startswith(_ARMOR)


def require_gpg(runner: Runner) -> None:
    """Say clearly when gpg is missing."""
    if runner.find(GPG) is None:
        raise EncryptionError("gpg is not installed", path=GPG, hint="install gnupg, or make the backup unencrypted")


@contextlib.contextmanager
def temporary_home(runner: Runner) -> Iterator[str]:
    """A gpg home of mode 0700 that goes away, with the agent that gpg may have started for it.

    What a killed process left is removed by the next, and its agent ended.
    """
    for place in _places():
        if untrusted_level(place, shared=True) is not None:
            continue
        with contextlib.suppress(TradekeepError):
            sweep(place, purpose=_PURPOSE, before=lambda home: _end_agent(str(home), runner))
    with _new_home() as home:
        try:
            yield str(home)
        finally:
            _end_agent(str(home), runner)


def _places() -> tuple[str, ...]:
    """Where a home may be made, the best first."""
    # Names to choose from; the home itself is private and has a name of its own.
    wanted = (tempfile.gettempdir(), "/tmp", "/var/tmp", f"/run/user/{os.geteuid()}")  # noqa: S108
    return tuple(dict.fromkeys(os.path.realpath(place) for place in wanted))


@contextlib.contextmanager
def _new_home() -> Iterator[Path]:
    """A home whose path is short enough for the sockets of gpg's agent."""
    trouble = "its path is too long for the sockets of gpg's agent"
    with contextlib.ExitStack() as stack:
        home = None
        for place in _places():
            if len(os.fsencode(place)) > _LONGEST_PLACE:
                continue
            untrusted = untrusted_level(place, shared=True)
            if untrusted is not None:
                trouble = untrusted.reason
                continue
            try:
                home = stack.enter_context(scratch_directory(place, _PURPOSE))
                break
            except TradekeepError as error:
                trouble = error.message
        if home is None:
            raise EncryptionError(
                f"no place for a temporary gpg home: {trouble}",
                path=tempfile.gettempdir(),
                hint="set TMPDIR to a directory with a short path that can be written to",
            )
        yield home


def _end_agent(home: str, runner: Runner) -> None:
    with contextlib.suppress(CommandError):
        runner.run(("gpgconf", "--homedir", home, "--kill", "all"), check=False, timeout_seconds=30)
        if os.path.isdir(f"/run/user/{os.geteuid()}/gnupg"):  # where gpg puts its sockets if it can
            runner.run(("gpgconf", "--homedir", home, "--remove-socketdir"), check=False, timeout_seconds=30)


def as_encryption_error(error: CommandError) -> EncryptionError:
    """What gpg's failure means."""
    text = error.message
    for sign, message, hint in (
        ("No secret key", "no secret key for this backup", "run where the recovery key is, or name its gpg home"),
        ("Bad passphrase", _OTHER_WORDS, "check the passphrase file"),
        ("Bad session key", _OTHER_WORDS, "check the passphrase file"),
        ("can't get input", "the key is locked with a passphrase", "name a file with the passphrase too"),
        ("No public key", "recipient is unknown", "give a key file, or import the key"),
        ("Unusable public key", "recipient's key cannot be used", "give a key that is not expired or revoked"),
    ):
        if sign.lower() in text.lower():
            return EncryptionError(message, path=GPG, hint=hint)
    return EncryptionError(f"gpg {text}", path=GPG)


def _gpg(
    runner: Runner,
    home: Optional[str],
    *arguments: str,
    input_text: Optional[str] = None,
    pass_fds: tuple[int, ...] = (),
) -> str:
    argv = (GPG, *QUIET, *(("--homedir", home) if home else ()), *arguments)
    try:
        return runner.run(argv, input_text=input_text, pass_fds=pass_fds, timeout_seconds=120).stdout
    except CommandError as error:
        raise as_encryption_error(error) from error


def import_recipients(recipients: tuple[str, ...], home: str, runner: Runner) -> tuple[PublicKey, ...]:
    """Put the public keys of key files and fingerprints into ``home``; returns them, with those of no use any more."""
    found: dict[str, PublicKey] = {}
    for recipient in recipients:
        _import_one(recipient, home, runner)
        found.update(
            {key.fingerprint: key for key in _keys_in(home, runner, recipient) if key.fingerprint not in found}
        )
        if not found:
            raise EncryptionError("recipient is unknown", path=recipient, hint="give a key file, or import the key")
    return tuple(found.values())


def _import_one(recipient: str, home: str, runner: Runner) -> None:
    exported: Optional[str] = None
    arguments: tuple[str, ...] = ("--import",)
    if "/" in recipient:
        require_trusted(recipient, what="the recipient's key file", error=EncryptionError)
        _refuse_secret_key(recipient)
        arguments = ("--import", "--", recipient)
    else:
        exported = _export(recipient, runner)
    try:
        _gpg(runner, home, "--no-autostart", *arguments, input_text=exported)
    except EncryptionError as error:
        raise EncryptionError(
            "recipient's key cannot be imported", path=recipient, hint="give a file with a public OpenPGP key"
        ) from error


def _export(recipient: str, runner: Runner) -> str:
    """The public key from the keyring of who runs this. gpg fails, or says nothing, when it has none."""
    with contextlib.suppress(EncryptionError):
        exported = _gpg(runner, None, "--armor", "--export", "--", recipient)
        if exported:
            return exported
    raise EncryptionError("recipient is unknown", path=recipient, hint="give a key file, or import the key")


def _refuse_secret_key(path: str) -> None:
    try:
        with open(path, "rb") as file:
            found = keys_in(file.read(LARGEST_KEY_FILE))
    except OSError as error:
        raise EncryptionError(f"recipient's key file cannot be read: {error.strerror}", path=path) from error
    if found.secret:
        raise EncryptionError(
            "recipient's key file holds a secret key", path=path, hint="keep it off this host; export the public key"
        )


def _keys_in(home: str, runner: Runner, recipient: str) -> list[PublicKey]:
    return keys_listed(_gpg(runner, home, "--no-autostart", "--with-colons", "--list-keys"), recipient)


@contextlib.contextmanager
def encrypting(encryption: Encryption, following: Stage, runner: Runner) -> Iterator[Stage]:
    """A stage that encrypts and passes on; the keys are checked before anything is written."""
    require_gpg(runner)
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(temporary_home(runner))
        secret: tuple[int, ...] = ()
        argv: tuple[str, ...] = (GPG, *QUIET, "--homedir", home, "-z", "0", "--output", "-")
        if encryption.passphrase_file:
            secret = (stack.enter_context(passed_on(read_passphrase(encryption.passphrase_file).typed)),)
            argv += ("--no-symkey-cache", "--cipher-algo", "AES256", "--passphrase-fd", str(secret[0]))
            argv += ("--symmetric",)
        else:
            argv += ("--no-autostart", "--trust-model", "always", "--encrypt")
            keys = import_recipients(encryption.recipients, home, runner)
            for fingerprint in fingerprints_to_use(keys, encryption.own_key):
                argv += ("--recipient", fingerprint)
        yield _GpgStage(ProgramStage(runner.pipe(argv, pass_fds=secret), following))


class _GpgStage:
    """Speaks of gpg's failures as what they mean."""

    def __init__(self, program: ProgramStage) -> None:
        self._program = program

    def write(self, data: bytes) -> None:
        try:
            self._program.write(data)
        except CommandError as error:
            raise as_encryption_error(error) from error

    def close(self) -> None:
        try:
            self._program.close()
        except CommandError as error:
            raise as_encryption_error(error) from error

    def abort(self) -> None:
        self._program.abort()


@contextlib.contextmanager
def decrypting(
    chunks: Chunks,
    first: bytes,
    runner: Runner,
    *,
    passphrase_file: Optional[str] = None,
    gnupg_home: Optional[str] = None,
) -> Iterator[Chunks]:
    """The plain bytes of an OpenPGP message. A passphrase file opens the message, or the secret key in the gpg home."""
    require_gpg(runner)
    with contextlib.ExitStack() as stack:
        home = gnupg_home
        passphrase = read_passphrase(passphrase_file) if passphrase_file else None
        if _tag(first) == _PASSPHRASE_PACKET:
            if not passphrase_file:
                raise EncryptionError("backup is encrypted with a passphrase", hint="name the passphrase file")
            home = stack.enter_context(temporary_home(runner))
        form = None if passphrase is None else _form_that_opens(passphrase, first, runner, home)
        yield stack.enter_context(_decrypted(chunks, form, runner, home))


@contextlib.contextmanager
def _decrypted(chunks: Chunks, passphrase: Optional[bytes], runner: Runner, home: Optional[str]) -> Iterator[Chunks]:
    argv: tuple[str, ...] = (GPG, *QUIET, *(("--homedir", home) if home else ()))
    with contextlib.ExitStack() as stack:
        secret: tuple[int, ...] = ()
        if passphrase is not None:
            secret = (stack.enter_context(passed_on(passphrase)),)
            argv += ("--no-symkey-cache", "--passphrase-fd", str(secret[0]))
        pipe = runner.pipe((*argv, "--output", "-", "--decrypt"), pass_fds=secret)
        plain = through_program(pipe, chunks, as_encryption_error)
        stack.callback(plain.close)
        yield plain


def _form_that_opens(passphrase: Passphrase, first: bytes, runner: Runner, home: Optional[str]) -> bytes:
    """What of a passphrase file opens the message that begins so; older ones took the line with all around it."""
    *likelier, last = passphrase.forms
    return next((form for form in likelier if _opens(form, first, runner, home)), last)


def _opens(form: bytes, first: bytes, runner: Runner, home: Optional[str]) -> bool:
    try:
        with _decrypted((part for part in (first,)), form, runner, home) as plain:
            for _part in plain:
                return True
    except EncryptionError as error:
        return error.message != _OTHER_WORDS
    return True


def import_secret_key(key_file: str, home: str, runner: Runner) -> None:
    """Put the secret key of a file into ``home``. Raises EncryptionError when the file holds none."""
    hint = "give the file that gpg --export-secret-keys made"
    require_trusted(key_file, what="the key file", error=EncryptionError)
    try:
        with open(key_file, "rb") as file:
            file.read(1)
    except OSError as error:
        raise EncryptionError(f"key file cannot be read: {error.strerror}", path=key_file, hint=hint) from error
    try:
        # A key stays locked as it is: its passphrase is asked for where it is used.
        _gpg(runner, home, "--import", "--", key_file)
    except EncryptionError as error:
        raise EncryptionError("key file holds no key that can be imported", path=key_file, hint=hint) from error
    if not secret_keys_expired(home, runner):
        raise EncryptionError("key file holds no secret key", path=key_file, hint=hint)


def secret_keys_expired(home: str, runner: Runner) -> dict[str, bool]:
    """The secret keys in ``home`` by fingerprint, and whether each is past its time.

    Such a key still decrypts; nothing can be encrypted to it any more.
    """
    found: dict[str, bool] = {}
    expired = False
    for line in _gpg(runner, home, "--with-colons", "--list-secret-keys").splitlines():
        fields = line.split(":")
        if fields[0] in ("sec", "ssb"):
            expired = fields[1] == "e"
        elif fields[0] == "fpr" and len(fields) > 9:
            found[fields[9]] = expired
    return found


def prove_round_trip(
    encryption: Encryption,
    *,
    runner: Runner,
    secret_key_file: Optional[str] = None,
    gnupg_home: Optional[str] = None,
    passphrase_file: Optional[str] = None,
) -> None:
    """Encrypt a sample as a backup would be, and decrypt it as on the bad day; raises EncryptionError otherwise.

    The recovery key is in ``secret_key_file`` (imported into a home that is removed again) or in ``gnupg_home``.
    """
    sample = secrets.token_bytes(256)
    gathered = _Gather()
    with encrypting(encryption, gathered, runner) as stage:
        stage.write(sample)
        stage.close()
    message = b"".join(gathered.parts)
    with contextlib.ExitStack() as stack:
        if secret_key_file:
            require_gpg(runner)
            gnupg_home = stack.enter_context(temporary_home(runner))
            import_secret_key(secret_key_file, gnupg_home, runner)
        plain = stack.enter_context(
            decrypting(
                (part for part in (message,)),
                message[:64],
                runner,
                passphrase_file=passphrase_file or encryption.passphrase_file,
                gnupg_home=gnupg_home,
            )
        )
        if b"".join(plain) != sample:
            raise EncryptionError("decryption gave other bytes than were encrypted", path=GPG)


class _Gather:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.parts.append(data)

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass
