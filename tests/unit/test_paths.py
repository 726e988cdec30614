# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The lint that keeps root from following the bot refuses what it is there for, and the engine passes it."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import BotPath, OurPath
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

import paths

BEGUN = "def restore(a):\n    with acting_as(a):\n        pass\n"


@pytest.mark.parametrize("path", sorted(paths.CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(paths.CORE)))
def test_the_engine_passes(path) -> None:
    assert paths.faults_of(str(path.relative_to(paths.CORE)), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("operations/new.py", "open(path)", "no zone"),
        ("operations/new.py", "os.rename(a, b)", "no zone"),
        ("operations/new.py", "Path(a).unlink()", "no zone"),
        ("operations/prune.py", "os.chmod(a, 0o600)", "no zone"),
        ("kinds/base.py", "os.chown(a, 1, 1)", "by path"),
        ("storage/local.py", "shutil.rmtree(a)", "by path"),
        ("operations/safety.py", "shutil.copy(a, b)", "by path"),
        ("operations/scan.py", "with privileged():\n    os.listdir(application.root)", "with root's rights"),
        (
            "operations/scan.py",
            "@with_privileges\ndef f(self):\n    g(self.application.checkout)",
            "with root's rights",
        ),
        ("storage/local.py", "Path(str(self._application.root)).mkdir()", "of a place of the bot's"),
        ("operations/restore.py", "def restore(a):\n    pass", "without acting_as"),
        ("operations/restore.py", BEGUN.replace("restore", "other"), "without acting_as"),
    ],
)
def test_what_could_follow_the_bot_is_refused(module: str, text: str, said: str) -> None:
    assert any(said in fault for fault in paths.faults_of(module, text))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("operations/restore.py", BEGUN),
        ("kinds/base.py", "open(path)"),
        ("storage/local.py", "Path(application.backup_dir).mkdir()"),
        ("host/filesystem/new.py", "os.chown(a, 1, 1)"),
        ("operations/new.py", "text.replace(a, b); os.path.join(a, b); os.fstat(1)"),
    ],
)
def test_what_cannot_is_not(module: str, text: str) -> None:
    assert paths.faults_of(module, text) == []


def test_places_of_the_bots_and_our_own_are_of_different_types() -> None:
    application = resolve_application("kalshi", become=False)
    ours = {
        field.name for field in dataclasses.fields(application) if isinstance(getattr(application, field.name), OurPath)
    }
    assert ours == {"backup_dir", "config_dir", "state_dir", "bin_dir"}
    assert isinstance(application.application_state_dir, OurPath)
    assert isinstance(application.root / "below", BotPath)
    assert isinstance(application.checkout, BotPath)
