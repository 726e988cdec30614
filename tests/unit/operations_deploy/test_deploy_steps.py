# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of a deploy's steps: what is slow comes before the stop, and who may deploy is asked before anything."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.deploy import deploy, deploy_log
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.request import DeployRequest

from .conftest import TRADES, listing


class Listening(SubprocessRunner):
    """Notes each program among the steps."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self.heard = heard

    def _start(self, argv, **keywords):
        self.heard.append(f"program {os.path.basename(argv[0])}")
        return super()._start(argv, **keywords)


def heard(world) -> list[str]:
    found: list[str] = []
    ports = dataclasses.replace(world.ports, runner=Listening(found), step=found.append)
    deploy(world.application, ports, DeployRequest(ref="main"))
    return found


def test_between_stop_and_start_no_program_runs_and_nothing_is_fetched_or_written_anew(world) -> None:
    """Whatever the size of the code, there are renames only: the new files are those that were staged before."""
    world.deploy()
    world.push({**{f"lib/module{number}.py": "x = 1\n" * 100 for number in range(50)}, "bot.py": "print(2)\n"})
    found = heard(world)
    stop, start = found.index("stop"), found.index("start")
    assert [step for step in found[stop:start] if step.startswith("program")] == []
    for slow in ("fetch", "export", "stage", "staged"):
        assert found.index(slow) < stop
    assert any(step.startswith("program git") for step in found[:stop])


def test_what_is_put_in_place_was_written_before_the_stop(world) -> None:
    world.deploy()
    world.push({f"lib/module{number}.py": f"x = {number}\n" for number in range(20)})
    staged: dict[int, int] = {}

    def note(step: str) -> None:
        if step == "stop":
            staged.update({path.stat().st_ino: path.stat().st_mtime_ns for path in world.base.rglob("module*.py")})

    world.deploy(step=note)
    live = [path.stat() for path in (world.live / "lib").glob("module*.py")]
    assert len(live) == 20
    assert all(staged.get(facts.st_ino) == facts.st_mtime_ns for facts in live)


@pytest.mark.parametrize("signed", [False, True])
def test_a_signature_is_asked_for_before_anything_is_exported(world, tmp_path: Path, signed: bool) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f"good@example.com {key.with_suffix('.pub').read_text()}")
    signers.chmod(0o600)
    world.settings["signers"] = str(signers)
    (world.upstream / "bot.py").write_text("print(2)\n")
    sign = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={key}") if signed else ()
    world.git(*sign, "commit", *(["--gpg-sign"] if signed else []), "--quiet", "--all", "--message", "second")
    before, steps = listing(world.live), []
    if signed:
        assert world.deploy(step=steps.append).record["state"] == "deployed"
        return
    with pytest.raises(TradekeepError, match="sign"):
        world.deploy(step=steps.append)
    assert (listing(world.live), "export" in steps) == (before, False)
    with pytest.raises(TradekeepError, match="sign"):
        world.deploy(dry_run=True)


def test_the_record_tells_what_changed_who_asked_how_long_it_took_and_what_became_of_the_data(world) -> None:
    world.deploy()
    new = world.push({"bot.py": "print(2)\n", "lib/b.py": None, "lib/c.py": "c = 1\n"})
    world.deploy(by="somebody")
    outcome = deploy_log(world.application, world.ports)
    record = outcome.record["deploys"][0]
    assert (record["old_commit"], record["new_commit"], record["by"]) == (world.first, new, "somebody")
    counts = {name: record["changes"][name] for name in ("created", "replaced", "removed")}
    assert counts == {"created": 1, "replaced": 1, "removed": 1}
    assert record["downtime_seconds"] >= 0
    assert {"staging", "proof", "total"} <= set(record["seconds"])
    assert record["proof"]["verdict"] == "preserved"
    assert record["proof"]["components"]["paper_trading_outputs"]["untouched"] >= 1
    assert Path(record["record"]).is_relative_to(world.state)
    assert Path(record["record"]).stat().st_mode & 0o777 == 0o600
    assert any("somebody" in line and new[:12] in line for line in outcome.lines)
    subject = world.git("log", "-1", "--format=%s", new, at=world.live)
    assert outcome.lines[1].endswith(f": {subject}"), "why it was made"
    assert world.read(TRADES) == '{"n": 1}\n'
