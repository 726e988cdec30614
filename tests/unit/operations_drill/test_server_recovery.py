# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host remembers of its recovery."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import server_recovery
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.record import drill_log
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.server_recovery import (
    FAILED,
    RECOVERED,
    REHEARSED,
    Recovery,
    keep_recovery,
    last_recovery,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.backup import iso
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.fence_file import write_fence
from drill_bench import Bench

SHA256 = "5" * 64
PHASES = (("tree", 2.0), ("data and start", 10.5))
HOLDS = {"files": 3, "bytes": 9000, "databases": {"fills.db": {"tables": {"fills": 40, "orders": 2}}}}


class Services:
    """Units, of which some run."""

    def __init__(self, installed: list[str], running: list[str]) -> None:
        self._installed, self._running = installed, running

    def __call__(self, *_arguments: Any) -> Services:
        return self

    def snapshot(self) -> list[dict[str, Any]]:
        return [{"running": self._running}]

    def installed(self) -> list[dict[str, Any]]:
        return [{"running": self._installed}]


def keep(bench: Bench, state: str = RECOVERED, **options: Any) -> Outcome:
    created = iso(bench.clock.now() - timedelta(hours=2))
    migration = {"holds": HOLDS, "backup": "/backups/before.tar.gz", "record": "/state/migration.json"}
    given = {"archive": "x.tar.gz", "sha256": SHA256, "phases": PHASES, "created": created, "migration": migration}
    whole = {key: options.pop(key, value) for key, value in {**given, "error": ""}.items()}
    bench.application = with_keys(bench)
    return keep_recovery(bench.application, bench.ports, Recovery(state, **whole), **options)


def with_keys(bench: Bench) -> Any:
    """The credentials that the profile requires."""
    for path in bench.application.profile.deploy.requires:
        (bench.root / path).parent.mkdir(parents=True, exist_ok=True)
        (bench.root / path).write_text("key\n")
    return bench.application


def test_a_recovery_is_kept_with_its_phases_and_targets(bench: Bench) -> None:
    done = keep(bench)
    record = done.record
    assert done.status is ExitStatus.DONE
    assert record["rto"] == {"seconds": 12.5, "target": 7200.0, "met": True}
    assert 7200 <= record["rpo"]["seconds"] < 7260
    assert record["databases"] == [{"path": "fills.db", "tables": {"fills": 40, "orders": 2}, "rows": 42}]
    assert record["kept_aside"] == ["/backups/before.tar.gz"]
    (kept,) = (bench.state / "recoveries").iterdir()
    assert json.loads(kept.read_text()) == record
    assert kept.stat().st_mode & 0o777 == 0o600
    assert done.lines[0].split() == ["phase", "time"]
    assert "all             12.5 s" in done.lines
    assert not (bench.state / "drills").exists()


def test_an_archive_that_was_recovered_is_known_again(bench: Bench) -> None:
    def look() -> Any:
        return last_recovery(bench.application, bench.ports, sha256=SHA256).record

    assert (look()["known"], look()["last"]) == (False, None)
    keep(bench, FAILED, error="no space")
    assert not look()["known"], "what failed is tried again"
    keep(bench)
    assert look()["known"]
    assert not last_recovery(bench.application, bench.ports, sha256="6" * 64).record["known"]
    assert not last_recovery(bench.application, bench.ports).record["known"]
    bench.clock.ahead += timedelta(hours=1)
    keep(bench, REHEARSED)
    assert not look()["known"], "after a rehearsal the bot has not gone on"


def test_a_plan_keeps_nothing(bench: Bench) -> None:
    assert keep(bench, dry_run=True).record["state"] == RECOVERED
    assert not (bench.state / "recoveries").exists()


def test_a_failure_is_kept_with_what_was_done(bench: Bench) -> None:
    done = keep(bench, FAILED, error="the data: no space")
    assert done.status is ExitStatus.FINDINGS
    assert done.lines[0] == "PROBLEM: the data: no space"
    assert json.loads(next((bench.state / "recoveries").iterdir()).read_text())["state"] == FAILED


def test_missing_credentials_are_a_finding(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_recovery, "missing_files", lambda _application: iter(["/data/key.pem"]))
    done = keep(bench)
    assert done.status is ExitStatus.FINDINGS
    assert done.record["problems"] == ["/data/key.pem is missing: the bot has no credentials"]


def test_a_service_that_does_not_run_is_a_finding(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_recovery, "services_of", Services(["bot.service"], []))
    done = keep(bench)
    assert (done.status, done.record["problems"]) == (ExitStatus.FINDINGS, ["bot.service does not run"])
    assert keep(bench, expect_services=False).status is ExitStatus.DONE
    write_fence(bench.state, {"at": "2026-03-01T00:00:00", "reason": "moved"})
    fenced = keep(bench)
    assert fenced.status is ExitStatus.DONE
    assert "this host is fenced since 2026-03-01T00:00:00: moved; nothing was started" in fenced.lines
    assert last_recovery(bench.application, bench.ports).record["fenced"] == "fenced since 2026-03-01T00:00:00: moved"


def test_hazard_e_a_rehearsal_with_a_living_bot_is_a_finding(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_recovery, "services_of", Services(["bot.service"], ["bot.service"]))
    done = keep(bench, REHEARSED, expect_services=False)
    assert done.record["problems"] == ["bot.service runs on a spare host"]
    assert done.status is ExitStatus.FINDINGS


def test_a_rehearsal_is_listed_with_the_drills(bench: Bench) -> None:
    keep(bench, REHEARSED, expect_services=False)
    keep(bench, REHEARSED, expect_services=False, created=iso(bench.clock.now() - timedelta(days=3)))
    keep(bench, FAILED, expect_services=False, error="no space")
    log = drill_log(bench.application, bench.ports)
    assert [item["verdict"] for item in log.record["drills"]] == ["failed", "missed", "passed"]
    assert log.record["drills"][2]["phases"] == dict(PHASES)
    assert log.record["drills"][2]["source"] == "a spare host"


def test_an_archive_without_a_date_meets_no_target(bench: Bench) -> None:
    done = keep(bench, created="")
    assert (done.record["rpo"]["seconds"], done.record["rpo"]["met"]) == (None, False)
    assert any("not known" in line for line in done.lines)


def test_a_damaged_record_counts_for_nothing(bench: Bench) -> None:
    keep(bench)
    newer = bench.state / "recoveries" / "99991231_000000.json"
    newer.write_text("{")
    assert last_recovery(bench.application, bench.ports, sha256=SHA256).record["known"]
