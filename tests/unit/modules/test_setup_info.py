# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One look instead of four modules: settled is only what each of them would leave as it is, and what it would say."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.fence import fence
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.definition import defined_application
from ansible_collections.tradekeep.ops.plugins.module_utils.steps import checking
from ansible_collections.tradekeep.ops.plugins.module_utils.steps.settled import _AskedOnce
from ansible_collections.tradekeep.ops.plugins.modules import configuration, prerequisites, setup_info, tree, units

CHECKOUT = Path(__file__).resolve().parents[3]
SPECS = {
    "prerequisites": prerequisites.SPEC,
    "tree": tree.SPEC,
    "configuration": configuration.SPEC,
    "units": units.SPEC,
}
# What the roles of site never give: the first are of recover_server, and with a recovery key nothing is left out.
NOT_OF_SITE = {
    "prerequisites": {"files", "existing", "space", "code"},
    "tree": set(),
    "configuration": {"state"},
    "units": {"state", "timers", "check", "recovery_key"},
}
# Each module that a role of site runs on a host on the way from its main.yml.
IN_ROLES = {
    "layout": ["tradekeep.ops.prerequisites", "tradekeep.ops.tree"],
    "runtime": [
        *("tradekeep.ops.prerequisites", "ansible.builtin.apt", "ansible.builtin.apt"),
        *("ansible.builtin.copy", "ansible.builtin.file", "ansible.builtin.copy", "tradekeep.ops.configuration"),
    ],
    "backup": ["tradekeep.ops.units"],
}
ON_THE_CONTROLLER = {"assert", "debug", "set_fact", "import_tasks", "include_tasks"}


def modules_in(tasks: Path) -> list[str]:
    """The modules of a file of tasks and of those that it imports, in their order."""
    found = []
    for task in yaml.safe_load(tasks.read_text()):
        (action,) = (key for key in task if "." in key)
        if action.rpartition(".")[2] in ("import_tasks", "include_tasks"):
            found += modules_in(tasks.parent / task[action])
        elif action.rpartition(".")[2] not in ON_THE_CONTROLLER:
            found.append(action)
    return found


def test_the_look_knows_every_option_and_every_task_of_the_roles_that_it_stands_for() -> None:
    """Whoever gives one of them more to do teaches the look, or site leaves a host where it is to be done."""
    for name, spec in SPECS.items():
        assert set(spec) - set(setup_info.SPEC) == NOT_OF_SITE[name] - set(setup_info.SPEC), name
    for role, modules in IN_ROLES.items():
        assert modules_in(CHECKOUT / "roles" / role / "tasks/main.yml") == modules, role


@pytest.fixture
def look(tmp_path: Path, fake: Any, complete: Any, ports: Any, definition: dict[str, Any]) -> Callable[..., Any]:
    """The record of a look at a host on which everything was done."""
    key = tmp_path / "installed.key"
    key.write_bytes(b"key")
    key.chmod(0o644)
    installed = {"path": str(key), "sha256": hashlib.sha256(b"key").hexdigest(), "mode": "0644"}
    credential = in_base64("keys/api", b"secret")
    command = {"interpreter": "/usr/bin/python3", "allow_downgrade": False}
    given = {**definition, "gpg_recipients": [], "passphrase_file": None}
    tree.run(fake(complete(SPECS["tree"], {**given, "credentials": [credential]})), ports)
    configuration.run(fake(complete(configuration.SPEC, {**given, "command": command})), ports)

    def run(**more: Any) -> dict[str, Any]:
        own = {"installed": [installed], "credentials": [credential], "command": command}
        options = complete(setup_info.SPEC, {**given, **own, **more})
        changed, record, _diff = setup_info.run(fake(options), ports)
        assert not changed
        return record

    run.given, run.key = given, key  # type: ignore[attr-defined]
    return run


def test_nothing_to_do_is_told_as_the_modules_tell_it(look: Any) -> None:
    record = look()
    assert record["settled"] and record["differs"] is None
    assert sorted(record["steps"]) == ["configuration", "tree", "units"]
    assert record["steps"]["configuration"]["record"]["command"]["changed"] is False
    assert record["steps"]["units"]["record"]["check"]["problems"] == []


def fails(*_given: Any, **_more: Any) -> Any:
    """A check that finds something, as of a configuration that was installed and that a timer would fail with."""
    return Outcome(changed=False, record={"problems": ["no gpg"], "warnings": []})


def in_base64(path: str, content: bytes) -> dict[str, Any]:
    return {"path": path, "content": base64.b64encode(content).decode(), "replace": False}


CASES: dict[str, tuple[str, Callable[[dict[str, Any], Path], Any]]] = {
    "a definition that is wrong": ("definition", lambda given, _key: {"profile": {**given["profile"], "rot": "/"}}),
    "the mode of a key": ("installed", lambda _given, key: key.chmod(0o600)),
    "the content of a key": ("installed", lambda _given, key: key.write_bytes(b"other")),
    "a key that is gone": ("installed", lambda _given, key: key.unlink()),
    "a mode in the tree": ("tree", lambda given, _key: Path(given["root"], "keys").chmod(0o777)),
    "a new credential": ("tree", lambda _given, _key: {"credentials": [in_base64("keys/more", b"more")]}),
    "the command": ("configuration", lambda given, _key: os.truncate(Path(given["bin_dir"], "tradekeep"), 1000)),
    "the configuration": ("configuration", lambda given, _key: Path(given["config_dir"], "toy.json").chmod(0o644)),
    "a schedule": (
        "configuration",
        lambda given, _key: {
            "profile": {**given["profile"], "schedules": [{"tier": "daily", "calendar": "*-*-* 03:00:00"}]}
        },
    ),
}


@pytest.mark.parametrize("what", [*CASES, "a fence", "a check that fails"])
def test_whatever_is_to_be_done_or_wrong_is_left_to_the_modules(
    look: Any, ports: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, more = look.given, {}
    if what == "a fence":
        differs = "fence"
        fence(defined_application(given), ports)
    elif what == "a check that fails":
        differs = "units"
        monkeypatch.setattr(checking, "check_configuration", fails)
    else:
        differs, change = CASES[what]
        changed = change(given, look.key)
        more = changed if isinstance(changed, dict) else {}
    place = Path(given["root"]).parent
    before = sorted((str(path), path.stat().st_mtime_ns) for path in place.rglob("*"))
    record = look(**more)
    assert (record["settled"], record["differs"], record["steps"]) == (False, differs, {})
    assert sorted((str(path), path.stat().st_mtime_ns) for path in place.rglob("*")) == before


def test_a_program_that_several_steps_ask_is_run_once(ports: Any, tmp_path: Path) -> None:
    asked = _AskedOnce(ports.runner)
    count = ("sh", "-c", f"echo >> {tmp_path}/asked; wc -l < {tmp_path}/asked")
    assert asked.run(count).stdout.strip() == asked.run(count).stdout.strip() == "1"
    assert asked.run(count, timeout_seconds=5).stdout.strip() == "2"
    assert asked.find("sh") == ports.runner.find("sh")
