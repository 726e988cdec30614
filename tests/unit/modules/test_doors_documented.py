# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises about the collection's files: documentation equals specs, defaults equal specs, roles only import."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py"))
ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir() if path.is_dir())
PREFIX = "ansible_collections.tradekeep.ops.plugins"


def documented(module: Any) -> dict[str, Any]:
    document = yaml.safe_load(module.DOCUMENTATION)
    options = dict(document.get("options") or {})
    for fragment in document["extends_documentation_fragment"]:
        found = importlib.import_module(f"{PREFIX}.doc_fragments.{fragment.rpartition('.')[2]}")
        options.update(yaml.safe_load(found.ModuleDocFragment.DOCUMENTATION).get("options") or {})
    return options


def specified(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = importlib.import_module(f"{PREFIX}.modules.{name}")
    seen: dict[str, Any] = {}
    monkeypatch.setattr(module, "AnsibleModule", lambda **given: seen.update(given))
    monkeypatch.setattr(module, "serve", lambda *given: None)
    module.main()
    assert seen["supports_check_mode"] is True
    return seen["argument_spec"]


@pytest.mark.parametrize("name", MODULES)
def test_documentation_equals_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = documented(importlib.import_module(f"{PREFIX}.modules.{name}"))
    spec = specified(name, monkeypatch)
    assert set(options) == set(spec)
    for option, described in options.items():
        for key in ("type", "default", "required", "choices", "elements"):
            assert described.get(key) == spec[option].get(key), f"{name}.{option}.{key}"


@pytest.mark.parametrize("name", MODULES)
def test_doors_are_thin(name: str) -> None:
    source = (CHECKOUT / f"plugins/modules/{name}.py").read_text()
    start = source.index("\nfrom typing import Any")
    assert source[start:].count("\n") <= 80


def test_action_group_names_every_module() -> None:
    runtime = yaml.safe_load((CHECKOUT / "meta/runtime.yml").read_text())
    assert runtime["action_groups"]["all"] == MODULES


def effective(default: Any) -> Any:
    """What a default amounts to where the input of the playbooks, from which it comes, is not given."""
    found = re.fullmatch(r"\{\{ \w+ \| default\((.*)\) \}\}", default) if isinstance(default, str) else None
    return default if found is None else yaml.safe_load(found.group(1))


@pytest.mark.parametrize("role", ROLES)
def test_defaults_equal_argument_specs(role: str) -> None:
    place = CHECKOUT / "roles" / role
    defaults = yaml.safe_load((place / "defaults/main.yml").read_text()) or {}
    specs = yaml.safe_load((place / "meta/argument_specs.yml").read_text())["argument_specs"]
    options: dict[str, Any] = {}
    for entry in specs.values():
        for name, option in (entry.get("options") or {}).items():
            assert name.startswith(f"{role}_")
            options[name] = option.get("default")
    assert options == {name: effective(value) for name, value in defaults.items()}


@pytest.mark.parametrize("role", ROLES)
def test_main_only_imports(role: str) -> None:
    place = CHECKOUT / "roles" / role / "tasks"
    tasks = yaml.safe_load((place / "main.yml").read_text())
    for task in tasks:
        assert (place / task["ansible.builtin.import_tasks"]).is_file()


@pytest.mark.parametrize("role", ROLES)
def test_readme_names_every_option(role: str) -> None:
    place = CHECKOUT / "roles" / role
    text = (place / "README.md").read_text()
    for name in yaml.safe_load((place / "defaults/main.yml").read_text()) or {}:
        assert f"`{name}`" in text


def test_modules_import_nothing_of_ansible_but_the_module_class() -> None:
    for name in MODULES:
        for node in ast.walk(ast.parse((CHECKOUT / f"plugins/modules/{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("ansible"):
                assert (node.module, [alias.name for alias in node.names]) == (
                    "ansible.module_utils.basic",
                    ["AnsibleModule"],
                )
