# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One classifier: what the profile says of a file holds in every operation, and the name only where it says nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CaptureError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import current_account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.base import CaptureContext
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.databases import check_databases
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.data_reader import DataReader
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.ignore_lines import ignore_lines
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.proof import Witness
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify

PARTS = ("", "-wal", "-shm", "-journal")
CRASHED = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1])
c.execute("pragma journal_mode=wal"); c.execute("pragma wal_autocheckpoint=0")
c.execute("create table if not exists fills (id integer primary key, trade_id text)"); c.commit()
c.executemany("insert into fills(trade_id) values (?)", [("yes",)] * 25); c.commit()
os._exit(0)
"""


def crashed(place: Path) -> None:
    """A database of 25 rows that are all in its WAL, as a bot that was killed leaves it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-c", CRASHED, str(place)], check=True)


def rows(place: Path) -> int:
    connection = sqlite3.connect(place)
    try:
        return connection.execute("SELECT count(*) FROM fills").fetchone()[0]
    finally:
        connection.close()


def profile(*rules: dict, **more) -> dict:
    component = {"paths": ["data"], "directories": ["data"], "critical": True, "files": list(rules), **more}
    return {"name": "bot", "components": {"data": component}, "deploy": {"layout": "in_place"}}


@pytest.fixture
def make(make_bench):
    def made(*rules: dict, **more):
        bench = make_bench(profile(*rules, **more), owner="bot")
        bench.make_tree()
        return bench

    return made


def names(bench) -> list[str]:
    with tarfile.open(bench.backups / "latest_backup.tar.gz") as archive:
        return sorted(name for name in archive.getnames() if name.startswith("data/"))


@pytest.mark.parametrize(
    ("name", "kind", "held"),
    [
        ("fills.db", None, [""]),
        ("fills.ledger", "sqlite", [""]),
        ("vault.db", "file", ["", "-wal"]),
        ("vault.bin", None, ["", "-wal"]),
    ],
)
def test_hazard_a1_every_row_comes_back_whatever_the_profile_calls_the_file(make, tmp_path, name, kind, held):
    bench = make(*([{"pattern": name, "kind": kind}] if kind else []))
    place = bench.root / "data" / name
    crashed(place)
    backup(bench.application, bench.ports)
    assert names(bench) == [f"data/{name}{part}" for part in held]
    assert verify(bench.application, bench.ports, reference="latest", deep=True).status == 0
    assert drill(bench.application, bench.ports).record["verdict"] == "passed"
    assert not restore(bench.application, bench.ports, dry_run=True).changed
    restore(bench.application, bench.ports, to=str(tmp_path / "apart"))
    assert rows(tmp_path / "apart" / "data" / name) == 25
    for part in PARTS:
        Path(f"{place}{part}").unlink(missing_ok=True)
    crashed(place)
    crashed(place)
    outcome = restore(bench.application, bench.ports)
    assert outcome.changed and rows(place) == 25
    # What was there is in the safety backup with its WAL.
    restore(bench.application, bench.ports, reference=outcome.record["safety_backup"])
    assert rows(place) == 50


@pytest.mark.parametrize("changed", ["", "-wal"], ids=["file", "wal"])
def test_hazard_a1_what_is_worth_something_together_alone_is_replaced_and_kept_together(make, changed):
    bench = make({"pattern": "vault.db", "kind": "file"})
    for part in ("", "-wal"):
        (bench.root / f"data/vault.db{part}").write_bytes(b"before")
    backup(bench.application, bench.ports)
    (bench.root / f"data/vault.db{changed}").write_bytes(b"after")
    planned = restore(bench.application, bench.ports, dry_run=True).record["changes"]
    assert [(item["path"], item["action"]) for item in planned] == [
        ("data/vault.db", "replace"),
        ("data/vault.db-wal", "replace"),
    ]


def test_a_part_of_a_restore_takes_the_wal_of_what_is_taken_as_bytes(make):
    bench = make({"pattern": "vault.db", "kind": "file"})
    place = bench.root / "data/vault.db"
    crashed(place)
    backup(bench.application, bench.ports)
    for part in PARTS:
        Path(f"{place}{part}").unlink(missing_ok=True)
    restore(bench.application, bench.ports, paths=("data/vault.db",))
    assert rows(place) == 25


@pytest.mark.parametrize(("name", "kind"), [("fills.ledger", "sqlite"), ("vault.db", "file")])
def test_a_migration_asks_the_profile_too(make, tmp_path, name, kind):
    bench = make({"pattern": name, "kind": kind})
    config = Path(bench.application.config_file)
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(render_configuration(bench.application))
    crashed(tmp_path / "old/data" / name)
    outcome = migrate(bench.application, bench.ports, source=str(tmp_path / "old"))
    assert outcome.record["plan"]["left"] == [], outcome.lines
    held = ["", "-wal"] if kind == "file" else [""]
    assert sorted(os.listdir(bench.root / "data")) == [f"{name}{part}" for part in held]
    assert rows(bench.root / "data" / name) == 25


def test_a_migration_takes_a_stray_file_as_it_is(make, tmp_path):
    bench = make()
    config = Path(bench.application.config_file)
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(render_configuration(bench.application))
    crashed(tmp_path / "old/data/fills.db")
    for name, content in (("._fills.db", b"\0\5\x16\7"), ("empty.db", b"")):
        (tmp_path / "old/data" / name).write_bytes(content)
    outcome = migrate(bench.application, bench.ports, source=str(tmp_path / "old"))
    assert outcome.status == 0, outcome.lines
    assert (bench.root / "data/._fills.db").read_bytes() == b"\0\5\x16\7"
    assert (bench.root / "data/empty.db").read_bytes() == b""


def test_the_wal_that_the_profile_leaves_out_stays_out(make):
    bench = make({"pattern": "vault.db", "kind": "file"}, exclude=["*-wal"])
    crashed(bench.root / "data/vault.db")
    backup(bench.application, bench.ports)
    assert names(bench) == ["data/vault.db"]


def test_the_databases_that_are_checked_are_those_of_the_profile(make):
    bench = make({"pattern": "*.ledger", "kind": "sqlite"}, {"pattern": "vault.db", "kind": "file"})
    crashed(bench.root / "data/fills.ledger")
    (bench.root / "data/vault.db").write_bytes(os.urandom(4096))
    outcome = check_databases(bench.application, bench.ports)
    assert [item["path"] for item in outcome.record["databases"]] == ["data/fills.ledger"]
    assert outcome.status == 0


def witness(bench, tmp_path) -> Witness:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    context = CaptureContext(scratch, bench.ports.clock)
    return Witness(bench.application, (), DataReader(context, current_account(), bench.ports))


def test_the_proof_of_a_deploy_judges_a_file_by_its_kind(make, tmp_path):
    """A status file that is called a log is rewritten; a database that is called a ledger loses its rows."""
    bench = make({"pattern": "status.log", "kind": "file"}, {"pattern": "*.ledger", "kind": "sqlite"})
    status, ledger = bench.root / "data/status.log", bench.root / "data/fills.ledger"
    status.write_text("tick 1\n")
    crashed(ledger)
    seen = witness(bench, tmp_path)
    before = seen.facts()
    samples = seen.samples(before)
    status.write_text("tick 2\n")
    assert seen.compare(before, seen.facts(), samples).damaged == []
    connection = sqlite3.connect(ledger)
    connection.execute("delete from fills")
    connection.commit()
    connection.close()
    assert "had 25 rows" in str(seen.compare(before, seen.facts(), samples).damaged)


def test_what_may_come_to_lie_beside_a_database_by_rule_is_ignored(make_bench):
    component = {"paths": ["fills.ledger"], "files": [{"pattern": "*.ledger", "kind": "sqlite"}]}
    bench = make_bench(
        {"name": "bot", "components": {"data": component}, "deploy": {"layout": "in_place"}}, owner="bot"
    )
    lines = {item.line for item in ignore_lines(bench.application)}
    assert {"/fills.ledger", "/fills.ledger-wal", "/fills.ledger-shm"} <= lines


def test_what_never_holds_still_is_refused_by_name(make, monkeypatch):
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import together

    bench = make({"pattern": "vault.db", "kind": "file"})
    crashed(bench.root / "data/vault.db")
    monkeypatch.setattr(together, "_held_still", lambda _path, _opened: False)
    monkeypatch.setattr(together, "pauses", lambda _context: iter(range(2)))
    with pytest.raises(CaptureError, match="keeps changing") as caught:
        backup(bench.application, bench.ports)
    assert caught.value.path == str(bench.root / "data/vault.db")
