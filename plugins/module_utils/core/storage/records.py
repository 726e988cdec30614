# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""``<state_dir>/<app>/catalog.json``: what was learnt about backups after they were made.

Sidecars stay as they were written, and the backup directory may be read-only; so results of verifications,
releases of named backups and the last prune are kept here. Losing all of it must stop nothing: a file that is damaged
is kept aside, and until the backups are verified again nothing is pruned (``lost`` says since when).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Optional

from ..errors import ConfigurationError
from ..host.files import atomic_write, fsync_directory, make_private_directory, os_errors
from ..host.filesystem.identity import with_privileges
from .backup import iso, parse_iso, read_small

VERSION = 1
LARGEST_CATALOG = 64 << 20
_TYPES: dict[str, tuple[type, ...]] = {
    "sha256": (str, type(None)),
    "verified_at": (str,),
    "level": (str,),
    "ok": (bool,),
    "problems": (list,),
    "released": (bool,),
    "drill": (dict,),
}


class Records:
    """The catalog file of one application; read anew for every use, replaced atomically.

    note: told once when the file is damaged.
    """

    def __init__(self, state_dir: Path, now: Callable[[], datetime], note: Callable[[str], None]) -> None:
        self.path = state_dir / "catalog.json"
        self._now = now
        self._note = note
        self._noted = False
        self._damaged = False

    @with_privileges
    def read(self) -> dict[str, Any]:
        """The content; empty when there is none or it is damaged. Raises ConfigurationError when it is newer."""
        self._damaged = False
        try:
            content = json.loads(read_small(self.path, LARGEST_CATALOG))
        except FileNotFoundError:
            return {"version": VERSION, "backups": {}}
        except IsADirectoryError:
            return self._without("it is no file")
        except OSError as error:
            raise ConfigurationError(
                f"the catalog cannot be read: {(error.strerror or type(error).__name__).lower()}",
                path=self.path,
                hint="run it as the account that installed tradekeep, often root",
            ) from error
        except (ValueError, RecursionError):
            return self._without("it is no JSON")
        version = content.get("version") if isinstance(content, dict) else None
        if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
            raise ConfigurationError("made by a newer tradekeep", path=self.path, hint="update tradekeep")
        problem = _problem(content)
        return content if problem is None else self._without(problem)

    @property
    def lost(self) -> Optional[datetime]:
        """Since when verifications count again, after everything that was known before was lost."""
        return parse_iso(self.read().get("lost"))

    def entry(self, key: str) -> Optional[dict[str, Any]]:
        """What is recorded of one backup."""
        found: Optional[dict[str, Any]] = self.read()["backups"].get(key)
        return found

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

    def set(self, **facts: Any) -> None:
        """Set facts of the whole catalog; None removes one."""
        content = {**self.read(), **facts}
        self._write({name: value for name, value in content.items() if value is not None})

    def _without(self, problem: str) -> dict[str, Any]:
        self._damaged = True
        if not self._noted:
            self._noted = True
            self._note(
                f"{self.path} is damaged ({problem}): going on without what it knew of backups. It will be kept aside; "
                "nothing is pruned until 'tradekeep verify all' has looked at them again"
            )
        return {"version": VERSION, "backups": {}, "lost": iso(self._now())}

    @with_privileges
    def _write(self, content: dict[str, Any]) -> None:
        make_private_directory(self.path.parent)
        if self._damaged:
            self._keep_aside()
        atomic_write(self.path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())

    def _keep_aside(self) -> None:
        """Under another name too, until the new one replaces it: a crash in between must not forget the loss."""
        stamp = self._now().strftime("%Y%m%dT%H%M%SZ")
        aside = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        with os_errors(self.path):
            try:
                os.link(self.path, aside, follow_symlinks=False)
            except FileExistsError:
                pass
            except OSError:  # a directory, or a filesystem without hard links
                self.path.rename(aside)
            fsync_directory(aside.parent)
        self._note(f"the damaged catalog is kept as {aside}")
        self._damaged = False


def _problem(content: Any) -> Optional[str]:
    """What is wrong with the content, or None."""
    if not isinstance(content, dict) or content.get("version") != VERSION:
        return "it is no catalog"
    if not isinstance(content.get("backups"), dict):
        return "it lists no backups"
    for name in ("last_prune", "lost"):
        if not isinstance(content.get(name, ""), str):
            return f"{name} is no text"
    return next((f"wrong entry for {key}" for key, entry in content["backups"].items() if not _is_entry(entry)), None)


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, Mapping) and all(
        isinstance(entry[name], types) for name, types in _TYPES.items() if name in entry
    )
