# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The guide for people says what the code does."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import (
    Component,
    Profile,
    ServiceManager,
    Services,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import commanded
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.services import ServiceController
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import profile_as_mapping, resolve_application

DOCS = Path(__file__).resolve().parents[3] / "docs"
GUIDE = (DOCS / "profiles.md").read_text(encoding="utf-8")
STARTS = (DOCS / "your-bots-start.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
RECIPES = re.findall(r"\n##+ ([^\n]+)\n(?:(?!\n##).)*?```yaml\n(.*?)```", STARTS, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_guide_is_accepted(example: str) -> None:
    yaml: Any = pytest.importorskip("yaml", reason="PyYAML is not installed")
    inputs = yaml.safe_load(example)
    resolve_application(inputs["tradekeep_profile"], gpg_recipients=tuple(inputs.get("backup_gpg_recipients", ())))


@pytest.mark.parametrize("recipe", [text for _heading, text in RECIPES], ids=[heading for heading, _text in RECIPES])
def test_every_way_to_start_a_bot_is_accepted(recipe: str) -> None:
    yaml: Any = pytest.importorskip("yaml", reason="PyYAML is not installed")
    application = resolve_application(yaml.safe_load(recipe)["tradekeep_profile"])
    assert application.profile.services
    again = resolve_application(profile_as_mapping(application.profile))
    assert again.profile == application.profile


def test_each_way_to_start_a_bot_has_a_recipe() -> None:
    headings = " ".join(heading for heading, _text in RECIPES)
    for way in ("systemd", "Docker", "Podman", "supervisor", "--user", "pm2", "tmux", "cron"):
        assert way in headings
    # The units that they name are those that they show.
    for unit in re.findall(r"units: \[(\w+\.service)\]", STARTS):
        assert f"# /etc/systemd/system/{unit}\n" in STARTS


@pytest.mark.once
@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_the_recipe_for_tmux_starts_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "run.sh").chmod(0o755)
    name = f"tk{os.getpid()}"
    _starts_and_stops("tmux", tmp_path, monkeypatch, lambda word: word.replace("my_bot", name))


def test_the_script_for_cron_starts_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = STARTS.partition("```sh\n")[2].partition("```")[0].replace("/home/my_bot/bot", str(tmp_path))
    (tmp_path / "run.sh").write_text(script)
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "bot.py").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "bot.py").chmod(0o755)
    _starts_and_stops("cron, or a script", tmp_path, monkeypatch, lambda word: word)


def _starts_and_stops(recipe: str, place: Path, monkeypatch: pytest.MonkeyPatch, changed: Callable[[str], str]) -> None:
    """As the recipe says, in another place, by the account that runs the test."""
    yaml: Any = pytest.importorskip("yaml", reason="PyYAML is not installed")
    monkeypatch.setattr(commanded, "BOOTED", "/nonexistent")
    given = yaml.safe_load(dict(RECIPES)[recipe])["tradekeep_profile"]["services"][0]
    words = {
        key: tuple(changed(word.replace("/home/my_bot/bot", str(place))) for word in given[key])
        for key in ("start", "stop", "is_active")
    }
    wanted = Services(ServiceManager.COMMAND, tuple(given["units"]), stay_up_seconds=0.1, **words)
    services = ServiceController([wanted], SubprocessRunner(), SystemClock())
    assert not services.is_active()
    services.start(services.installed())
    services.wait_until_steady(services.snapshot())
    assert services.is_active()
    services.stop(services.snapshot())
    assert not services.is_active()


@pytest.mark.parametrize("model", [Profile, Component, Services])
def test_every_key_is_in_the_guide(model: Any) -> None:
    named = set(re.findall(r"`([a-z_]+)`", GUIDE))
    left_out = {"name", "description"}
    assert {field.name for field in dataclasses.fields(model) if field.compare} - left_out <= named


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
