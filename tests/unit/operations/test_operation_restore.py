# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores: what comes back, what is left alone, and what happens when something fails half way."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    ConfigurationError,
    ExitStatus,
    NeedsPersonError,
    ServiceError,
    SpaceError,
    TradekeepError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import exchange_run, safety
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import restore as restore_module
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction import recovery

FILLS = "databases/accounts/kalshi/demo/fills.db"
MODE = "state/account_mode.json"
KEY = "credentials/kalshi/demo/kalshi.pem"


def filled(bench):
    bench.database().close()
    (bench.root / KEY).write_text("secret")
    (bench.root / KEY).chmod(0o600)
    return backup(bench.application, bench.ports).record["backup"]


def damage(bench):
    (bench.root / FILLS).write_bytes(b"not a database" * 100)
    (bench.root / MODE).write_text('{"mode": "pr')
    (bench.root / KEY).unlink()
    (bench.root / "state/new.json").write_text("{}")


def test_everything_comes_back(bench):
    filled(bench)
    before = bench.snapshot()
    damage(bench)
    outcome = restore(bench.application, bench.ports)
    assert outcome.changed
    assert bench.rows() == 100
    after = bench.snapshot()
    fills = after.pop(FILLS), before.pop(FILLS)
    assert fills[0][0].endswith("600")
    assert after == before


def test_hazard_c6_restoring_what_is_there_changes_nothing(bench, monkeypatch):
    filled(bench)
    damage(bench)
    restore(bench.application, bench.ports)
    monkeypatch.setattr(restore_module, "services_of", None)
    before = bench.snapshot()
    outcome = restore(bench.application, bench.ports)
    assert not outcome.changed
    assert outcome.record["state"] == "unchanged"
    assert bench.snapshot() == before


def test_hazard_c6_a_live_wal_with_the_same_rows_is_the_same(bench):
    connection = bench.database()
    backup(bench.application, bench.ports)
    assert not restore(bench.application, bench.ports).changed
    bench.add_rows(connection, 1)
    assert restore(bench.application, bench.ports, dry_run=True).changed
    connection.close()


def test_hazard_c1_a_stale_wal_does_not_replay_over_the_restored_database(bench):
    connection = bench.database(rows=10)
    backup(bench.application, bench.ports)
    bench.add_rows(connection, 500)
    stale = {suffix: (bench.root / (FILLS + suffix)).read_bytes() for suffix in ("-wal", "-shm")}
    connection.close()
    for suffix, content in stale.items():
        (bench.root / (FILLS + suffix)).write_bytes(content)
    restore(bench.application, bench.ports)
    assert bench.rows() == 10


def test_rows_written_after_the_backup_are_in_the_safety_backup(bench, tmp_path):
    connection = bench.database(rows=10)
    backup(bench.application, bench.ports)
    bench.add_rows(connection, 7)
    outcome = restore(bench.application, bench.ports)
    connection.close()
    assert bench.rows() == 10
    restore(bench.application, bench.ports, reference=outcome.record["safety_backup"])
    assert bench.rows() == 17


def test_damaged_live_data_is_kept_byte_for_byte(bench):
    filled(bench)
    damage(bench)
    outcome = restore(bench.application, bench.ports)
    with tarfile.open(outcome.record["safety_backup"]) as archive:
        assert archive.extractfile(FILLS).read() == b"not a database" * 100
        assert archive.extractfile(MODE).read() == b'{"mode": "pr'
        assert "state/new.json" in archive.getnames()
        assert KEY not in archive.getnames()


def test_the_safety_backup_is_not_the_latest(bench):
    made = filled(bench)
    damage(bench)
    restore(bench.application, bench.ports)
    assert os.readlink(bench.backups / "latest_backup.tar.gz") == made["name"]
    assert restore(bench.application, bench.ports).record["backup"] == made["name"]


def test_only_a_component(bench):
    filled(bench)
    damage(bench)
    outcome = restore(bench.application, bench.ports, components=("credentials",))
    assert [item["path"] for item in outcome.record["changes"]] == [KEY]
    assert (bench.root / KEY).read_text() == "secret"
    assert (bench.root / MODE).read_text() == '{"mode": "pr'
    assert (bench.root / "state/new.json").exists()


def test_hazard_c5_a_part_of_a_backup_names_the_parts_that_stay(bench):
    """Components refer to each other, and those that were not restored are of another moment."""
    filled(bench)
    damage(bench)
    for dry_run in (True, False):
        outcome = restore(bench.application, bench.ports, components=("credentials",), dry_run=dry_run)
        assert "state" in outcome.record["left_alone"]
        assert "credentials" not in outcome.record["left_alone"]
        assert any("left as it is now" in line and "state" in line for line in outcome.lines)
    assert restore(bench.application, bench.ports).record["left_alone"] == []


@pytest.mark.parametrize("pattern", [MODE, "state/*.json", "state", "account_mode.json"])
def test_only_a_path(bench, pattern):
    filled(bench)
    damage(bench)
    outcome = restore(bench.application, bench.ports, paths=(pattern,))
    assert MODE in [item["path"] for item in outcome.record["changes"]]
    assert json.loads((bench.root / MODE).read_text()) == {"mode": "demo"}
    assert not (bench.root / KEY).exists()


def test_into_a_scratch_place(bench, tmp_path):
    filled(bench)
    damage(bench)
    live = bench.snapshot()
    outcome = restore(bench.application, bench.ports, to=str(tmp_path / "out"))
    assert outcome.record["files"] > 3
    assert (tmp_path / "out" / KEY).read_text() == "secret"
    assert oct((tmp_path / "out" / KEY).stat().st_mode).endswith("600")
    connection = sqlite3.connect(tmp_path / "out" / FILLS)
    assert connection.execute("SELECT count(*) FROM fills").fetchone() == (100,)
    assert bench.snapshot() == live


def test_a_dry_run_says_each_file_and_writes_nothing(bench):
    filled(bench)
    damage(bench)
    before, state = bench.snapshot(), sorted(os.listdir(bench.base / "state"))
    outcome = restore(bench.application, bench.ports, dry_run=True)
    assert {(item["path"], item["action"]) for item in outcome.record["changes"]} >= {
        (FILLS, "replace"),
        (MODE, "replace"),
        (KEY, "new"),
        ("state/new.json", "remove"),
    }
    assert bench.snapshot() == before
    assert sorted(os.listdir(bench.base / "state")) == state
    assert "secret" not in str(outcome)


STEPS = ["stage", "staged", "stop", "prepare", "exchanging", "exchange", "exchanged", "start"]


@pytest.mark.parametrize("fault", STEPS)
def test_hazard_c1_a_failure_at_any_step_leaves_the_data_as_it_was(bench, fault):
    filled(bench)
    damage(bench)
    before = bench.snapshot()

    def step(name):
        if name == fault:
            raise TradekeepError("injected")

    with pytest.raises(TradekeepError):
        restore(bench.application, bench.with_steps(step))
    assert bench.snapshot() == before
    assert not recover(bench.application, bench.ports).changed
    assert restore(bench.application, bench.ports).changed


class Services:
    """Stands for a service that starts, or not, with the restored data."""

    def __init__(self, log, fails):
        self.log = log
        self.fails = fails

    def __call__(self, *_arguments):
        return self

    def snapshot(self):
        return [{"running": ["bot.service"]}]

    def stop(self, _snapshot):
        self.log.append("stop")

    def start(self, _snapshot):
        self.log.append("start")

    def wait_until_steady(self, _snapshot):
        if self.fails:
            self.fails.pop()
            raise ServiceError("does not stay up", path="bot.service")


def test_hazard_c1_a_service_that_does_not_stay_up_gets_its_old_data_back(bench, monkeypatch):
    filled(bench)
    damage(bench)
    before, log = bench.snapshot(), []
    monkeypatch.setattr(restore_module, "services_of", Services(log, [1]))
    with pytest.raises(ServiceError, match="does not stay up"):
        restore(bench.application, bench.ports)
    assert bench.snapshot() == before
    assert log == ["stop", "start", "stop", "start"]


def bot_dies(bench, rows: int) -> None:
    """Write to the live database and die: what was committed is in the WAL that stays."""
    program = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1])\n"
        "c.execute('PRAGMA journal_mode=WAL')\n"
        "c.executemany('INSERT INTO fills (trade_id) VALUES (?)', [('late',)] * int(sys.argv[2]))\n"
        "c.commit()\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(bench.root / FILLS), str(rows)], check=False)
    assert (bench.root / f"{FILLS}-wal").stat().st_size > 0


class Dying(Services):
    """A bot that writes to the restored data, and dies of it."""

    def __init__(self, bench, log, fails):
        super().__init__(log, fails)
        self.bench = bench

    def wait_until_steady(self, snapshot):
        if self.fails:
            bot_dies(self.bench, 7)
        super().wait_until_steady(snapshot)


def changed_since(bench) -> tuple[dict, int]:
    """Fills that the newest backup does not have."""
    connection = bench.database(wal=False)
    bench.add_rows(connection, 23)
    connection.close()
    return bench.snapshot(), bench.rows()


def given_up(bench) -> list[Path]:
    return sorted(path for path in bench.backups.glob("*_given_up.tar.gz") if not path.is_symlink())


def test_hazard_c1_what_a_bot_wrote_before_it_died_does_not_replay_over_the_old_database(bench, monkeypatch):
    filled(bench)
    before, rows = changed_since(bench)
    monkeypatch.setattr(restore_module, "services_of", Dying(bench, [], [1]))
    with pytest.raises(ServiceError, match="does not stay up"):
        restore(bench.application, bench.ports)
    assert bench.snapshot() == before
    assert bench.rows() == rows


def test_what_a_bot_wrote_on_restored_data_that_was_given_up_is_kept(bench, monkeypatch):
    filled(bench)
    restored = bench.rows()
    before, _rows = changed_since(bench)
    monkeypatch.setattr(restore_module, "services_of", Dying(bench, [], [1]))
    with pytest.raises(ServiceError, match="does not stay up"):
        restore(bench.application, bench.ports)
    (kept,) = given_up(bench)
    assert any(str(kept) in note for note in bench.notes)
    assert verify(bench.application, bench.ports, reference=kept.name, deep=True).status == ExitStatus.DONE
    with tarfile.open(kept) as archive:
        archive.extractall(bench.base / "out", filter="data")
        assert KEY in archive.getnames()
    connection = sqlite3.connect(bench.base / "out" / FILLS)
    assert connection.execute("SELECT count(*) FROM fills").fetchone()[0] == restored + 7
    connection.close()
    # It stands for nothing but itself.
    assert not os.path.samefile(bench.backups / "latest_backup.tar.gz", kept)
    assert bench.snapshot() == before
    assert not recover(bench.application, bench.ports).changed


def test_nothing_is_kept_of_restored_data_that_no_bot_wrote_to(bench, monkeypatch):
    filled(bench)
    changed_since(bench)
    monkeypatch.setattr(restore_module, "services_of", Services([], [1]))
    with pytest.raises(ServiceError, match="does not stay up"):
        restore(bench.application, bench.ports)
    assert given_up(bench) == []


def test_hazard_c1_recover_keeps_what_a_bot_wrote_too(bench, monkeypatch):
    """Killed while it watched over the services; they do not stay up when recover looks again."""
    filled(bench)
    before, rows = changed_since(bench)

    class Killed(BaseException):
        pass

    class Watched(Dying):
        def wait_until_steady(self, snapshot):
            bot_dies(self.bench, 7)
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(restore_module, "services_of", Watched(bench, [], [1]))
        patch.setattr(exchange_run, "_put_back", lambda *_given: None)
        with pytest.raises(Killed):
            restore(bench.application, bench.ports)
    monkeypatch.setattr(recovery, "ServiceController", Services([], [1]))
    assert recover(bench.application, bench.ports).record["data"] == "old"
    assert bench.snapshot() == before
    assert bench.rows() == rows
    assert len(given_up(bench)) == 1


def test_what_was_given_up_stays_aside_until_it_can_be_backed_up(bench, monkeypatch):
    filled(bench)
    before, _rows = changed_since(bench)

    def full(*_given, **_options):
        raise SpaceError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(restore_module, "services_of", Dying(bench, [], [1]))
        patch.setattr(safety, "back_up", full)
        with pytest.raises(NeedsPersonError, match=r"does not stay up.*disk is full") as caught:
            restore(bench.application, bench.ports)
    assert "tradekeep recover" in caught.value.hint
    assert bench.root.joinpath(FILLS).exists()
    assert given_up(bench) == []
    monkeypatch.setattr(recovery, "ServiceController", Services([], []))
    assert recover(bench.application, bench.ports).changed
    assert len(given_up(bench)) == 1
    assert bench.snapshot() == before


def test_hazard_c5_what_the_bot_writes_between_plan_and_stop_is_taken_in(bench, monkeypatch):
    filled(bench)
    (bench.root / KEY).write_text("changed")

    class Late(Services):
        def stop(self, snapshot):
            (bench.root / MODE).write_text('{"mode": "prod"}')
            (bench.root / "state/late.json").write_text("{}")

    monkeypatch.setattr(restore_module, "services_of", Late([], []))
    outcome = restore(bench.application, bench.ports)
    assert json.loads((bench.root / MODE).read_text()) == {"mode": "demo"}
    assert not (bench.root / "state/late.json").exists()
    with tarfile.open(outcome.record["safety_backup"]) as archive:
        assert archive.extractfile(MODE).read() == b'{"mode": "prod"}'
        assert "state/late.json" in archive.getnames()


@pytest.mark.parametrize("layout", ["NAME", "NAME/user_data"])
def test_hazard_c4_archives_of_the_old_scripts(bench, tmp_path, layout):
    filled(bench)
    old = tmp_path / "old" / layout.replace("NAME", "user_data_20250728_143022")
    shutil.copytree(bench.root, old)
    if layout == "NAME/user_data":
        (old.parent / "backup_info.txt").write_text("made by a script")
    archive = tmp_path / "user_data_20250728_143022.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", tmp_path / "old", "user_data_20250728_143022"], check=True)
    damage(bench)
    outcome = restore(bench.application, bench.ports, reference=str(archive))
    assert outcome.record["weaker_checks"]
    assert any("weaker" in note for note in bench.notes)
    assert bench.rows() == 100
    assert (bench.root / KEY).read_text() == "secret"
    assert oct((bench.root / KEY).stat().st_mode).endswith("600")


def test_a_damaged_archive_changes_nothing(bench):
    made = filled(bench)
    damage(bench)
    before = bench.snapshot()
    archive = Path(made["path"])
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(ArchiveError):
        restore(bench.application, bench.ports, reference=made["path"])
    assert bench.snapshot() == before


def test_hazard_c1_a_database_that_was_corrupt_in_an_old_archive_is_refused(bench, tmp_path):
    filled(bench)
    old = tmp_path / "old/NAME"
    shutil.copytree(bench.root, old)
    (old / FILLS).write_bytes((old / FILLS).read_bytes()[:1500])
    subprocess.run(["tar", "-czf", tmp_path / "o.tar.gz", "-C", tmp_path / "old", "NAME"], check=True)
    before = bench.snapshot()
    with pytest.raises(ArchiveError):
        restore(bench.application, bench.ports, reference=str(tmp_path / "o.tar.gz"))
    assert bench.snapshot() == before


def test_refusals(bench, tmp_path):
    filled(bench)
    with pytest.raises(UsageError, match="no such component"):
        restore(bench.application, bench.ports, components=("nothing",))
    with pytest.raises(UsageError, match="nothing of what was chosen"):
        restore(bench.application, bench.ports, paths=("no/such/path",))
    with pytest.raises(UsageError, match="relative"):
        restore(bench.application, bench.ports, paths=("/etc/passwd",))
    with pytest.raises(ConfigurationError, match="inside the live data"):
        restore(bench.application, bench.ports, to=str(bench.root / "state/x"))
    with pytest.raises(ConfigurationError, match="empty"):
        restore(bench.application, bench.ports, to=str(bench.backups))


def test_hazard_c5_a_symlinked_root_is_refused(bench, tmp_path):
    filled(bench)
    bench.root.rename(tmp_path / "elsewhere")
    bench.root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="the data directory is a symlink"):
        restore(bench.application, bench.ports)


def test_hazard_c6_a_database_with_a_rollback_journal_is_the_same_too(bench):
    bench.database(rows=50, wal=False).close()
    backup(bench.application, bench.ports)
    assert not restore(bench.application, bench.ports).changed


def test_owners_and_modes_drifted_are_mended_with_the_rest(bench):
    filled(bench)
    (bench.root / "credentials").chmod(0o755)
    (bench.root / MODE).write_text("{")
    restore(bench.application, bench.ports)
    assert oct((bench.root / "credentials").stat().st_mode).endswith("700")
