# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Hooks: real programs in a real directory."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.deploy_settings import Hook
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CommandError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import account_of, current_account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.hooks import KEPT_BYTES, Hooks
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports

PORTS = Ports(SubprocessRunner(), SystemClock(), NoProgress())


def hooks_of(base: Path, *hooks: Hook, **options: Any) -> Hooks:
    (base / "checkout").mkdir(exist_ok=True)
    wanted: dict[str, Any] = {
        "application": "bot",
        "directory": base / "checkout",
        "account": current_account(),
        "logs": base / "record",
        "ports": PORTS,
        **options,
    }
    return Hooks(hooks, **wanted)


def shell(at: str, script: str, **options: Any) -> Hook:
    return Hook(at=at, command=("sh", "-c", script), **options)


def test_a_hook_is_told_what_is_deployed_and_where_it_is(tmp_path: Path) -> None:
    script = "echo $TRADEKEEP_APP $TRADEKEEP_STEP $TRADEKEEP_OLD_COMMIT $TRADEKEEP_NEW_COMMIT; echo $PWD >&2"
    hooks = hooks_of(tmp_path, shell("before_stop", script))
    (result,) = hooks.run("before_stop", old_commit="aaaa", new_commit="bbbb")
    log = Path(result.log)
    assert log.read_text() == f"bot before_stop aaaa bbbb\n{tmp_path}/checkout\n"
    assert (log.parent, stat.S_IMODE(log.stat().st_mode)) == (tmp_path / "record", 0o600)
    assert (result.at, result.status, result.last_line) == ("before_stop", 0, f"{tmp_path}/checkout")
    assert set(result.as_dict()) == {"at", "command", "status", "seconds", "last_line", "log"}


def test_only_the_hooks_of_the_step_run_and_in_their_order(tmp_path: Path) -> None:
    write = "echo {0} >> ran"
    hooks = hooks_of(
        tmp_path,
        shell("after_start", write.format("third")),
        shell("before_start", write.format("first")),
        shell("before_start", write.format("second")),
    )
    assert hooks.run("before_stop") == []
    assert len(hooks.run("before_start")) == 2
    assert len(hooks.run("after_start")) == 1
    assert (tmp_path / "checkout/ran").read_text().split() == ["first", "second", "third"]
    assert len({result.log for result in hooks.results}) == 3


def test_a_program_of_the_checkout_is_found_there(tmp_path: Path) -> None:
    hooks = hooks_of(tmp_path, Hook(at="after_fetch", command=("./migrate", "a b", "$HOME")))
    program = tmp_path / "checkout/migrate"
    program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    program.chmod(0o755)
    assert hooks.run("after_fetch")[0].last_line == "<a b><$HOME>"


def test_a_failing_hook_says_its_step_and_last_line_and_ends_the_step(tmp_path: Path) -> None:
    hooks = hooks_of(
        tmp_path,
        shell("before_stop", "echo positions are open; echo; exit 3"),
        shell("before_stop", "touch ran"),
    )
    with pytest.raises(CommandError) as caught:
        hooks.run("before_stop")
    assert caught.value.message == "the hook before_stop failed with exit status 3: positions are open"
    assert caught.value.hint == f"its output is in {tmp_path}/record/hook-1-before_stop.log"
    assert [result.status for result in hooks.results] == [3]
    assert not (tmp_path / "checkout/ran").exists()


def test_a_hook_that_hangs_is_ended_and_its_output_kept(tmp_path: Path) -> None:
    hooks = hooks_of(tmp_path, shell("after_start", "echo waiting; sleep 600", timeout_seconds=0.5))
    with pytest.raises(CommandError, match=r"the hook after_start did not end within 0\.5 seconds: waiting"):
        hooks.run("after_start")
    assert Path(hooks.results[0].log).read_text() == "waiting\n"
    assert hooks.results[0].status is None


def test_a_hook_that_is_killed_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="was killed by signal 9"):
        hooks_of(tmp_path, shell("after_start", "kill -9 $$")).run("after_start")


def test_of_much_output_the_end_is_kept(tmp_path: Path) -> None:
    (result,) = hooks_of(tmp_path, shell("after_commit", "yes | head -c 200000; echo end")).run("after_commit")
    assert Path(result.log).stat().st_size == KEPT_BYTES
    assert result.last_line == "end"


def test_a_hook_does_not_inherit_the_engines_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BECOME_TOKEN", "hidden")
    (result,) = hooks_of(tmp_path, shell("before_fetch", 'echo "<$BECOME_TOKEN>"')).run("before_fetch")
    assert result.last_line == "<>"


@pytest.mark.root
def test_hazard_d12_a_hook_runs_as_the_owner_and_cannot_reach_its_log(tmp_path: Path) -> None:
    for directory in (tmp_path, *list(tmp_path.parents)[:2]):
        directory.chmod(0o755)
    hooks = hooks_of(tmp_path, shell("before_stop", "id -un; echo $HOME"), account=account_of("nobody"))
    (result,) = hooks.run("before_stop")
    assert Path(result.log).read_text().splitlines() == ["nobody", account_of("nobody").home]
    assert Path(result.log).stat().st_uid == 0


def test_a_step_that_does_not_exist_is_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="before_lunch"):
        hooks_of(tmp_path).run("before_lunch")


def test_each_hook_is_a_step_that_tests_of_faults_can_stop_at(tmp_path: Path) -> None:
    seen: list[str] = []
    ports = Ports(PORTS.runner, PORTS.clock, PORTS.progress, step=seen.append)
    hooks_of(tmp_path, shell("after_stop", "true"), shell("after_stop", "true"), ports=ports).run("after_stop")
    assert seen == ["hook after_stop", "hook after_stop"]
