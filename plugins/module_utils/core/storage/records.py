# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""``<state_dir>/<app>/catalog.json``: what was learnt about backups after they were made.

Sidecars stay as they were written, and the backup directory may be read-only; so results of verifications,
releases of named backups and the last prune are kept here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from ..errors import ConfigurationError
from ..host.files import atomic_write, make_private_directory
from .backup import read_small

VERSION = 1
LARGEST_CATALOG = 64 << 20


class Records:
    """The catalog file of one application; read anew for every use, replaced atomically."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "catalog.json"

    def read(self) -> dict[str, Any]:
        """The content; empty when there is none. Raises ConfigurationError when it is newer or damaged."""
        try:
            content = json.loads(read_small(self.path, LARGEST_CATALOG))
        except FileNotFoundError:
            return {"version": VERSION, "backups": {}}
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigurationError(
                f"the catalog is unreadable ({type(error).__name__})",
                path=self.path,
                hint="move it away and run 'tradekeep verify all'",
            ) from error
        if not isinstance(content, dict) or not isinstance(content.get("backups"), dict):
            raise ConfigurationError(
                "the catalog is damaged", path=self.path, hint="move it away and run 'tradekeep verify all'"
            )
        if content.get("version") != VERSION:
            raise ConfigurationError("made by a newer tradekeep", path=self.path, hint="update tradekeep")
        return content

    def entry(self, key: str) -> Optional[dict[str, Any]]:
        """What is recorded of one backup."""
        found = self.read()["backups"].get(key)
        return found if isinstance(found, dict) else None

    def update(self, key: str, **facts: Any) -> None:
        """Add facts to the record of one backup."""
        content = self.read()
        content["backups"].setdefault(key, {}).update(facts)
        self._write(content)

    def forget(self, key: str) -> None:
        """Drop the record of a backup that is gone."""
        content = self.read()
        if content["backups"].pop(key, None) is not None:
            self._write(content)

    def set(self, key: str, value: Any) -> None:
        """Set a fact of the whole catalog."""
        content = self.read()
        content[key] = value
        self._write(content)

    def _write(self, content: dict[str, Any]) -> None:
        make_private_directory(self.path.parent)
        atomic_write(self.path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
