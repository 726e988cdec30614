# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The keys of an application that is installed: the host's own is made, and what nothing names any more is removed.

The host's secret key is made here, is owner-only from the first byte, and appears in no record and no diff.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from ..application import Application
from ..archive.key_pair import make_key_pair, public_half_of
from ..configuration import configured_names, load_application
from ..errors import EncryptionError, TradekeepError
from ..host.files import atomic_write, fsync_directory, make_private_directory
from ..host.trust import require_trusted
from ..ports import Ports
from .outcome import Outcome

MAKE, REMOVE = "make", "remove"


@dataclass(frozen=True)
class KeyPlan:
    """What becomes of an application's keys when it is installed. action: MAKE or REMOVE the host's own key, or None.

    unnamed: key files that no configuration will name any more.
    """

    application: Application
    action: Optional[str]
    unnamed: tuple[Path, ...]

    def before(self, ports: Ports) -> None:
        """What must be there before the configuration that asks for it."""
        if self.action == MAKE:
            _make(self.application, ports)

    def after(self) -> None:
        """What must stay until the configuration that names it is gone."""
        if self.action == REMOVE:
            _remove(self.application)
        for path in self.unnamed:
            path.unlink(missing_ok=True)


def plan_keys(application: Application) -> KeyPlan:
    """Read-only: the installed configuration is asked too."""
    return KeyPlan(application, _key_action(application), tuple(_unnamed_keys(application)))


def _key_action(application: Application) -> Optional[str]:
    secret, public = Path(application.host_secret_key), Path(application.host_public_key)
    if application.uses_host_key:
        return None if secret.is_file() and public.is_file() else MAKE
    # Without any key of people there is nobody else who could open what is encrypted to this one.
    switched_off = bool(application.encryption.recipients)
    return REMOVE if switched_off and (secret.exists() or public.exists()) else None


def _make(application: Application, ports: Ports) -> None:
    """The secret half first: what is encrypted to the public one can always be opened."""
    directory = Path(application.host_key_dir)
    require_trusted(directory, what="the directory of the host's key", error=EncryptionError)
    make_private_directory(directory.parent)
    make_private_directory(directory)
    secret_file = Path(application.host_secret_key)
    if secret_file.is_file():
        public = public_half_of(str(secret_file), ports.runner)
    else:
        public, secret = make_key_pair(f"tradekeep host key of {application.name}", ports.runner)
        atomic_write(secret_file, secret.encode("ascii"), mode=0o600)
        ports.step("host key secret")
    atomic_write(application.host_public_key, public.encode("ascii"), mode=0o600)


def _remove(application: Application) -> None:
    directory = Path(application.host_key_dir)
    for path in (application.host_public_key, application.host_secret_key):
        Path(path).unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()
        fsync_directory(directory.parent)


def _unnamed_keys(application: Application) -> Iterator[Path]:
    """Key files that the installed configuration names, and neither the new one nor another application's does."""
    place = Path(application.public_key_dir)
    # Earlier versions installed those of all applications side by side.
    places = (place, place.parent)
    try:
        configured = [
            load_application(app=name, config_dir=str(application.config_dir))
            for name in configured_names(str(application.config_dir))
        ]
    except TradekeepError:
        # What cannot be read may name any of them.
        return
    named = set(application.encryption.recipients)
    before: tuple[str, ...] = ()
    for other in configured:
        if other.name == application.name:
            before = other.encryption.recipients
        else:
            named.update(other.encryption.recipients)
    for recipient in before:
        if recipient not in named and Path(recipient).parent in places and os.path.lexists(recipient):
            yield Path(recipient)


def with_keys(outcome: Outcome, plan: KeyPlan, *, dry_run: bool) -> Outcome:
    """The outcome of an installation with what became of the keys; never with anything of a key."""
    application, action = plan.application, plan.action
    would = "would " if dry_run else ""
    lines = list(outcome.lines)
    if action is not None:
        lines.append(f"{would}{action} the host's own key in {application.host_key_dir}")
    lines += [f"{would}remove the key {path}, which nothing names any more" for path in plan.unnamed]
    unchanged = action is None and os.path.lexists(application.host_secret_key)
    wanted = action == MAKE or unchanged
    return replace(
        outcome,
        changed=outcome.changed or action is not None or bool(plan.unnamed),
        record={**outcome.record, "host_key": wanted, "removed_keys": [str(path) for path in plan.unnamed]},
        lines=tuple(lines),
        before={**outcome.before, "host_key": action == REMOVE or unchanged},
        after={**outcome.after, "host_key": wanted},
    )
