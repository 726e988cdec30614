# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a source says of itself, judged: what is known of it, each of its type and bounded, and nothing else."""

from __future__ import annotations

from typing import Any, Optional

from .channel import MOST_MESSAGES, VERSION, ProtocolError, name_of, number_of, table_of, text_of

_MOST_SERVICES = 1000
_LONGEST_UNIT = 300


def judged_greeting(message: dict[str, Any]) -> dict[str, Any]:
    """The facts of a greeting. Raises ProtocolError for one that cannot be."""
    facts = message.get("hello")
    if not isinstance(facts, dict) or facts.get("protocol") != VERSION:
        raise ProtocolError("greets in no way that is known", path="the other server", hint="update both")
    now = facts.get("now")
    if not isinstance(now, (int, float)) or isinstance(now, bool):
        raise ProtocolError("sent a message without a proper now", path="the other server")
    return {
        "protocol": VERSION,
        **{key: name_of(facts, key) for key in ("application", "profile", "host", "installation")},
        "tool": name_of(facts, "tool", 100),
        "now": float(now),
        "services": _services(facts.get("services")),
        "fence": _optional_text(facts, "fence"),
        "migration": _migration(facts),
        "files": number_of(facts, "files", MOST_MESSAGES),
        "bytes": number_of(facts, "bytes"),
    }


def _services(told: Any) -> list[dict[str, Any]]:
    """What runs there; whether it is anything of the application is for this server to say."""
    found: list[dict[str, Any]] = []
    for entry in told[:_MOST_SERVICES] if isinstance(told, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("running"), list):
            names = [name for name in entry["running"][:_MOST_SERVICES] if _is_unit(name)]
            found.append({"manager": str(entry.get("manager"))[:40], "running": names})
    return found


def _is_unit(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_UNIT and name.isprintable() and name[0] != "-"


def _migration(facts: dict[str, Any]) -> Optional[dict[str, Any]]:
    if facts.get("migration") is None:
        return None
    migration = table_of(facts, "migration")
    return {"id": text_of(migration, "id", 40)}


def _optional_text(facts: dict[str, Any], key: str) -> Optional[str]:
    return None if facts.get(key) is None else name_of(facts, key, 4096)
