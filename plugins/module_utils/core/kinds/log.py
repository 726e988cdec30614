# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Logs: text that is only ever appended to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

from ..application import CheckLevel
from ..formatting import counted
from .appended import capture_appended
from .base import CaptureContext, Captured, CheckReport, FilePath, Signature
from .reading import check_readable


class LogKind:
    """A text log: captured up to its last whole line."""

    name = "log"
    append_only = True

    def capture(self, path: FilePath, context: CaptureContext, seen: Optional[Signature] = None) -> Captured:
        """The log up to the last whole line at this moment, however fast it grows."""
        compressed = os.fspath(path).endswith(".gz")
        return capture_appended(path, context, whole_lines=not compressed, is_whole=lambda _line: False)

    def check(self, path: Path, *, level: CheckLevel) -> CheckReport:
        """A log has no rules that could be broken; it must be a regular file that can be read."""
        return check_readable(self.name, path)

    def describe(self, facts: dict[str, Any]) -> str:
        """What was left out of the end, if anything."""
        left_out = int(facts.get("unfinished_bytes", 0))
        return f"log, {counted(left_out, 'byte')} of an unfinished line left out" if left_out else "log"
