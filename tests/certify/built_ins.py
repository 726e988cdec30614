#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What each built-in profile keeps, as the engine reads it: ``docs/built-in-profiles.md``.

python3 tests/certify/built_ins.py            # writes the page
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkout

TOP = Path(__file__).resolve().parents[2]
PAGE = TOP / "docs" / "built-in-profiles.md"
HEAD = """# What the built-in profiles keep

Written by `tests/certify/built_ins.py` from the profiles themselves. `tradekeep config show` prints the one that a host
has, with every default; [Writing a profile](profiles.md) says what the words mean and how to extend one.
"""


def page(profiles: Any) -> str:
    """The whole text. profiles: by name."""
    return "\n".join([HEAD, *(line for name in sorted(profiles) for line in _section(profiles[name]))])


def _section(profile: Any) -> Iterator[str]:
    yield f"## {profile.name}"
    yield ""
    yield f"{profile.description}."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {what} | {said} |" for what, said in _settings(profile))
    yield ""
    yield "| component | what | paths below the root | |"
    yield "|---|---|---|---|"
    for component in profile.components:
        paths = ", ".join(f"`{path}`" for path in component.paths)
        yield f"| {component.name} | {component.description} | {paths} | {_marks(component)} |"
    yield ""
    for title, lines in (("Required", list(_required(profile))), ("Left out", list(_left_out(profile)))):
        if lines:
            yield f"{title}: {', '.join(lines)}."
            yield ""


def _settings(profile: Any) -> Iterator[tuple[str, str]]:
    yield "root", f"`{profile.root}`"
    yield "owner", f"`{profile.owner}`" if profile.owner else "as `tradekeep_owner` says"
    for services in profile.services:
        yield f"services ({services.manager.value})", ", ".join(f"`{unit}`" for unit in services.units) or "none"
    for schedule in profile.schedules:
        yield f"{schedule.tier.value} backup", f"`{schedule.calendar}`"
    kept = profile.retention
    rules = ("daily", "weekly", "monthly", "keep_last", "within_days")
    yield "keeps", ", ".join(f"{getattr(kept, rule)} {rule}" for rule in rules if getattr(kept, rule))
    yield "archives", f"`{profile.archive_prefix}_YYYYmmdd_HHMMSS.tar.gz`"


def _marks(component: Any) -> str:
    marks = {
        "critical": component.critical,
        "secret": component.secret or any(rule.secret for rule in component.files),
        "encrypted or not at all": component.require_encryption,
        "not backed up": not component.backup,
    }
    return ", ".join(mark for mark, holds in marks.items() if holds)


def _required(profile: Any) -> Iterator[str]:
    for component in profile.components:
        yield from (f"`{rule.pattern}`" for rule in component.files if rule.required)


def _left_out(profile: Any) -> Iterator[str]:
    for component in profile.components:
        yield from (f"`{pattern}`" for pattern in component.exclude)


def built_ins() -> dict[str, Any]:
    """The profiles by name."""
    sys.path.insert(0, str(checkout.link()))
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import (
        built_in_names,
        resolve_profile,
    )

    return {name: resolve_profile(name) for name in built_in_names()}


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(built_ins()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
