# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What is configured: shown, and checked against the host it is meant for."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Optional

from ..application import Application
from ..configuration import application_as_dict
from ..errors import ConfigurationError, ExitStatus, TradekeepError
from ..host.account import owner_of
from ..host.fstab import missing_mount
from ..host.ownership import gid_of, uid_of
from ..host.trust import untrusted_reason
from ..ports import Ports
from ..profile import resolve_mapping
from ..storage.local import LocalCatalog
from . import rehearsal
from .claims import conflicts, unclaimed_backups
from .key_checks import host_key_warnings, key_problems, prove_keys, readable_by_anybody, unseen_in_passphrase
from .keys import told_of_keys
from .outcome import Outcome
from .services_check import missing_services, unmanaged
from .text import counted
from .uncovered import uncovered_in_words
from .user_units import linger_warning


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
    """Whether the host has what the configuration refers to and what the timers need each night.

    That the configuration can be read at all is known by now.

    A warning of the record is a finding like a problem, but no reason to call the set-up of a server failed. A note is
    no finding.

    recovery_key: file of the secret key that shall decrypt backups; that it does is proven with a sample. A passphrase
    and the host's own key prove themselves.
    """
    problems = [str(error) for error in _problems(application, ports)]
    warnings = [*standing_warnings(application, ports), *_lacking_programs(application, ports)]
    warnings += host_key_warnings(application)
    notes = [*unmanaged(application), *readable_by_anybody(application), *unseen_in_passphrase(application)]
    if Path(application.root).is_dir():
        warned, noted = uncovered_in_words(application, ports)
        warnings += warned
        notes += noted
    if recovery_key is not None and not application.encryption.configured:
        warnings.append(f"{recovery_key}: proves nothing, as backups are not encrypted to any key")
    if application.encryption.configured and not problems:
        problems = [str(error) for error in _failures(lambda: prove_keys(application, ports, recovery_key))]
        if not problems:
            warnings += [text for told in told_of_keys(application, ports) for text in told]
    found = [*problems, *warnings]
    for text in unclaimed_backups(application):
        ports.progress.note(text)
    last = f"{application.config_file}: {counted(len(found), 'problem') if found else 'no problem'}"
    return Outcome(
        changed=False,
        record={
            "application": application.name,
            "path": str(application.config_file),
            "problems": problems,
            "warnings": warnings,
            "notes": notes,
        },
        lines=(*found, *notes, last),
        status=ExitStatus.FINDINGS if found else ExitStatus.DONE,
    )


def standing_warnings(application: Application, ports: Ports, coming: Collection[str] = ()) -> Iterator[str]:
    """What is no reason to call the set-up of a server failed, and has to be known all the same.

    coming: units that are about to be installed.
    """
    yield from missing_keys(application)
    yield from rehearsal.warnings(application)
    yield from missing_services(application, ports, coming)
    yield from linger_warning(application, ports)


def missing_keys(application: Application) -> Iterator[str]:
    """What a timer will fail to encrypt, while all else works: for want of a key, a server can still be set up."""
    if application.encryption.configured or not application.has_units:
        return
    tiers = sorted({item.tier.value for item in application.profile.schedules if item.encrypt})
    if tiers:
        yield str(
            ConfigurationError(
                f"the {' and '.join(tiers)} backup will fail: it is to be encrypted, and there is no key to do it with",
                path=application.config_file,
                hint="set backup_gpg_recipients or backup_passphrase_file, or encrypt: false for it in the profile",
            )
        )


def _lacking_programs(application: Application, ports: Ports) -> Iterator[str]:
    """What a deploy will fail for: a server can be set up without it, and a backup is made all the same."""
    from .deploy.rehearsal import lacking_programs

    with contextlib.suppress(ConfigurationError):  # an account that is not there is a problem of its own
        account = owner_of(application)
        yield from (f"every deploy will fail: {error}" for error in lacking_programs(application, account, ports))


def _problems(application: Application, ports: Ports) -> Iterator[TradekeepError]:
    if application.system:
        yield from _failures(lambda: uid_of(application.owner), lambda: gid_of(application.group))
    for key, place in (("root", application.root), ("backup_dir", application.backup_dir)):
        if missing_mount(place) is None and not Path(place).is_dir():
            yield TradekeepError(f"the directory of {key} does not exist", path=place, hint="run the playbook site")
    if Path(application.backup_dir).is_dir() and not os.access(application.backup_dir, os.W_OK | os.X_OK):
        yield TradekeepError("the backup directory is not writable", path=application.backup_dir, hint="run as root")
    gone = LocalCatalog(application, ports.clock).gone()
    if gone is not None:
        yield gone
    yield from directory_problems(application)
    yield from rehearsal.problems(application, ports)
    yield from conflicts(application)
    yield from _encryption_problems(application, ports)


def directory_problems(application: Application) -> Iterator[TradekeepError]:
    """Directories of root's that others could change."""
    for key, place in (("config_dir", application.config_dir), ("bin_dir", application.bin_dir)):
        reason = untrusted_reason(place)
        if reason is not None:
            # Root's timers run what is there.
            yield TradekeepError(
                f"others can change what is in the directory of {key}: {reason}",
                path=place,
                hint="chown root and chmod go-w it and each directory above it, or choose another",
            )


def _encryption_problems(application: Application, ports: Ports) -> Iterator[TradekeepError]:
    if not application.encryption.configured:
        for item in application.profile.components:
            if item.backup and item.require_encryption:
                yield ConfigurationError(
                    f"every backup will fail: component {item.name} must be encrypted, and there is no key for it",
                    path=application.config_file,
                    hint="set backup_gpg_recipients or backup_passphrase_file",
                )
    yield from key_problems(application, ports)


def _failures(*checks: Any) -> Iterator[TradekeepError]:
    for check in checks:
        try:
            check()
        except TradekeepError as error:
            yield error
