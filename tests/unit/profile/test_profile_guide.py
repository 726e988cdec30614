# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The guide for people says what the code does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Component, Profile, Services
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "profiles.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_guide_is_accepted(example: str) -> None:
    yaml: Any = pytest.importorskip("yaml", reason="PyYAML is not installed")
    inputs = yaml.safe_load(example)
    resolve_application(inputs["tradekeep_profile"], gpg_recipients=tuple(inputs.get("backup_gpg_recipients", ())))


@pytest.mark.parametrize("model", [Profile, Component, Services])
def test_every_key_is_in_the_guide(model: Any) -> None:
    named = set(re.findall(r"`([a-z_]+)`", GUIDE))
    left_out = {"name", "description"}
    assert {field.name for field in dataclasses.fields(model)} - left_out <= named


def test_the_errors_of_the_guide_are_those_of_the_code() -> None:
    bot = {"name": "my_bot", "root": "/opt/my_bot", "owner": "bot", "components": {"data": {"paths": ["data"]}}}
    wrong: list[tuple[Any, dict[str, str]]] = [
        ({"extends": "kalshi", "components": {"credentials": {"file_mode": 0o600}}}, {}),
        ({"extends": "kalshi", "components": {"databases": {"exlude": []}}}, {}),
        (bot, {"backup_dir": "/opt/my_bot/data/backups"}),
    ]
    for definition, inputs in wrong:
        with pytest.raises(ConfigurationError) as caught:
            resolve_application(definition, **inputs)  # type: ignore[arg-type]
        assert str(caught.value) in GUIDE
