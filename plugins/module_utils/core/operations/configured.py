# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What is configured: shown, and checked against the host it is meant for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from ..application import Application
from ..archive.encryption import check_passphrase_file, prove_round_trip, require_gpg
from ..configuration import application_as_dict
from ..errors import ExitStatus, TradekeepError
from ..host.ownership import gid_of, uid_of
from ..ports import Ports
from ..profile import resolve_mapping
from .outcome import Outcome


def show_configuration(application: Application) -> Outcome:
    """The configuration of an application as one document."""
    return _shown(application_as_dict(application))


def show_profile(name: str) -> Outcome:
    """A built-in profile as one document."""
    return _shown({"profile": resolve_mapping(name)})


def _shown(document: dict[str, Any]) -> Outcome:
    text = json.dumps(document, indent=2, sort_keys=True)
    return Outcome(changed=False, record=document, lines=tuple(text.splitlines()))


def check_configuration(application: Application, ports: Ports, *, recovery_key: Optional[str] = None) -> Outcome:
    """Whether the host has what the configuration refers to; that it can be read at all is known by now.

    recovery_key: file of the secret key that shall decrypt backups; that it does is proven with a sample. A passphrase
    proves itself.
    """
    problems = [str(error) for error in _problems(application, ports)]
    if application.encryption.configured and not problems:
        problems = [str(error) for error in _failures(lambda: _prove(application, ports, recovery_key))]
    word = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
    last = f"{application.config_file}: {word if problems else 'no problem'}"
    return Outcome(
        changed=False,
        record={"application": application.name, "path": str(application.config_file), "problems": problems},
        lines=(*problems, last),
        status=ExitStatus.FINDINGS if problems else ExitStatus.DONE,
    )


def _problems(application: Application, ports: Ports) -> Iterator[TradekeepError]:
    if application.system:
        yield from _failures(lambda: uid_of(application.owner), lambda: gid_of(application.group))
    for key, place in (("root", application.root), ("backup_dir", application.backup_dir)):
        if not Path(place).is_dir():
            yield TradekeepError(f"the directory of {key} does not exist", path=place, hint="run the playbook site")
    if Path(application.backup_dir).is_dir() and not os.access(application.backup_dir, os.W_OK | os.X_OK):
        yield TradekeepError("the backup directory is not writable", path=application.backup_dir, hint="run as root")
    yield from _encryption_problems(application, ports)


def _encryption_problems(application: Application, ports: Ports) -> Iterator[TradekeepError]:
    encryption = application.encryption
    if not encryption.configured:
        return
    yield from _failures(lambda: require_gpg(ports.runner))
    if encryption.passphrase_file is not None:
        passphrase_file = encryption.passphrase_file
        yield from _failures(lambda: check_passphrase_file(passphrase_file))
    for recipient in encryption.recipients:
        if "/" in recipient and not Path(recipient).is_file():
            yield TradekeepError("the recipient's key file does not exist", path=recipient, hint="install it there")


def _prove(application: Application, ports: Ports, recovery_key: Optional[str]) -> None:
    encryption = application.encryption
    if recovery_key is None and encryption.passphrase_file is None:
        return
    prove_round_trip(
        encryption,
        runner=ports.runner,
        secret_key_file=recovery_key,
        passphrase_file=encryption.passphrase_file,
    )


def _failures(*checks: Any) -> Iterator[TradekeepError]:
    for check in checks:
        try:
            check()
        except TradekeepError as error:
            yield error
