# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the transient units of an application's deploys and migrations are kept from.

They stop and start services, give files to accounts and run the application's hooks, so that little can be taken from
them: the system's own directories cannot be written to, and the backups and records of the other applications on this
host are not there. Nothing may be mounted in the places of the application itself, whose directories are exchanged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from ..application import Application
from ..configuration import configured_names, load_application
from ..errors import TradekeepError

_SYSTEM = tuple(map(PurePosixPath, ("/usr", "/boot", "/efi", "/etc")))
_UNITS = PurePosixPath("/etc/systemd/system")


def confined(application: Application) -> tuple[str, ...]:
    """Properties for a transient unit of the application."""
    own = _places(application)
    # A migration masks units there.
    writes = [_UNITS, *(path for path in own if _within(path, _SYSTEM))]
    hidden = [path for path in _of_others(application) if not _touches(path, own)]
    properties = ["ProtectSystem=full", f"ReadWritePaths={_words(writes)}"]
    if hidden:
        properties.append(f"InaccessiblePaths={_words(hidden)}")
    return tuple(properties)


def _places(application: Application) -> tuple[PurePosixPath, ...]:
    return (
        *(application.root, application.checkout),
        *(application.backup_dir, application.state_dir / "mirrors", application.application_state_dir),
    )


def _of_others(application: Application) -> Iterator[PurePosixPath]:
    """Backups, records and keys of every other application with a configuration beside this one's."""
    for name in configured_names(str(application.config_dir)):
        # A configuration that cannot be read is for its own application to report.
        with contextlib.suppress(TradekeepError):
            other = load_application(app=name, config_dir=str(application.config_dir))
            if other.name != application.name:
                yield from (other.backup_dir, other.application_state_dir, other.host_key_dir)


def _touches(path: PurePosixPath, places: Sequence[PurePosixPath]) -> bool:
    return _within(path, places) or any(path in place.parents for place in places)


def _within(path: PurePosixPath, places: Sequence[PurePosixPath]) -> bool:
    return any(path == place or place in path.parents for place in places)


def _words(paths: Sequence[PurePosixPath]) -> str:
    """Paths that need not exist, as systemd-run splits them; it replaces nothing in them."""
    quoted = (str(path).replace("\\", "\\\\").replace('"', '\\"') for path in dict.fromkeys(paths))
    return " ".join(f'"-{path}"' for path in quoted)
