# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the options that define an application, or name one, to the application."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from .core.application import Application
from .core.configuration import load_application
from .core.errors import UsageError
from .core.profile import resolve_application


def defined_application(options: Mapping[str, Any]) -> Application:
    """The application that the options of ``arguments.definition_spec`` define; empty ones count as not given."""
    names = ("app", "root", "owner", "group", "backup_dir", "config_dir", "state_dir", "bin_dir", "passphrase_file")
    return resolve_application(
        options["profile"],
        become=bool(options.get("system", True)),
        gpg_recipients=tuple(options.get("gpg_recipients") or ()),
        host_key=options.get("host_key") is not False,
        **{name: options.get(name) or None for name in names},
    )


def configured_application(options: Mapping[str, Any]) -> Application:
    """The application that the host's configuration describes."""
    return load_application(app=options["app"] or None, config_dir=options["config_dir"])


def decoded(content: str, path: str) -> bytes:
    """Base64, strictly."""
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        raise UsageError("the content is not Base64", path=path, hint="use the filter b64encode") from None
