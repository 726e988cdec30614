# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The doors carried through for real on a small application: do, again, undo; and check mode that writes nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils import arguments, door
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import load_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CaptureError,
    ConfigurationError,
    ExitStatus,
    LockBusyError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import installation
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import Exchange
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.plan import Replacement
from ansible_collections.tradekeep.ops.plugins.module_utils.core.version import VERSION, is_newer
from ansible_collections.tradekeep.ops.plugins.modules import (
    application_info,
    archive_verify,
    backup,
    backup_info,
    backup_release,
    configuration,
    deploy,
    deploy_info,
    drill,
    drill_info,
    fence,
    gitignore,
    migrate,
    prune,
    recover,
    recovery,
    restore,
    runtime,
    sqlite_integrity,
    sqlite_optimize,
    tracked_data,
    tree,
    units,
    verify,
)


def listing(directory: Path) -> dict[str, Any]:
    """Every path below with its mode and content."""
    found: dict[str, Any] = {}
    for place, _, files in os.walk(directory):
        found[place] = oct(os.stat(place).st_mode)
        for name in files:
            path = Path(place, name)
            found[str(path)] = (oct(path.stat().st_mode), hashlib.sha256(path.read_bytes()).hexdigest())
    return found


@pytest.fixture
def call(fake: Any, complete: Any, ports: Any) -> Any:
    """Run a module's `run` with defaults filled in."""

    def run(module: Any, spec: dict[str, Any], given: dict[str, Any], check_mode: bool = False) -> Any:
        return module.run(fake(complete(spec, given), check_mode), ports)

    return run


TREE = tree.SPEC
CONFIGURATION = configuration.SPEC


@pytest.fixture
def installed(call: Any, definition: dict[str, Any]) -> dict[str, Any]:
    """A tree and its configuration; returns the options that name the application."""
    call(tree, TREE, definition)
    call(configuration, CONFIGURATION, definition)
    return {"app": "toy", "config_dir": definition["config_dir"]}


def test_tree_creates_then_leaves_alone(call: Any, definition: dict[str, Any]) -> None:
    changed, _, diff = call(tree, TREE, definition)
    root = Path(definition["root"])
    assert changed
    assert diff["before"] != diff["after"]
    assert json.loads((root / "state/mode.json").read_text()) == {"mode": "demo"}
    assert (root / "keys").stat().st_mode & 0o777 == 0o700
    assert call(tree, TREE, definition)[0] is False


def test_a_changed_schedule_is_shown_in_full_and_a_command_as_a_digest(call: Any, definition: dict[str, Any]) -> None:
    def of(hour: int, secret: str) -> dict[str, Any]:
        profile = {
            **definition["profile"],
            "schedules": [{"tier": "daily", "calendar": f"*-*-* {hour:02d}:00:00"}],
            "retention": {"daily": hour},
            "deploy": {"hooks": [{"at": "after_start", "command": ["tell", secret]}]},
        }
        return {**definition, "profile": profile}

    first = call(configuration, CONFIGURATION, of(2, "hunter2"))[2]
    assert first["before"]["configuration"] is None
    assert call(configuration, CONFIGURATION, of(2, "hunter2"))[0] is False
    diff = call(configuration, CONFIGURATION, of(3, "hunter3"), check_mode=True)[2]
    before, after = (diff[side]["configuration"]["profile"] for side in ("before", "after"))
    assert [item["calendar"] for item in before["schedules"] + after["schedules"]] == [
        "*-*-* 02:00:00",
        "*-*-* 03:00:00",
    ]
    assert (before["retention"]["daily"], after["retention"]["daily"]) == (2, 3)
    assert before["deploy"] != after["deploy"] and "hunter" not in json.dumps(diff)


def test_tree_in_check_mode_writes_nothing_and_predicts(call: Any, definition: dict[str, Any], tmp_path: Path) -> None:
    before = listing(tmp_path)
    assert call(tree, TREE, definition, check_mode=True)[0] is True
    assert listing(tmp_path) == before


def test_tree_keeps_a_credential_unless_told_to_replace_it(call: Any, definition: dict[str, Any]) -> None:
    def install(text: str, replace: bool = False) -> Any:
        content = base64.b64encode(text.encode()).decode()
        return call(
            tree, TREE, {**definition, "credentials": [{"path": "keys/k", "content": content, "replace": replace}]}
        )

    key = Path(definition["root"], "keys/k")
    changed, record, diff = install("secret-one")
    assert changed
    assert key.read_text() == "secret-one"
    assert key.stat().st_mode & 0o777 == 0o600
    assert "secret-one" not in json.dumps([record, diff])
    install("secret-two")
    assert key.read_text() == "secret-one"
    assert install("secret-two", replace=True)[0]
    assert key.read_text() == "secret-two"
    (kept,) = Path(definition["state_dir"], "toy", "replaced").iterdir()
    assert kept.read_text() == "secret-one"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_credential_that_is_not_base64_is_refused(call: Any, definition: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Base64"):
        call(tree, TREE, {**definition, "credentials": [{"path": "keys/k", "content": "%%", "replace": False}]})


def test_configuration_do_again_undo(call: Any, definition: dict[str, Any], tmp_path: Path) -> None:
    before = listing(tmp_path)
    assert call(configuration, CONFIGURATION, definition, check_mode=True)[0] is True
    assert listing(tmp_path) == before
    changed, record, _ = call(configuration, CONFIGURATION, definition)
    assert changed
    assert Path(record["path"]).stat().st_mode & 0o777 == 0o600
    assert Path(definition["backup_dir"]).stat().st_mode & 0o777 == 0o700
    assert call(configuration, CONFIGURATION, definition)[0] is False
    Path(record["path"]).chmod(0o644)
    assert call(configuration, CONFIGURATION, definition)[0] is True
    assert Path(record["path"]).stat().st_mode & 0o777 == 0o600
    assert call(configuration, CONFIGURATION, {**definition, "state": "absent"})[0] is True
    assert not Path(record["path"]).exists()
    assert Path(definition["root"]).parent.exists()
    assert call(configuration, CONFIGURATION, {**definition, "state": "absent"})[0] is False


def test_a_wrong_profile_names_the_key_and_touches_nothing(
    call: Any, definition: dict[str, Any], tmp_path: Path
) -> None:
    before = listing(tmp_path)
    wrong = {**definition["profile"], "retentoin": {"daily": 1}}
    with pytest.raises(ConfigurationError, match="retentoin"):
        call(configuration, CONFIGURATION, {**definition, "profile": wrong})
    assert listing(tmp_path) == before


def test_runtime_do_again_undo(call: Any, tmp_path: Path) -> None:
    given = {"bin_dir": str(tmp_path / "bin"), "config_dir": str(tmp_path / "etc"), "interpreter": sys.executable}
    assert call(runtime, runtime.SPEC, given, check_mode=True)[0] is True
    assert list(tmp_path.iterdir()) == []
    changed, record, _ = call(runtime, runtime.SPEC, given)
    program = tmp_path / "bin" / "tradekeep"
    assert changed
    assert program.stat().st_mode & 0o777 == 0o755
    assert hashlib.sha256(program.read_bytes()).hexdigest() == record["sha256"]
    assert sorted(path.name for path in program.parent.iterdir()) == ["tradekeep"]
    assert call(runtime, runtime.SPEC, given)[0] is False
    assert call(runtime, runtime.SPEC, {**given, "state": "absent"})[0] is True
    assert not program.exists()


def compiling_once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has an entry for each program that is compiled from now on; the same one is compiled only the first time."""
    asked: list[str] = []
    real, made = installation._with_byte_code, {}

    def compiling(ports: Any, *program: Any) -> bytes:
        asked.append("again")
        if program not in made:
            made[program] = real(ports, *program)
        return made[program]

    monkeypatch.setattr(installation, "_with_byte_code", compiling)
    return asked


def test_a_program_that_is_as_it_should_be_is_not_compiled_again(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"bin_dir": str(tmp_path), "config_dir": str(tmp_path / "etc"), "interpreter": sys.executable}
    made = call(runtime, runtime.SPEC, given)[1]
    program = tmp_path / "tradekeep"
    right = program.read_bytes()
    compiled = compiling_once(monkeypatch)
    assert call(runtime, runtime.SPEC, given)[:2] == (False, {**made, "installed": VERSION})
    assert compiled == []
    middle = right.index(b"PK\x01\x02") // 2
    for wrong in (
        right[:middle] + bytes([right[middle] ^ 1]) + right[middle + 1 :],
        right[:-100],
        right.replace(b"#!", b"# ", 1),
        b"",
        right + b"x" * 70_000,
    ):
        program.write_bytes(wrong)
        assert call(runtime, runtime.SPEC, given)[0] is True
        assert program.read_bytes() == right
    # Another Python was put in the place of the one that compiled it.
    monkeypatch.setattr(installation, "_check_interpreter", lambda *_arguments: b"\0\0\r\n")
    compiled.clear()
    call(runtime, runtime.SPEC, given)
    assert compiled == ["again"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_an_older_controller_does_not_take_the_newer_command_away(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_mode: bool
) -> None:
    compiling_once(monkeypatch)
    given = {"bin_dir": str(tmp_path), "config_dir": str(tmp_path / "etc"), "interpreter": sys.executable}
    call(runtime, runtime.SPEC, given)
    program = tmp_path / "tradekeep"
    before = program.read_bytes()
    monkeypatch.setattr(installation, "VERSION", "0.0.9")
    with pytest.raises(ConfigurationError, match=f"version {VERSION} is installed.*the older 0.0.9") as refused:
        call(runtime, runtime.SPEC, given, check_mode=check_mode)
    assert "upgrade the collection here" in str(refused.value.hint) and "runtime_allow_downgrade" in str(
        refused.value.hint
    )
    assert program.read_bytes() == before
    program.write_bytes(before + b" ")
    allowed = {**given, "allow_downgrade": True}
    changed, record, diff = call(runtime, runtime.SPEC, allowed, check_mode=check_mode)
    assert (changed, record["installed"], record["version"]) == (True, VERSION, "0.0.9")
    assert (diff["before"]["version"], diff["after"]["version"]) == (VERSION, "0.0.9")
    # A newer controller, or one beside a program that is none of ours, installs.
    program.write_bytes(before + b" ")
    monkeypatch.setattr(installation, "VERSION", "9.0.0")
    assert call(runtime, runtime.SPEC, given)[0] is True
    program.write_bytes(b"#!/bin/sh\n")
    monkeypatch.setattr(installation, "VERSION", "0.0.1")
    assert call(runtime, runtime.SPEC, given, check_mode=True)[1]["installed"] is None


def test_versions_are_ordered_as_releases_are() -> None:
    ordered = ["0.1.0-alpha", "0.1.0-beta.2", "0.1.0-beta.10", "0.1.0", "0.2.0-rc.1", "0.2.0", "0.10.0", "1.0.0"]
    for index, one in enumerate(ordered):
        assert [is_newer(other, one) for other in ordered] == [place > index for place in range(len(ordered))]
    assert not is_newer("1.0", "0.1.0") and not is_newer("1.0.0", "dev") and not is_newer("0.1.0+b", "0.1.0+a")


def test_runtime_refuses_an_interpreter_that_cannot_run_it(call: Any, tmp_path: Path) -> None:
    for interpreter in ("/nonexistent/python3", "/bin/false"):
        with pytest.raises(ConfigurationError, match="interpreter"):
            call(runtime, runtime.SPEC, {"bin_dir": str(tmp_path), "interpreter": interpreter})
    assert list(tmp_path.iterdir()) == []


def test_units_are_left_out_without_the_system(call: Any, definition: dict[str, Any], tmp_path: Path) -> None:
    given = {**definition, "unit_dir": str(tmp_path / "units")}
    assert call(units, units.SPEC, given)[0] is False
    assert not (tmp_path / "units").exists()


def test_one_execution_installs_the_command_and_one_checks_what_is_there(
    call: Any, definition: dict[str, Any], tmp_path: Path, ports: Any
) -> None:
    call(tree, TREE, definition)
    wanted = {**definition, "command": {"interpreter": sys.executable, "allow_downgrade": False}}
    assert call(configuration, CONFIGURATION, wanted, check_mode=True)[1]["command"]["changed"] is True
    assert not Path(definition["bin_dir"], "tradekeep").exists()
    changed, record, diff = call(configuration, CONFIGURATION, wanted)
    assert changed and Path(record["command"]["path"]).is_file() and Path(record["path"]).is_file()
    assert record["command"]["changed"] and diff["after"]["command"]["version"] == VERSION
    changed, record, _ = call(configuration, CONFIGURATION, wanted)
    assert (changed, record["command"]["changed"]) == (False, False)
    given = {**definition, "unit_dir": str(tmp_path / "units"), "check": True}
    assert call(units, units.SPEC, given)[1]["check"] == {"problems": [], "warnings": []}
    shutil.rmtree(definition["backup_dir"])
    assert "check" not in call(units, units.SPEC, given, check_mode=True)[1]
    with pytest.raises(door.FailedOutcome, match="the directory of backup_dir does not exist") as failed:
        call(units, units.SPEC, given)
    assert failed.value.exit_status == ExitStatus.FINDINGS
    assert len(failed.value.outcome.record["check"]["problems"]) == 1


def test_backup_check_mode_then_backup_verify_restore(
    call: Any, installed: dict[str, Any], definition: dict[str, Any]
) -> None:
    backups = Path(definition["backup_dir"])
    changed, record, _ = call(backup, backup.SPEC, installed, check_mode=True)
    assert changed
    assert record["plan"]["files"] == 1
    assert list(backups.iterdir()) == []
    made = call(backup, backup.SPEC, {**installed, "name": "first"})[1]["backup"]
    assert made["pinned"]
    found = call(backup_info, arguments.configured_spec(), installed)[1]["backups"]
    assert [item["name"] for item in found] == [made["name"]]
    assert call(verify, verify.SPEC, {**installed, "deep": True})[0] is False
    assert call(archive_verify, archive_verify.SPEC, {**installed, "path": made["path"]})[0] is False
    document = Path(definition["root"], "state/mode.json")
    assert call(restore, restore.SPEC, installed)[0] is False
    document.write_text('{"mode": "prod"}')
    assert call(restore, restore.SPEC, installed, check_mode=True)[0] is True
    assert json.loads(document.read_text()) == {"mode": "prod"}
    assert call(restore, restore.SPEC, installed)[0] is True
    assert json.loads(document.read_text()) == {"mode": "demo"}
    assert call(restore, restore.SPEC, installed)[0] is False
    assert call(prune, prune.SPEC, installed, check_mode=True)[0] is False
    assert call(recover, recover.SPEC, installed)[0] is False


def test_a_backup_of_nothing_needs_a_word(call: Any, installed: dict[str, Any], definition: dict[str, Any]) -> None:
    call(backup, backup.SPEC, installed)
    Path(definition["root"], "state/mode.json").unlink()
    for check_mode in (True, False):
        with pytest.raises(CaptureError, match="--allow-loss"):
            call(backup, backup.SPEC, installed, check_mode=check_mode)
    assert call(backup, backup.SPEC, {**installed, "allow_loss": ["all"]})[1]["warnings"]


def test_a_drill_is_recorded_and_fails_with_its_record(call: Any, installed: dict[str, Any]) -> None:
    made = call(backup, backup.SPEC, installed)[1]["backup"]
    assert call(drill, drill.SPEC, installed, check_mode=True)[1]["state"] == "planned"
    changed, record, _ = call(drill, drill.SPEC, installed)
    assert (changed, record["verdict"]) == (False, "passed")
    Path(made["path"]).write_bytes(b"nothing")
    with pytest.raises(door.FailedOutcome) as failed:
        call(drill, drill.SPEC, installed)
    assert failed.value.exit_status == 1
    assert failed.value.outcome.record["verdict"] == "failed"
    assert "damaged or exchanged" in str(failed.value)
    found = call(drill_info, arguments.configured_spec(), installed)[1]["drills"]
    assert [item["verdict"] for item in found] == ["failed", "passed"]


def test_a_recovery_is_recorded_and_known_again(call: Any, installed: dict[str, Any]) -> None:
    seen = {**installed, "sha256": "5" * 64}
    assert call(recovery, recovery.SPEC, seen)[1]["known"] is False
    given = {**seen, "state": "recovered", "archive": "x.tar.gz", "phases": [{"name": "tree", "seconds": 1.5}]}
    changed, record, _ = call(recovery, recovery.SPEC, given)
    assert (changed, record["state"], record["rto"]["seconds"]) == (True, "recovered", 1.5)
    assert call(recovery, recovery.SPEC, seen)[1]["known"] is True
    with pytest.raises(door.FailedOutcome, match="no space"):
        call(recovery, recovery.SPEC, {**given, "state": "failed", "error": "no space"})


def test_a_named_backup_is_released_once(call: Any, installed: dict[str, Any]) -> None:
    made = call(backup, backup.SPEC, {**installed, "name": "keep"})[1]["backup"]
    wanted = {**installed, "backup": "keep"}
    assert call(backup_release, backup_release.SPEC, wanted, check_mode=True)[0] is True
    assert call(backup_info, arguments.configured_spec(), installed)[1]["backups"][0]["pinned"] is True
    changed, record, diff = call(backup_release, backup_release.SPEC, wanted)
    assert changed
    assert (record["backup"], record["pinned"], record["keep"]) == (made["name"], False, True)
    assert diff == {"before": {"pinned": True}, "after": {"pinned": False}}
    assert call(backup_info, arguments.configured_spec(), installed)[1]["backups"][0]["pinned"] is False
    assert call(backup_release, backup_release.SPEC, wanted)[0] is False


def test_a_damaged_backup_fails_the_module(
    call: Any, installed: dict[str, Any], fake: Any, complete: Any, ended: Any
) -> None:
    made = call(backup, backup.SPEC, installed)[1]["backup"]
    content = bytearray(Path(made["path"]).read_bytes())
    content[len(content) // 2] ^= 1
    Path(made["path"]).write_bytes(content)
    with pytest.raises(ended) as caught:
        door.serve(fake(complete(verify.SPEC, installed)), verify.run)
    assert caught.value.failed
    assert caught.value.result["exit_status"] == 1
    assert caught.value.result["record"]["backups"][0]["ok"] is False
    assert "\n" not in caught.value.result["msg"]


def git(place: Path, *words: str) -> str:
    """Run git in a repository of the test's own."""
    who = {f"GIT_{role}_{what}": "a@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(["git", *words], cwd=place, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A repository with some code."""
    place = tmp_path / "upstream"
    place.mkdir()
    git(place, "init", "--quiet", "--initial-branch=main")
    (place / "bot.py").write_text("print(1)\n")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "--message", "first")
    return place


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_deploy_do_again_undo_and_refuse(
    call: Any,
    installed: dict[str, Any],
    definition: dict[str, Any],
    upstream: Path,
    fake: Any,
    complete: Any,
    ended: Any,
) -> None:
    root = Path(definition["root"])
    given = {**installed, "ref": "main", "repository": str(upstream), "backup_first": "none", "by": "somebody"}
    before = listing(root)
    changed, record, diff = call(deploy, deploy.SPEC, given, check_mode=True)
    assert (changed, record["state"]) == (True, "planned")
    assert diff["after"]["bot.py"] == "create"
    assert listing(root) == before
    changed, first, _ = call(deploy, deploy.SPEC, given)
    assert (changed, first["state"], first["by"]) == (True, "deployed", "somebody")
    assert first["proof"]["verdict"] == "preserved"
    assert call(deploy, deploy.SPEC, given)[0] is False
    (upstream / "bot.py").write_text("print(2)\n")
    git(upstream, "commit", "--quiet", "--all", "--message", "second")
    second = call(deploy, deploy.SPEC, given)[1]
    back = {**installed, "rollback": True}
    with pytest.raises(UsageError, match="is deployed and not"):
        call(deploy, deploy.SPEC, {**back, "expected": first["new_commit"]})
    changed, undone, _ = call(deploy, deploy.SPEC, {**back, "expected": second["new_commit"]})
    assert (changed, undone["state"], undone["new_commit"]) == (True, "rolled_back", first["new_commit"])
    assert (root / "bot.py").read_text() == "print(1)\n"
    (upstream / "state").mkdir()
    (upstream / "state/mode.json").write_text('{"mode": "prod"}')
    git(upstream, "add", ".")
    git(upstream, "commit", "--quiet", "--message", "third")
    with pytest.raises(ended, match=r"refused: .*state/mode\.json") as caught:
        door.serve(fake(complete(deploy.SPEC, given)), deploy.run)
    assert caught.value.failed
    assert caught.value.result["exit_status"] == 3
    assert [item["path"] for item in caught.value.result["record"]["collisions"]] == ["state/mode.json"]
    assert json.loads((root / "state/mode.json").read_text()) == {"mode": "demo"}
    told = call(deploy_info, arguments.configured_spec(), installed)[1]["deploys"]
    assert [item["state"] for item in told] == ["refused", "rolled_back", "deployed", "deployed"]
    with pytest.raises(UsageError, match="what to deploy"):
        call(deploy, deploy.SPEC, installed)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_gitignore_do_again_undo(call: Any, definition: dict[str, Any], upstream: Path) -> None:
    given = {**definition, "path": str(upstream)}
    rules = upstream / ".gitignore"
    changed, record, diff = call(gitignore, gitignore.SPEC, given, check_mode=True)
    assert (changed, rules.exists()) == (True, False)
    assert diff["after"]["block"] == record["missing"]
    assert call(gitignore, gitignore.SPEC, given)[0] is True
    assert "/keys" in rules.read_text().splitlines()
    assert call(gitignore, gitignore.SPEC, given)[0] is False
    (upstream / "keys").mkdir()
    (upstream / "keys/k").write_text("x")
    git(upstream, "add", "--force", "keys/k")
    tracked = call(tracked_data, tracked_data.SPEC, given)[1]["tracked"]
    assert tracked == [{"path": "keys/k", "why": "component keys"}]
    assert call(gitignore, gitignore.SPEC, {**given, "state": "absent"})[0] is True
    assert call(gitignore, gitignore.SPEC, {**given, "state": "absent"})[0] is False


def test_read_only_modules(call: Any, installed: dict[str, Any]) -> None:
    shown = call(application_info, arguments.configured_spec(), installed)[1]
    assert shown["application"]["name"] == "toy"
    assert call(sqlite_integrity, sqlite_integrity.SPEC, installed)[1]["databases"] == []
    assert call(sqlite_optimize, sqlite_optimize.SPEC, installed)[0] is False


@pytest.mark.parametrize("path", ["../other.db", "state/../../other.db", "absent.db"])
def test_a_database_that_is_none_of_the_applications_is_wrong_usage(call: Any, installed: Any, path: str) -> None:
    for module in (sqlite_integrity, sqlite_optimize):
        with pytest.raises(UsageError, match=r"other\.db|absent\.db"):
            call(module, module.SPEC, {**installed, "paths": [path]})


def test_an_error_becomes_one_line_with_its_exit_status(fake: Any, ended: Any) -> None:
    def run(module: Any, ports: Any) -> Any:
        raise LockBusyError("held by backup\nfor a while", path="/x", hint="wait")

    with pytest.raises(ended) as caught:
        door.serve(fake({}), run)
    result = caught.value.result
    assert caught.value.failed
    assert result["msg"] == "/x: held by backup\\nfor a while (wait)"
    assert (result["exit_status"], result["error"]["hint"], result["changed"]) == (3, "wait", False)


def test_a_fault_of_the_system_is_one_line_and_a_mistake_is_not_swallowed(fake: Any, ended: Any) -> None:
    def full(module: Any, ports: Any) -> Any:
        raise OSError(28, "No space left on device", "/backups/x")

    with pytest.raises(ended, match="/backups/x: no space left on device"):
        door.serve(fake({}), full)

    def mistaken(module: Any, ports: Any) -> Any:
        raise KeyError("mistake")

    with pytest.raises(ended) as caught:
        door.serve(fake({}), mistaken)
    result = caught.value.result
    assert caught.value.failed
    assert result["exit_status"] == result["error"]["exit_status"] == 4
    assert result["msg"].startswith("internal error: KeyError: 'mistake'")
    assert "in mistaken" in result["exception"]


@pytest.mark.parametrize("module", [backup, restore, recover])
def test_a_module_that_fails_while_a_transaction_is_pending_needs_a_person(
    module: Any, installed: dict[str, Any], definition: dict[str, Any], fake: Any, complete: Any, ended: Any, call: Any
) -> None:
    call(backup, backup.SPEC, installed)
    state, root = Path(definition["state_dir"], "toy"), Path(definition["root"])
    staged = root / ".tradekeep-stage-0123456789abcdef"
    staged.mkdir()
    (staged / "new").write_text("new")
    replacement = Replacement(str(root / "state/mode.json"), str(staged / "new"), str(staged / "kept"))
    begun = Exchange.begin(
        state, operation="restore", replacements=[replacement], stages=[str(staged)], clock=SystemClock()
    )
    begun.apply()
    if module is recover:  # it would not need anybody, if only it could write
        (state / "restored.json").mkdir()
    with pytest.raises(ended) as caught:
        spec = module.SPEC
        door.serve(fake(complete(spec, installed)), module.run)
    assert caught.value.failed
    assert caught.value.result["exit_status"] == caught.value.result["error"]["exit_status"] == 4
    assert "tradekeep recover" in caught.value.result["msg"]


def test_a_migration_is_planned_carried_out_and_found_done(
    call: Any, installed: dict[str, Any], definition: dict[str, Any], tmp_path: Path
) -> None:
    source = tmp_path / "old"
    (source / "state").mkdir(parents=True)
    (source / "state/positions.json").write_text('{"open": 2}')
    given = {**installed, "source": str(source), "force": True}
    before = listing(Path(definition["root"]))
    changed, record, _ = call(migrate, migrate.SPEC, given, check_mode=True)
    assert (changed, record["state"]) == (True, "planned")
    assert listing(Path(definition["root"])) == before
    changed, record, diff = call(migrate, migrate.SPEC, given)
    assert (changed, record["state"], record["by"]) == (True, "migrated", "ansible")
    assert diff["before"]["state/positions.json"] == "absent"
    assert call(migrate, migrate.SPEC, given)[0] is False


def test_a_migration_with_conflicts_fails_with_its_record(
    installed: dict[str, Any], definition: dict[str, Any], fake: Any, complete: Any, ended: Any, tmp_path: Path
) -> None:
    source = tmp_path / "old"
    (source / "state").mkdir(parents=True)
    (source / "state/positions.json").write_text('{"open": 2}')
    Path(definition["root"], "state/positions.json").write_text('{"open": 3}')
    with pytest.raises(ended) as caught:
        door.serve(fake(complete(migrate.SPEC, {**installed, "source": str(source), "force": False})), migrate.run)
    assert caught.value.failed
    assert caught.value.result["exit_status"] == 3
    assert "state/positions.json: differs on this host" in caught.value.result["record"]["against"]
    assert "state/positions.json: differs on this host" in caught.value.result["msg"]


def test_a_fence_is_put_up_and_taken_down(call: Any, installed: dict[str, Any]) -> None:
    absent = {**installed, "state": "absent"}
    assert call(fence, fence.SPEC, installed, check_mode=True)[0] is True
    assert call(fence, fence.SPEC, {**installed, "reason": "moved"})[0] is True
    changed, record, _ = call(fence, fence.SPEC, installed)
    assert (changed, record["reason"]) == (False, "moved")
    assert call(fence, fence.SPEC, absent)[0] is True
    assert call(fence, fence.SPEC, absent)[0] is False


def test_notes_of_the_engine_become_warnings(fake: Any, ended: Any) -> None:
    def run(module: Any, ports: Any) -> Any:
        ports.progress.start("x", 1)
        ports.progress.advance(1)
        ports.progress.finish()
        ports.progress.note("worth a warning")
        ports.progress.mention("waiting for the lock")
        return False, {}, {}

    module = fake({})
    with pytest.raises(ended):
        door.serve(module, run)
    assert module.warnings == ["worth a warning"]


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
@pytest.mark.once
def test_hazard_b8_the_passphrase_is_proven_before_the_bad_day(
    call: Any, definition: dict[str, Any], tmp_path: Path, ports: Any
) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text("correct horse")
    encrypted = {**definition, "passphrase_file": str(passphrase)}
    call(tree, TREE, encrypted)
    call(configuration, CONFIGURATION, encrypted)
    application = load_application(config_dir=definition["config_dir"])
    assert check_configuration(application, ports).status == ExitStatus.DONE
    passphrase.chmod(0o644)
    found = check_configuration(application, ports)
    assert found.status == ExitStatus.FINDINGS
    assert "can be read by others" in found.record["problems"][0]
