#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Refuses code by which root could follow the bot: files opened, moved, given away or removed in the wrong place.

    python3 tests/certify/paths.py

What lies below an application's root or checkout is the bot's (``BotPath``), everything else is root's (``OurPath``).
The engine's modules are told apart by ``ZONES``:

- ``filesystem``: the few that offer operations on both, by descriptors and identities; they may do anything.
- ``owner``: reached with the owner's rights alone, within ``acting_as`` or in a worker.
- ``ours``: work on paths that root alone can change.
- any other has no business with files, and may not call for any.

1. A module outside of these zones opens, lists, writes, moves or removes nothing.
2. Nothing is given away, removed as a whole or copied by path outside of ``filesystem``.
3. Code with root's rights (``privileged``, ``with_privileges``) names neither root nor checkout, outside of
   ``filesystem``; nor does a module of the zone ``ours``.
4. What begins work in a tree takes the owner's rights first (``BEGINNINGS``).

The last line is "N passed, N failed"; the exit status is 1 when anything was refused.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CORE = TOP / "plugins" / "module_utils" / "core"

ZONES: dict[str, tuple[str, ...]] = {
    "filesystem": (
        "host/files.py",
        "host/filesystem/",
        "host/ownership.py",
        "transaction/renames.py",
        "transaction/stage_directory.py",
        # Makes the tree: by descriptors that begin at a directory of root's.
        "operations/tree.py",
    ),
    "owner": (
        "archive/extract.py",
        "git/checkout.py",
        "git/export.py",
        "git/holders.py",
        # Reads git's index in a process of the owner's; of root's files, what the last deploy put there.
        "git/not_data.py",
        "git/process.py",
        "git/rescue.py",
        "host/health.py",
        "kinds/",
        "operations/assemble.py",
        "operations/deploy/",
        "operations/drills/",
        "operations/found.py",
        "operations/handover/",
        "operations/links.py",
        "operations/listings.py",
        "operations/live_digest.py",
        # Looks whether the owner can read the key that fetches the code.
        "operations/code_access.py",
        # Looks whether the owner can read the data.
        "operations/rehearsal.py",
        "operations/migrate/",
        "operations/restore.py",
        "operations/restore_elsewhere.py",
        "operations/restore_links.py",
        "operations/restore_plan.py",
        "operations/restore_stage.py",
        "operations/rights.py",
        "operations/safety.py",
        "operations/scan.py",
        # Looks at modes and owners, which a tree of wrong ones would not show to its owner; opens no content by path.
        "operations/tree_plan.py",
        "operations/uncovered.py",
    ),
    "ours": (
        "archive/",
        "configuration.py",
        "git/mirror.py",
        "host/",
        "operations/backup.py",
        "operations/backup_plan.py",
        "operations/bot_units.py",
        "operations/claims.py",
        "operations/host_key.py",
        "operations/installation.py",
        "operations/key_checks.py",
        "operations/keys.py",
        "operations/leftovers.py",
        "operations/reading.py",
        "operations/recovery_source.py",
        "operations/rename.py",
        "operations/requests.py",
        "operations/runs.py",
        "operations/server_recovery.py",
        "operations/units.py",
        "outputs.py",
        "operations/verify.py",
        "program.py",
        "storage/",
        "transaction/",
    ),
}
BEGINNINGS: dict[str, tuple[str, ...]] = {
    "operations/restore.py": ("restore",),
    "operations/restore_elsewhere.py": ("_unpack_into",),
    "operations/recover.py": ("recover", "make_whole_at_boot"),
    "operations/deploy/deploy.py": ("deploy",),
    "operations/deploy/working_copy.py": ("gitignore", "tracked_data"),
    "operations/migrate/migrate.py": ("migrate_from",),
    "operations/handover/taking.py": ("take_over",),
    "operations/handover/serving.py": ("serve",),
}
"""Where an operation begins its work below a root or checkout: the function holds an ``acting_as``."""

OPENING = frozenset(
    # A list of one name a line reads worse.
    """open listdir scandir walk fwalk readlink mkdir makedirs mkfifo mknod link symlink rename replace renames unlink
    remove rmdir removedirs truncate utime chmod setxattr""".split()  # noqa: SIM905
)
GIVING = frozenset(("os.chown", "os.lchown", "os.renames", "os.removedirs", "shutil.chown", "shutil.rmtree"))
COPYING = frozenset(f"shutil.{name}" for name in ("move", "copy", "copy2", "copyfile", "copytree", "copystat"))
METHODS = frozenset(
    """write_text write_bytes read_text read_bytes unlink rmdir mkdir chmod touch iterdir symlink_to hardlink_to rglob
    lchmod""".split()  # noqa: SIM905
)
OF_THE_BOT = frozenset(("root", "checkout"))


def zone_of(name: str) -> str:
    """The zone of a module: that of the longest entry which names it; empty for none."""
    found = [(len(place), zone) for zone, places in ZONES.items() for place in places if _is_in(name, place)]
    return max(found)[1] if found else ""


def _is_in(name: str, place: str) -> bool:
    return name == place or (place.endswith("/") and name.startswith(place))


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Calls and what is called, as far as its name tells: ``open``, ``os.open``, ``.unlink``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            yield node, node.func.id
        elif isinstance(node.func, ast.Attribute):
            base = node.func.value
            named = isinstance(base, ast.Name) and base.id in ("os", "shutil")
            yield node, f"{base.id if named else ''}.{node.func.attr}"  # type: ignore[attr-defined]


def is_about_files(call: str) -> bool:
    """Whether a call opens, lists, writes, moves or removes something by name."""
    if call == "open" or call in GIVING or call in COPYING:
        return True
    module, _dot, name = call.partition(".")
    return (module == "os" and name in OPENING) or (module == "" and name in METHODS)


def with_roots_rights(tree: ast.AST) -> Iterator[ast.AST]:
    """The functions and blocks that run with root's rights."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            if any(isinstance(item, ast.Name) and item.id == "with_privileges" for item in node.decorator_list):
                yield from node.body
        elif isinstance(node, ast.With):
            held = [item.context_expr for item in node.items]
            if any(isinstance(item, ast.Call) and _name(item.func) == "privileged" for item in held):
                yield from node.body


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def names_of_the_bot(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Where an application's root or checkout is named."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in OF_THE_BOT and "application" in ast.unparse(node.value):
            yield node


def faults_of(name: str, text: str) -> list[str]:
    """What is refused in one module of the engine."""
    tree, zone = ast.parse(text), zone_of(name)
    if zone == "filesystem":
        return []
    begins = [
        f"{name}: {function}() begins work in the tree without acting_as"
        for function in BEGINNINGS.get(name, ())
        if not _takes_the_owners_rights(tree, function)
    ]
    return [f"{name}:{line}: {what}" for line, what in (*_calls_refused(tree, zone), *_rights_refused(tree))] + begins


def _calls_refused(tree: ast.AST, zone: str) -> Iterator[tuple[int, str]]:
    for node, call in calls(tree):
        if call in GIVING | COPYING:
            yield node.lineno, f"{call}: by path; use what host/files.py and host/filesystem/ offer"
        if zone == "" and is_about_files(call):
            yield node.lineno, f"{call}: this module is in no zone that works with files"
        if zone == "ours" and is_about_files(call) and any(names_of_the_bot(node)):
            yield node.lineno, f"{call} of a place of the bot's, in a module for our own"


def _rights_refused(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for block in with_roots_rights(tree):
        for node in names_of_the_bot(block):
            yield node.lineno, f"{ast.unparse(node)} with root's rights"


def _takes_the_owners_rights(tree: ast.AST, function: str) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return any(call == "acting_as" for _node, call in calls(node))
    return False


def main() -> int:
    modules = sorted(CORE.rglob("*.py"))
    faults = []
    for path in modules:
        faults += faults_of(str(path.relative_to(CORE)), path.read_text(encoding="utf-8"))
    for fault in faults:
        print(fault)
    bad = len({fault.partition(":")[0] for fault in faults})
    print(f"{len(modules) - bad} passed, {bad} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
