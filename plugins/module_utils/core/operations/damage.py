# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Damage that matters: of what the profile requires, and the way back to what was good, where there is one."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any, Optional

from ..application import Application
from ..patterns import classify
from ..ports import Clock
from ..storage.choice import newest_first
from ..storage.local import Backup, LocalCatalog

_TEXTS = (".env", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf")
_MALFORMED = "malformed: "
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")


def fault_of_required(path: str, kind: str, content: Optional[bytes], facts: Mapping[str, Any]) -> Optional[str]:
    """What is wrong with a document that the profile requires; None where nothing is, or nobody can tell.

    One without a byte is no matter of this: whether it ever held more is known to ``losses`` alone.
    """
    if kind == "json":
        faults = [text for text in facts.get("warnings", ()) if text.startswith(_MALFORMED)]
        return faults[0] if faults and faults[0] != f"{_MALFORMED}empty" else None
    if kind != "file" or not content or not path.lower().endswith(_TEXTS) or content.startswith(_OTHER_ENCODINGS):
        return None
    if b"\0" in content:
        return "holds NUL bytes, as a crash of the machine leaves them"
    return "holds nothing but white space" if not content.strip() else None


def way_back(application: Application, clock: Clock, absolute: str) -> str:
    """What to do about damaged data. A backup is named where there is a good one that holds the file."""
    path = os.path.relpath(absolute, str(application.root))
    catalog = LocalCatalog(application, clock)
    for backup in newest_first((item for item in catalog.list() if item.good), clock.now()):
        if _holds(application, backup, path):
            return f"get it back with: tradekeep restore {backup.name} --path {shlex.quote(_as_glob(path))}"
    return "no backup holds it in a good state; mend it, move it away, or exclude it in the profile"


def _holds(application: Application, backup: Backup, path: str) -> bool:
    """As far as a sidecar tells: databases by name, of anything else that its component was there."""
    databases = backup.sidecar.get("databases")
    if isinstance(databases, dict) and path in databases:
        return True
    classified = classify(application.profile, path)
    if classified is None or not classified.required or path in backup.sidecar.get("missing", ()):
        return False
    components = backup.sidecar.get("components")
    return isinstance(components, dict) and classified.component.name in components


def _as_glob(path: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)
