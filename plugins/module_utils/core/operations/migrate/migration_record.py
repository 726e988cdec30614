# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What is remembered of migrations: one file for each, in ``<state_dir>/<app>/migrations/``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ...application import Application
from ...host.files import atomic_write, make_private_directory
from ...host.filesystem.identity import with_privileges


class MigrationRecord:
    """The place for what one migration leaves behind."""

    def __init__(self, application: Application, moment: datetime, identifier: str) -> None:
        self._directory = Path(application.application_state_dir) / "migrations"
        self._stem = f"{moment:%Y%m%d_%H%M%S}_{identifier[:8]}"

    @property
    def outputs(self) -> Path:
        """The directory for the output of hooks."""
        return self._directory / self._stem

    @with_privileges
    def prepare(self) -> None:
        """Create what is missing."""
        make_private_directory(self._directory.parent)
        make_private_directory(self._directory)

    @with_privileges
    def write(self, record: Mapping[str, Any]) -> Path:
        """Keep the record, whatever became of the migration."""
        self.prepare()
        path = self._directory / f"{self._stem}.json"
        atomic_write(path, (json.dumps(dict(record), indent=2, sort_keys=True) + "\n").encode("ascii"))
        return path
