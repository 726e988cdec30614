# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Damage that matters: of what the profile requires, and the way back to what was good, where there is one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional

from ..application import Application
from ..formatting import pasted
from ..patterns import classify
from ..ports import Clock
from ..storage.choice import newest_first
from ..storage.local import Backup, LocalCatalog
from ..unicode_forms import UTF_8, decoded, marked_form

_TEXTS = (".env", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf")
_MALFORMED = "malformed: "


def fault_of_required(path: str, kind: str, content: Optional[bytes], facts: Mapping[str, Any]) -> Optional[str]:
    """What is wrong with a document that the profile requires; None where nothing is, or nobody can tell.

    One without a byte is no matter of this: whether it ever held more is known to ``losses`` alone.
    """
    if kind == "json":
        faults = [text for text in facts.get("warnings", ()) if text.startswith(_MALFORMED)]
        return faults[0] if faults and faults[0] != f"{_MALFORMED}empty" else None
    if kind != "file" or not content or not path.lower().endswith(_TEXTS):
        return None
    form = marked_form(content)
    try:
        # Without such a mark it may be Latin-1, too, which nobody can tell.
        text = decoded(content, form, "replace" if form.decode is UTF_8.decode else "strict")
    except UnicodeDecodeError:
        return f"is not the {form.name.upper()} that it begins as"
    if "\0" in text:
        return "holds NUL bytes, as a crash of the machine leaves them"
    return "holds nothing but white space" if not text.strip() else None


def way_back(application: Application, clock: Clock, absolute: str) -> str:
    """What to do about damaged data. A backup is named where there is a good one that holds the file."""
    path = os.path.relpath(absolute, str(application.root))
    catalog = LocalCatalog(application, clock)
    for backup in newest_first((item for item in catalog.list() if item.good), clock.now()):
        if _holds(application, backup, path):
            return f"get it back with: tradekeep restore {backup.name} --path {pasted(_as_glob(path))}"
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
    """The path for ``--path``, anchored where it would match the same name elsewhere or look like an option.

    What no message can show stands for any character.
    """
    anchor = "./" if "/" not in path or path.startswith("-") else ""
    return anchor + "".join(
        f"[{character}]" if character in "*?[" else character if character.isprintable() else "?" for character in path
    )
