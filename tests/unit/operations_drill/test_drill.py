# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills: what is restored for practice, what is found, what is remembered, and that nothing stays behind."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ConfigurationError,
    ExitStatus,
    InterruptedBySignal,
    LockBusyError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.files import Space
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem import scratch as host_scratch
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills import drill as drill_module
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills import record, scratch
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.record import drill_log
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.signals import interruptible
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.lock import application_lock

sys.path.insert(0, str(Path(__file__).parent))
from drill_bench import FILLS, add_rows, database_bytes, snapshot

TABLES = {"tables": {"fills": 400}}


def said(outcome):
    return "\n".join(outcome.record["problems"])


def test_a_good_backup_passes_and_leaves_nothing_but_its_record(bench):
    connection = bench.database()
    (bench.root / "preferences/note.json").write_text('{"a": 1}')
    made = bench.backup()
    before, archives = snapshot(bench.root), snapshot(bench.backups)
    outcome = bench.drill()
    assert outcome.status is ExitStatus.DONE and outcome.record["verdict"] == "passed", said(outcome)
    assert not outcome.changed
    assert (snapshot(bench.root), snapshot(bench.backups)) == (before, archives)
    assert bench.leftovers() == []
    found = outcome.record
    assert bench.records() == [found]
    assert found["backup"]["name"] == made.name and found["backup"]["newest"]
    assert [(item["path"], item["rows"], item["ok"]) for item in found["databases"]] == [(FILLS, 100, True)]
    assert set(found["phases"]) == {"find", "verify", "unpack", "check", "compare"}
    assert found["drilled"]["whole"] and found["drilled"]["bytes"] == found["drilled"]["of_bytes"]
    assert (found["rto"]["met"], found["rto"]["target"], found["rpo"]["target"]) == (True, 7200, 86400)
    connection.close()


def test_list_and_the_log_tell_of_the_last_drill(bench):
    bench.database().close()
    bench.backup()
    assert "drilled" not in list_backups(bench.application, bench.ports).lines[0]
    bench.drill()
    found = list_backups(bench.application, bench.ports)
    assert found.lines[0].endswith("drilled") and found.lines[1].endswith("passed")
    told = found.record["backups"][0]
    assert (told["drilled_verdict"], told["drilled_from"]) == ("passed", "local")
    (bench.state / "drills/20000101_000000.json").write_text("{")
    log = drill_log(bench.application, bench.ports).record["drills"]
    assert [item["verdict"] for item in log] == ["passed", "damaged"]


def test_another_archive_under_the_name_was_not_drilled(bench):
    bench.database().close()
    made = bench.backup()
    bench.drill()
    sidecar = made.with_name(made.name + ".sha256")
    sidecar.write_text("0" * 64 + sidecar.read_text()[64:])
    assert bench.catalog().list()[0].drilled_verdict is None


def test_a_database_damaged_inside_the_archive_is_found(bench, tmp_path):
    """Checksums and manifest vouch for the damage: only opening the database shows it."""
    content = bytearray(database_bytes(tmp_path))
    content[4096 * 3 : 4096 * 3 + 200] = bytes(200)
    bench.hand_made({FILLS: (bytes(content), "sqlite", TABLES)})
    outcome = bench.drill()
    assert outcome.status is ExitStatus.FINDINGS and outcome.record["verdict"] == "failed"
    assert FILLS in said(outcome)
    assert bench.leftovers() == []


@pytest.mark.parametrize("told", [{"fills": 401}, {"fills": 400, "orders": 3}, {}])
def test_rows_that_differ_from_the_manifest_are_found(bench, tmp_path, told):
    bench.hand_made({FILLS: (database_bytes(tmp_path), "sqlite", {"tables": told})})
    outcome = bench.drill()
    assert outcome.status is ExitStatus.FINDINGS
    assert "the manifest says" in said(outcome)


def test_another_schema_than_the_manifests_is_found(bench, tmp_path):
    bench.hand_made({FILLS: (database_bytes(tmp_path), "sqlite", {**TABLES, "schema_sha256": "0" * 64})})
    assert "schema" in said(bench.drill())


def test_a_malformed_document_is_a_note_when_it_was_captured_so_and_a_fault_when_not(bench):
    bench.hand_made({"state/a.json": (b"{", "json", {"warnings": ["ends in the middle"]})})
    outcome = bench.drill()
    assert outcome.record["verdict"] == "passed", said(outcome)
    assert any("state/a.json" in text for text in outcome.record["notes"])
    bench.clock.ahead += timedelta(seconds=5)
    bench.hand_made({"state/a.json": (b"{", "json", {})})
    assert "state/a.json" in said(bench.drill())


def test_a_flipped_bit_in_the_file_is_found_before_anything_is_unpacked(bench):
    bench.database().close()
    made = bench.backup()
    content = bytearray(made.read_bytes())
    content[len(content) // 2] ^= 1
    made.write_bytes(content)
    outcome = bench.drill()
    assert "damaged or exchanged" in said(outcome) and "unpack" not in outcome.record["phases"]
    assert outcome.record["rto"]["seconds"] is None
    assert bench.catalog().list()[0].drilled_verdict == "failed"


def test_a_stranger_does_not_take_the_catalogs_word(bench):
    """The newest by name is drilled, also when the catalog calls another one the newest good."""
    bench.database().close()
    bench.backup()
    bench.clock.ahead += timedelta(seconds=5)
    newest = bench.backup()
    catalog = bench.catalog()
    catalog.record_verified(catalog.find(newest.name), "deep", bench.clock.now(), False, ("said to be bad",))
    assert bench.drill().record["backup"]["name"] == newest.name
    shutil.rmtree(bench.state)
    assert bench.drill().record["verdict"] == "passed"


def test_without_a_backup_the_drill_fails_and_says_so_in_its_record(bench):
    outcome = bench.drill()
    assert outcome.status is ExitStatus.FINDINGS
    assert "no backup to recover from" in said(outcome)
    assert bench.records()[0]["backup"] is None


@pytest.mark.parametrize("wanted", [{"reference": "nothing"}, {"source": "s3"}, {"source": "/nowhere/at/all"}])
def test_wrong_usage_leaves_no_record(bench, wanted):
    bench.database().close()
    bench.backup()
    with pytest.raises((UsageError, ConfigurationError)):
        bench.drill(**wanted)
    assert bench.records() == []


def test_copies_elsewhere_are_drilled(bench, tmp_path):
    bench.database().close()
    made = bench.backup()
    copies = tmp_path / "copies"
    shutil.copytree(bench.backups, copies, symlinks=True)
    outcome = bench.drill(source=str(copies))
    assert outcome.record["verdict"] == "passed" and outcome.record["source"] == str(copies)
    assert outcome.record["backup"]["path"] == str(copies / made.name)
    assert bench.catalog().list()[0].drilled_from == str(copies), "it is the backup that lies here too"
    shutil.rmtree(bench.backups)
    assert bench.drill(source=str(copies)).record["verdict"] == "passed"


def test_a_dry_run_writes_nothing(bench):
    bench.database().close()
    bench.backup()
    before = snapshot(bench.base)
    outcome = bench.drill(dry_run=True)
    assert outcome.record["state"] == "planned"
    assert snapshot(bench.base) == before


# What the targets are measured against


def test_a_slow_recovery_misses_its_target(bench):
    bench.database().close()
    bench.backup()
    bench.set(rto_seconds=60)
    bench.clock.each_look = 30.0
    outcome = bench.drill()
    assert (outcome.status, outcome.record["verdict"]) == (ExitStatus.FINDINGS, "missed")
    assert outcome.record["rto"]["seconds"] > 60 and not outcome.record["rto"]["met"]


def test_an_old_backup_of_data_that_went_on_misses_its_target(bench):
    connection = bench.database()
    bench.backup()
    bench.clock.ahead = timedelta(days=2)
    later = bench.clock.now().timestamp()
    add_rows(connection, 10)
    os.utime(bench.root / (FILLS + "-wal"), (later, later))
    outcome = bench.drill()
    assert (outcome.status, outcome.record["verdict"]) == (ExitStatus.FINDINGS, "missed")
    rpo = outcome.record["rpo"]
    assert rpo["live"] == "newer" and 2 * 86400 - 5 <= rpo["seconds"] <= 2 * 86400 + 60
    connection.close()


def test_nothing_is_lost_where_nothing_was_written_since(bench):
    bench.database().close()
    past = bench.clock.now().timestamp() - 3600
    for directory, _names, files in os.walk(bench.root):
        for name in files:
            os.utime(Path(directory) / name, (past, past))
    bench.backup()
    bench.clock.ahead = timedelta(days=9)
    outcome = bench.drill()
    assert outcome.record["verdict"] == "passed", said(outcome)
    assert (outcome.record["rpo"]["live"], outcome.record["rpo"]["seconds"]) == ("unchanged", 0)


def test_a_bot_that_was_idle_before_the_backup_lost_only_what_came_after(bench):
    connection = bench.database()
    past = bench.clock.now().timestamp() - 5 * 86400
    for directory, _names, files in os.walk(bench.root):
        for name in files:
            os.utime(Path(directory) / name, (past, past))
    bench.backup()
    bench.clock.ahead = timedelta(hours=3)
    later = bench.clock.now().timestamp()
    add_rows(connection, 1)
    os.utime(bench.root / (FILLS + "-wal"), (later, later))
    rpo = bench.drill().record["rpo"]
    assert rpo["met"] and 3 * 3600 - 5 <= rpo["seconds"] <= 3 * 3600 + 60
    connection.close()


def test_a_key_that_a_plain_backup_does_not_need_is_said_not_to_be_tried(bench):
    bench.old_archive({"state/a.json": b"{}"})
    outcome = bench.drill(key_file="/nowhere/operator.asc")
    assert "/nowhere/operator.asc: was not tried, as the backup is not encrypted" in outcome.record["notes"]


def test_a_time_in_the_future_makes_nothing_look_fresh(bench):
    future = bench.clock.now().timestamp() + 400 * 86400
    bench.old_archive({"state/a.json": b"{}", "state/b.json": b"{}"}, times={"state/b.json": future})
    (bench.root / "state/c.json").write_text("{}")
    bench.clock.ahead = timedelta(days=3)
    outcome = bench.drill()
    assert outcome.record["rpo"]["seconds"] >= 3 * 86400 and not outcome.record["rpo"]["met"]
    assert any("in the future" in text for text in outcome.record["notes"])


# Beside the live data


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("DELETE FROM fills WHERE id > 10", "has 10 rows, the backup holds 100"),
        ("DROP TABLE fills", "table fills is gone"),
    ],
)
def test_rows_that_vanished_from_the_live_data_are_found(bench, statement, word):
    connection = bench.database()
    bench.backup()
    connection.execute(statement)
    connection.commit()
    connection.close()
    outcome = bench.drill()
    assert outcome.status is ExitStatus.FINDINGS and word in said(outcome)


def test_a_queue_that_has_drained_since_the_backup_is_a_note(bench):
    """The backup is good all the same, and the database is no other one."""
    connection = bench.database()
    connection.execute("CREATE TABLE outbox AS SELECT id FROM fills LIMIT 50")
    connection.commit()
    bench.backup()
    connection.execute("DELETE FROM outbox")
    connection.commit()
    connection.close()
    outcome = bench.drill()
    assert outcome.status is ExitStatus.DONE, said(outcome)
    assert any("table outbox has 0 rows, the backup holds 50" in text for text in outcome.record["notes"])


def test_a_missing_live_database_is_found(bench):
    bench.database().close()
    bench.backup()
    (bench.root / FILLS).unlink()
    assert "the live database is missing" in said(bench.drill())


def test_hazard_a1_a_backup_without_the_rows_of_the_wal_is_found(bench, tmp_path):
    """Nothing was written since, and yet the live data has more rows: they were not captured."""
    with bench.bot(rows=400):
        bench.clock.ahead = timedelta(minutes=5)
        bench.hand_made({FILLS: (database_bytes(tmp_path, rows=150), "sqlite", {"tables": {"fills": 150}})})
        assert "nothing was written since the backup" in said(bench.drill())


def test_data_taken_back_in_time_is_not_compared(bench):
    connection = bench.database(rows=30)
    old = bench.backup()
    bench.clock.ahead += timedelta(seconds=5)
    add_rows(connection, 500)
    connection.close()
    newest = bench.backup()
    bench.clock.ahead += timedelta(seconds=5)
    restore(bench.application, bench.ports, reference=old.name)
    outcome = bench.drill(reference=newest.name)
    assert outcome.record["verdict"] == "passed", said(outcome)
    assert any("taken back in time" in text for text in outcome.record["notes"])


def test_an_older_backup_is_not_compared_with_the_live_data(bench):
    connection = bench.database()
    old = bench.backup()
    bench.clock.ahead += timedelta(seconds=5)
    connection.execute("DELETE FROM fills WHERE id > 10")
    connection.commit()
    bench.backup(allow_row_loss=True)
    outcome = bench.drill(reference=old.name)
    assert outcome.record["verdict"] == "passed" and not outcome.record["backup"]["newest"]
    connection.close()


# Archives of other programs


def test_hazard_c4_an_old_archive_is_drilled_with_weaker_checks(bench, tmp_path):
    bench.old_archive({"databases/fills.db": database_bytes(tmp_path), "state/a.json": b"{}"})
    outcome = bench.drill()
    assert outcome.record["verdict"] == "passed", said(outcome)
    assert outcome.record["weaker_checks"] and outcome.record["opened"] == {"sqlite": 1, "json": 1}
    assert any("weaker checks" in text for text in outcome.record["notes"])
    assert any(".sha256" in text for text in outcome.record["notes"])


def test_hazard_c4_a_damaged_database_of_an_old_archive_is_found(bench, tmp_path):
    content = bytearray(database_bytes(tmp_path))
    content[4096 * 3 : 4096 * 3 + 200] = bytes(200)
    bench.old_archive({"databases/fills.db": bytes(content)})
    assert "databases/fills.db" in said(bench.drill())


# Bounded space


def test_more_than_is_allowed_is_never_unpacked_and_the_time_is_scaled(bench, tmp_path):
    noise = os.urandom(3 << 20)
    database = database_bytes(tmp_path)
    bench.hand_made(
        {
            "preferences/a.bin": (noise, "file", {}),
            FILLS: (database, "sqlite", TABLES),
            "preferences/b.bin": (b"b", "file", {}),
        }
    )
    bench.set(maximum_bytes=1 << 20)
    bench.database(rows=400).close()
    bench.clock.each_look = 1.0
    outcome = bench.drill()
    found = outcome.record
    assert found["verdict"] == "passed", said(outcome)
    assert found["drilled"]["bytes"] == len(database) + 1 and not found["drilled"]["whole"]
    assert [item["path"] for item in found["databases"]] == [FILLS], "databases come first"
    assert found["rto"]["scaled"]
    assert found["rto"]["seconds"] > 10 * sum(found["phases"][name] for name in ("unpack", "check"))


def test_a_sidecar_that_tells_too_little_does_not_fill_the_disk(bench, tmp_path):
    made = bench.hand_made({FILLS: (database_bytes(tmp_path), "sqlite", TABLES)})
    sidecar = made.with_name(made.name + ".json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "bytes": 100}))
    assert "more than the allowed 100 bytes" in said(bench.drill())
    assert bench.leftovers() == []


@pytest.mark.parametrize(("bytes_free", "inodes_free"), [(1 << 20, None), (1 << 40, 10)])
def test_hazard_b6_space_is_looked_at_before(bench, monkeypatch, bytes_free, inodes_free):
    bench.database().close()
    bench.backup()
    monkeypatch.setattr(scratch, "space", lambda path: Space(bytes_free, inodes_free))
    outcome = bench.drill()
    assert "needed for the drill" in said(outcome) and "unpack" not in outcome.record["phases"]


def test_hazard_b6_a_disk_that_fills_up_meanwhile_is_left_as_it_was(bench, tmp_path, monkeypatch):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no filesystem can be mounted here")
    try:
        bench.hand_made({"preferences/a.bin": (os.urandom(3 << 20), "file", {})})
        bench.set(scratch=str(place))
        monkeypatch.setattr(drill_module, "check_space", lambda *given: None)
        outcome = bench.drill()
        assert "disk is full" in said(outcome)
        assert os.listdir(place) == []
    finally:
        subprocess.run(["umount", place], check=True)


def test_memory_is_no_place_to_practise_unless_it_was_chosen(bench, monkeypatch, tmp_path):
    bench.database().close()
    bench.backup()
    monkeypatch.setattr(scratch, "filesystem_type", lambda path: "tmpfs")
    with pytest.raises(ConfigurationError, match="lies in memory"):
        bench.drill()
    bench.set(scratch=str(tmp_path / "chosen"))
    assert bench.drill().record["verdict"] == "passed"
    assert bench.leftovers(tmp_path / "chosen") == []


def test_the_live_data_is_no_scratch_place(bench):
    bench.database().close()
    bench.backup()
    bench.set(scratch=str(bench.root / "preferences"))
    with pytest.raises(ConfigurationError, match="inside the live data"):
        bench.drill()


# Interrupted, killed, and two at once


@pytest.mark.parametrize("step", ["drill scratch", "drill unpacked", "drill checked"])
def test_sigterm_leaves_nothing(bench, step):
    bench.database().close()
    bench.backup()
    seen = []

    def stop(name):
        if name == step:
            seen.extend(bench.leftovers())
            os.kill(os.getpid(), signal.SIGTERM)

    bench.ports = dataclasses.replace(bench.ports, step=stop)
    with pytest.raises(InterruptedBySignal), interruptible():
        bench.drill()
    assert len(seen) == 1, "the scratch place was there"
    assert bench.leftovers() == [] and bench.records() == []


def test_a_signal_while_it_cleans_up_does_not_stop_that(bench, monkeypatch):
    bench.database().close()
    bench.backup()
    remove = host_scratch.empty

    def interrupted(descriptor):
        os.kill(os.getpid(), signal.SIGTERM)
        return remove(descriptor)

    monkeypatch.setattr(host_scratch, "empty", interrupted)
    with interruptible():
        assert bench.drill().status == 0, "the drill was over"
    assert bench.leftovers() == []


def test_what_a_killed_drill_left_goes_with_the_next_one(bench):
    bench.database().close()
    bench.backup()
    pid = os.fork()
    if pid == 0:

        def die(name):
            if name == "drill unpacked":
                os.kill(os.getpid(), signal.SIGKILL)

        bench.ports = dataclasses.replace(bench.ports, step=die)
        bench.drill()
        os._exit(0)
    _pid, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    (left,) = bench.leftovers()
    assert (bench.state / left / FILLS).exists()
    foreign = bench.state / ".tradekeep-drill-link"
    foreign.symlink_to(bench.root)
    assert bench.drill().record["verdict"] == "passed"
    assert bench.leftovers() == [".tradekeep-drill-link"], "a link is nothing of ours"
    assert (bench.root / FILLS).exists()


def test_a_living_drills_place_is_left_alone(bench):
    with scratch.scratch_place(bench.state) as place:
        (place / "x").write_text("x")
        assert scratch.sweep(bench.state) == ()
        assert (place / "x").exists()


def test_two_drills_keep_out_of_each_others_way_and_backups_go_on(bench):
    bench.database().close()
    bench.backup()
    backups = []

    def other(name):
        if name == "drill unpacked":
            with pytest.raises(LockBusyError):
                bench.drill()
            bench.clock.ahead += timedelta(seconds=5)
            backups.append(bench.backup())

    quiet, bench.ports = bench.ports, dataclasses.replace(bench.ports, step=other)
    assert bench.drill().record["verdict"] == "passed"
    bench.ports = quiet
    assert len(backups) == 1


def test_a_busy_catalog_does_not_spoil_a_drill(bench, monkeypatch):
    monkeypatch.setattr(record, "_LOCK_SECONDS", 0.0)
    bench.database().close()
    bench.backup()
    with application_lock(bench.state, operation="backup", clock=bench.clock):
        outcome = bench.drill()
    assert outcome.record["verdict"] == "passed" and len(bench.records()) == 1
    assert any("will not show this drill" in text for text in bench.notes)


def test_a_signal_is_not_lost_while_a_database_is_checked(bench):
    """Nor does it wait for SQLite, which takes the better part of a second for each row of this one."""
    database = bench.database(rows=5000)
    database.execute("CREATE INDEX slow ON fills (0 * length(hex(zeroblob(1 + id))))")
    database.execute("PRAGMA writable_schema = ON")
    database.execute("UPDATE sqlite_master SET sql = replace(sql, 'blob(1 +', 'blob(60000000 +') WHERE name = 'slow'")
    database.commit()
    database.close()
    bench.backup()
    # No thread: a process that has some cannot be forked.
    stopper = subprocess.Popen(["sh", "-c", f"sleep 3; kill -TERM {os.getpid()}"])
    begun = time.monotonic()
    with pytest.raises(InterruptedBySignal), interruptible():
        bench.drill()
    stopper.wait()
    assert 2 < time.monotonic() - begun < 60
    assert bench.leftovers() == [] and bench.records() == []
