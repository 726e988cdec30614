# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A module object that allows only a handful of attributes, so that the doors stay thin by force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports


class Ended(Exception):
    """exit_json or fail_json was called."""

    def __init__(self, failed: bool, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg", ""))
        self.failed = failed
        self.result = result


class FakeModule:
    """What a door may use of AnsibleModule, and nothing else."""

    __slots__ = ("check_mode", "params", "warnings")

    def __init__(self, params: dict[str, Any], check_mode: bool = False) -> None:
        self.params = params
        self.check_mode = check_mode
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def exit_json(self, **result: Any) -> None:
        raise Ended(False, result)

    def fail_json(self, **result: Any) -> None:
        raise Ended(True, result)


def with_defaults(spec: dict[str, dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
    """The parameters as AnsibleModule would hand them over."""
    unknown = set(given) - set(spec)
    if unknown:
        raise KeyError(f"not in the spec: {sorted(unknown)}")
    return {name: given.get(name, option.get("default")) for name, option in spec.items()}


@pytest.fixture
def ports() -> Ports:
    return Ports(runner=SubprocessRunner(), clock=SystemClock(), progress=NoProgress())


@pytest.fixture
def definition(tmp_path: Path) -> dict[str, Any]:
    """Options of a small application within one directory, without anything of the system."""
    profile = {
        "name": "toy",
        "root": "/opt/toy",
        "owner": "toy",
        "components": {
            "state": {
                "paths": ["state"],
                "directories": ["state"],
                "directory_mode": "0755",
                "file_mode": "0644",
                "files": [{"pattern": "state/mode.json", "template": {"mode": "demo"}}],
            },
            "keys": {"paths": ["keys"], "directories": ["keys"], "directory_mode": "0700", "file_mode": "0600"},
        },
    }
    return {
        "profile": profile,
        "root": str(tmp_path / "data"),
        "backup_dir": str(tmp_path / "backups"),
        "config_dir": str(tmp_path / "etc"),
        "state_dir": str(tmp_path / "state"),
        "bin_dir": str(tmp_path / "bin"),
        "system": False,
    }


@pytest.fixture
def fake() -> type[FakeModule]:
    return FakeModule


@pytest.fixture
def complete() -> Any:
    return with_defaults


@pytest.fixture
def ended() -> type[Ended]:
    return Ended
