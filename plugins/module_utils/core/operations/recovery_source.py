# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a recovery takes from the controller, looked at there as a whole before the host is touched.

The archive is decrypted as far as its first bytes: a key that does not open it is found now, and not after the host was
set up.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..application import Application
from ..archive.container import open_container
from ..archive.encryption import GPG, is_encrypted
from ..archive.openpgp import HEAD
from ..errors import ArchiveError, EncryptionError, ExitStatus, TradekeepError
from ..host.files import atomic_write
from ..host.filesystem.scratch import scratch_directory, sweep
from ..ports import NoProgress, Ports
from ..storage.backup import Backup, read_backup, read_small
from .code_access import access_problems, unknown_host
from .outcome import Outcome
from .reading import checksum, compare_checksum, home_of_key

_VAULT = b"$ANSIBLE_VAULT;"
_LARGEST_KEY = 1 << 20
_PURPOSE = "unlock"


@dataclass(frozen=True)
class RecoverySource:
    """What the controller has for a recovery.

    archive: None where it is on the host. key, passphrase: files that open it; None where they are not here.
    files: paths on the controller by where they go on the host. unlocked_there: a file on the host opens it, or a part
    of what does. bare: nothing is on the host yet.
    """

    archive: Optional[Path] = None
    key: Optional[Path] = None
    passphrase: Optional[Path] = None
    files: Mapping[str, str] = field(default_factory=dict)
    unlocked_there: bool = False
    bare: bool = False


def examine_source(application: Application, ports: Ports, source: RecoverySource) -> Outcome:
    """Every problem at once, in the record; status FINDINGS where there is one. Writes nothing that stays."""
    record: dict[str, Any] = {"sha256": "", "checksum_file": False, "bytes": 0, "archive_bytes": 0, "encrypted": False}
    problems = [str(error) for error in _problems(application, ports, source, record)]
    record["problems"] = problems
    status = ExitStatus.FINDINGS if problems else ExitStatus.DONE
    return Outcome(changed=False, record=record, lines=tuple(problems), status=status)


def _problems(
    application: Application, ports: Ports, source: RecoverySource, record: dict[str, Any]
) -> Iterator[TradekeepError]:
    absent = [path for path in (source.key, source.passphrase) if path is not None and not path.is_file()]
    for path in absent:
        yield TradekeepError("there is no such file on the controller", path=path)
    if source.archive is not None:
        yield from _archive_problems(ports, source, record, opens=not absent)
    home = application.profile.home or str(application.root)
    if source.bare:
        yield from access_problems(application, home, source.files, lambda path: False)
    yield from unknown_host(application, home, source.files, ports.runner)


def _archive_problems(
    ports: Ports, source: RecoverySource, record: dict[str, Any], *, opens: bool
) -> Iterator[TradekeepError]:
    archive = source.archive
    if archive is None or not archive.is_file():
        yield ArchiveError("there is no such archive on the controller", path=archive)
        return
    backup = read_backup(archive, "")
    record.update(_facts(backup))
    try:
        record["sha256"] = checksum(archive, NoProgress())
        compare_checksum(backup, record["sha256"])
        with open(archive, "rb") as stream:
            record["encrypted"] = is_encrypted(stream.read(HEAD))
        if opens:
            _open(ports, source, archive, encrypted=record["encrypted"])
    except EncryptionError as error:
        yield EncryptionError(error.message, path=archive, hint=error.hint)
    except TradekeepError as error:
        yield error


def _facts(backup: Backup) -> dict[str, Any]:
    size = backup.sidecar.get("bytes")
    return {
        "archive_bytes": backup.size,
        "bytes": size if isinstance(size, int) and size > 0 else backup.size,
        "checksum_file": backup.path.with_name(f"{backup.path.name}.sha256").is_file(),
    }


def _open(ports: Ports, source: RecoverySource, archive: Path, *, encrypted: bool) -> None:
    """Read the first bytes of what is in it. Without anything that opens it, whether the host can is not known here."""
    secrets = {name: path for name, path in (("key", source.key), ("passphrase", source.passphrase)) if path}
    if encrypted and (source.unlocked_there or not secrets):
        if source.bare and not source.unlocked_there:
            raise EncryptionError(
                "the archive is encrypted, and nothing is given to open it with",
                hint="give recover_key_on_controller, or recover_passphrase_on_controller",
            )
        return
    if encrypted and ports.runner.find(GPG) is None:
        ports.progress.note("gpg is not installed on the controller: whether the key opens the archive is not tested")
        return
    with contextlib.ExitStack() as stack:
        copies = stack.enter_context(_copies(secrets))
        if copies is None:
            ports.progress.note("a file with a key is in a vault: whether it opens the archive is not tested")
            return
        passphrase = copies.get("passphrase")
        home = stack.enter_context(home_of_key(copies.get("key"), ports))
        opened = open_container(archive, runner=ports.runner, passphrase_file=passphrase, gnupg_home=home)
        stack.enter_context(opened).read(512)


@contextlib.contextmanager
def _copies(secrets: Mapping[str, Path]) -> Iterator[Optional[dict[str, str]]]:
    """The secrets as they will be on the host: owner-only, whoever owns them here. None where one is in a vault."""
    contents = {name: _content(path) for name, path in secrets.items()}
    if any(content.startswith(_VAULT) for content in contents.values()):
        yield None
        return
    # Secrets stay off the disk; what is made there is a directory of our own, readable by nobody else.
    memory = "/dev/shm"  # noqa: S108
    parent = memory if os.access(memory, os.W_OK | os.X_OK) else tempfile.gettempdir()
    with contextlib.suppress(TradekeepError):
        sweep(parent, purpose=_PURPOSE)
    with scratch_directory(parent, _PURPOSE) as place:
        for name, content in contents.items():
            atomic_write(place / name, content)
        yield {name: str(place / name) for name in contents}


def _content(path: Path) -> bytes:
    try:
        return read_small(path.resolve(), _LARGEST_KEY)
    except (OSError, ValueError) as error:
        raise TradekeepError(f"cannot be read on the controller: {error}", path=path) from None
