# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the options that define an application, or name one, to the application."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from .core.application import Application
from .core.configuration import load_application
from .core.errors import ConfigurationError, UsageError
from .core.host.account import Account, current_account
from .core.host.ownership import name_of_gid
from .core.operations.bot_units import UnitFile
from .core.profile import resolve_application, resolve_profile


def defined_application(options: Mapping[str, Any]) -> Application:
    """The application that the options of ``arguments.definition_spec`` define; empty ones count as not given."""
    names = ("app", "root", "owner", "group", "backup_dir", "config_dir", "state_dir", "bin_dir", "passphrase_file")
    return resolve_application(
        options["profile"],
        become=bool(options.get("system", True)),
        user_units=bool(options.get("user_units")),
        gpg_recipients=tuple(options.get("gpg_recipients") or ()),
        host_key=options.get("host_key") is not False,
        **{name: options.get(name) or None for name in names},
    )


def application_on_host(options: Mapping[str, Any]) -> Application:
    """The same, on its host: where nobody says whose the data is, it stays whose it was when it was configured."""
    options = on_this_account(options)
    profile = resolve_profile(options["profile"], default_name=options.get("app") or None)
    if options.get("owner") or profile.owner or not options.get("system", True):
        return defined_application(options)
    before = _configured_before(options.get("app") or profile.name, options["config_dir"])
    if before is None:
        return defined_application(options)
    return defined_application({**options, "owner": before.owner, "group": options.get("group") or before.group})


def on_this_account(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options as they are meant on this host: whoever is not root looks after data of its own alone.

    Raises ConfigurationError where the data is to be somebody else's.
    """
    if os.geteuid() == 0 or not options.get("system", True):
        return dict(options)
    account, profile = current_account(), options["profile"]
    owner = options.get("owner") or (profile.get("owner") if isinstance(profile, Mapping) else None)
    if owner and not _is(str(owner), account):
        raise ConfigurationError(
            f"expected {account.name}, found {owner!r}: without root an account looks after its own data alone",
            path="owner",
            hint=f"leave out the owner, or connect as {owner}",
        )
    group = options.get("group") or name_of_gid(account.gid)
    return {**options, "owner": account.name, "group": group, "system": False, "user_units": True}


def _is(owner: str, account: Account) -> bool:
    return owner == account.name or owner == str(account.uid)


def _configured_before(app: str, config_dir: str) -> Optional[Application]:
    # One that cannot be read says nothing, and is replaced.
    with contextlib.suppress(UsageError):
        return load_application(app=app, config_dir=config_dir)
    return None


def application_of_code(options: Mapping[str, Any]) -> Application:
    """The same where code alone matters, and not whose the data is."""
    return defined_application({**options, "system": False})


def configured_application(options: Mapping[str, Any]) -> Application:
    """The application that the host's configuration describes."""
    return load_application(app=options["app"] or None, config_dir=options["config_dir"])


def unit_files_of(items: Sequence[Mapping[str, Any]]) -> tuple[UnitFile, ...]:
    """Units of the bot's own, as ``arguments.UNIT_FILES`` has them."""
    return tuple(UnitFile(item["name"], decoded(item["content"], item["name"]), item["replace"]) for item in items)


def decoded(content: str, path: str) -> bytes:
    """Base64, strictly."""
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        raise UsageError("the content is not Base64", path=path, hint="use the filter b64encode") from None
