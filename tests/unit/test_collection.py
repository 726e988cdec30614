# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The shape of the house: what the collection declares is what it has, and arrows point one way."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
CORE = TOP / "plugins" / "module_utils" / "core"
ENGINE = sorted(CORE.rglob("*.py"))
ROLES = sorted(path for path in (TOP / "roles").glob("*") if path.is_dir())
MODULES = sorted(path.stem for path in (TOP / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
RUNNER = CORE / "host" / "runner.py"

# The modules of the on-host command; they may use everything and nothing may use them.
DOORS = {"__main__", "cli", "command_line", "commands", "terminal"}
# These two pack the whole engine into the command, doors included, so they name everything.
PACKING = {"program", "everything"}
# What a layer must not reach for: from the ground up.
FORBIDDEN = {
    "host": {"kinds", "archive", "storage", "transaction", "operations"},
    "transaction": {"kinds", "archive", "storage", "operations"},
    "kinds": {"archive", "storage", "transaction", "operations"},
    "archive": {"storage", "transaction", "operations"},
    "storage": {"transaction", "operations"},
    "profiles": {"host", "kinds", "archive", "storage", "transaction", "operations"},
    "operations": set(),
}


def load(path: Path) -> Any:
    """A YAML file of the checkout."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def show(path: Path) -> str:
    return str(path.relative_to(TOP))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Each imported module as written: the number of leading dots, and the name."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.level, name) for name in names)


def engine_imports(path: Path) -> set[str]:
    """The packages and modules directly below core/ that an engine file imports."""
    package = path.relative_to(CORE).parent.parts
    found = set()
    for level, name in imports(path):
        if level:
            full = (*package[: len(package) - level + 1], *name.split("."))
            found.add(full[0])
    return found


def test_the_action_group_holds_every_module() -> None:
    groups = load(TOP / "meta" / "runtime.yml")["action_groups"]
    assert groups["all"] == MODULES


def test_the_collection_depends_on_ansible_core_alone() -> None:
    assert load(TOP / "galaxy.yml")["dependencies"] == {}


def test_every_licence_that_is_named_is_there() -> None:
    for identifier in load(TOP / "galaxy.yml")["license"]:
        assert (TOP / "LICENSES" / f"{identifier}.txt").is_file()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_has_a_readme(role: Path) -> None:
    assert (role / "README.md").is_file()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_roles_defaults_are_its_documented_options(role: Path) -> None:
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    options = {name: spec for entry in specs.values() for name, spec in (entry.get("options") or {}).items()}
    required = {name for name, spec in options.items() if spec.get("required")}
    defaults = set(load(role / "defaults" / "main.yml") or {})
    assert defaults == set(options) - required


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_roles_options_are_typed_and_bear_its_name(role: Path) -> None:
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    assert "main" in specs
    for entry in specs.values():
        for name, spec in (entry.get("options") or {}).items():
            assert name.startswith((f"{role.name}_", "tradekeep_")), name
            assert "type" in spec, name
            assert spec.get("description"), name


@pytest.mark.parametrize("path", ENGINE, ids=show)
def test_an_engine_file_carries_its_licence(path: Path) -> None:
    head = path.read_text(encoding="utf-8").splitlines()[:4]
    assert "# SPDX-FileCopyrightText: tradekeep.ops contributors" in head
    assert "# SPDX-License-Identifier: BSD-2-Clause" in head
    assert any(line.startswith("# Simplified BSD License (see LICENSES/BSD-2-Clause.txt") for line in head)


@pytest.mark.parametrize("path", sorted((TOP / "plugins").rglob("*.py")), ids=show)
def test_what_imports_ansible_carries_the_gpl(path: Path) -> None:
    if not any(level == 0 and name.split(".")[0] == "ansible" for level, name in imports(path)):
        return
    text = path.read_text(encoding="utf-8")
    assert re.search(r"^# SPDX-License-Identifier: GPL-3\.0-or-later$", text, re.MULTILINE)
    assert "GNU General Public License v3.0+" in text


@pytest.mark.parametrize("path", ENGINE, ids=show)
def test_the_engine_stands_alone(path: Path) -> None:
    absolute = {name.split(".")[0] for level, name in imports(path) if level == 0}
    assert not absolute & {"ansible", "ansible_collections"}
    if path != RUNNER:
        assert "subprocess" not in absolute
    deepest = max((level for level, _name in imports(path)), default=0)
    assert deepest <= len(path.relative_to(CORE).parts), "a relative import leaves the engine"


@pytest.mark.parametrize("path", ENGINE, ids=show)
def test_the_engine_neither_prints_nor_asserts(path: Path) -> None:
    for node in ast.walk(parse(path)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: assert is gone under python -O"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"line {node.lineno}: print"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            call = f"{node.value.id}.{node.attr}"
            assert call not in {"os.system", "os.popen", "os.posix_spawn"}, f"line {node.lineno}: {call}"
            assert call != "os.fork" or path.parent.name == "host", f"line {node.lineno}: processes begin in host/"


@pytest.mark.parametrize("path", ENGINE, ids=show)
def test_arrows_point_one_way(path: Path) -> None:
    layer = path.relative_to(CORE).parts[0]
    reached = engine_imports(path)
    if layer in FORBIDDEN:
        assert not reached & (FORBIDDEN[layer] | DOORS)
    elif path.stem not in DOORS | PACKING:
        assert not reached & ({"operations"} | DOORS)
