# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The argument specs that modules share; the documentation of each is the fragment of the same name."""

from __future__ import annotations

from typing import Any

UNIT_FILES: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "required": True},
        "replace": {"type": "bool", "default": False},
    },
}
"""Units of the bot's own, in Base64, which carries any text through a module's arguments."""


def configured_spec(**own: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options that name a configured application, and the module's own."""
    return {"app": {"type": "str"}, "config_dir": {"type": "path", "default": "/etc/tradekeep"}, **own}


def definition_spec(**own: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options that define an application, and the module's own."""
    return {
        "profile": {"type": "raw", "required": True},
        "app": {"type": "str"},
        "root": {"type": "path"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "backup_dir": {"type": "path", "default": "/opt/backups"},
        "config_dir": {"type": "path", "default": "/etc/tradekeep"},
        "state_dir": {"type": "path", "default": "/var/lib/tradekeep"},
        "bin_dir": {"type": "path", "default": "/usr/local/bin"},
        "system": {"type": "bool", "default": True},
        "gpg_recipients": {"type": "list", "elements": "str", "default": []},
        # The name of a file, not a secret.
        "passphrase_file": {"type": "path", "no_log": False},
        # Whether there is one, not the key.
        "host_key": {"type": "bool", "default": True, "no_log": False},
        **own,
    }
