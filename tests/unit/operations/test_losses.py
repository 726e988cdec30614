# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup of nothing, or of far less than before, is no backup until a person says that it is right."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from datetime import timedelta

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import FileRule, Retention
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CaptureError, UsageError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import mounts
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import basis as basis_module
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup_plan import BackupPlan
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.databases import check_databases
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.backup_first import (
    backup_first,
    forget_old_backups,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.release import release
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree

FILLS = "databases/accounts/kalshi/demo/fills.db"
PROFILE = {
    "name": "bot",
    "components": {
        "data": {"paths": ["data"], "directories": ["data"], "critical": True},
        "reports": {"paths": ["reports"], "directories": ["reports"]},
    },
}


def made(bench, **options):
    return backup(bench.application, bench.ports, **options).record["backup"]


def refused(bench, match, **options):
    """Refused by the real run and the rehearsal alike; returns the error."""
    with pytest.raises(CaptureError, match=match):
        backup(bench.application, bench.ports, dry_run=True, **options)
    before = sorted(os.listdir(bench.backups))
    with pytest.raises(CaptureError, match=match) as caught:
        backup(bench.application, bench.ports, **options)
    assert sorted(os.listdir(bench.backups)) == before
    assert caught.value.exit_status == 3
    return caught.value


def changed_profile(bench, **fields):
    """The application of the bench with another profile."""
    profile = dataclasses.replace(bench.application.profile, **fields)
    bench.application = dataclasses.replace(bench.application, profile=profile)


def changed_component(bench, name, **fields):
    """The same with other settings of one component."""
    components = (
        dataclasses.replace(item, **fields) if item.name == name else item
        for item in bench.application.profile.components
    )
    changed_profile(bench, components=tuple(components))


@pytest.fixture
def bot(make_bench):
    """A bot that keeps documents, lines and tables of numbers; there is a backup of them."""
    bench = make_bench(PROFILE)
    bench.make_tree()
    for number in range(10):
        (bench.root / f"data/history_{number}.parquet").write_bytes(b"PAR1" * 8192)
    (bench.root / "data/portfolio.json").write_text('{"cash": 1}')
    (bench.root / "data/trades.jsonl").write_text('{"id": 1}\n')
    (bench.root / "reports/week.csv").write_text("day,profit\n")
    made(bench)
    return bench


def test_hazard_a3_a_backup_of_nothing_is_refused(bot):
    (bot.root / "data").rename(bot.base / "moved")
    (bot.root / "data").mkdir()
    error = refused(bot, "component data held 12 files in .* and holds 0 now")
    assert "--allow-loss data" in str(error)
    shutil.rmtree(bot.root / "data")
    refused(bot, "component data held 12 files")
    # Night after night: what is refused is never what the next one is compared with.
    refused(bot, "component data held 12 files")


def test_hazard_a3_a_backup_from_another_root_is_refused(bot, make_bench):
    other = make_bench(PROFILE, root=str(bot.base / "elsewhere"))
    other.make_tree()
    refused(other, "component data held 12 files")


def test_a_root_that_is_gone_is_not_made_anew(bot):
    bot.root.rename(bot.base / "moved")
    error = refused(bot, "the data directory is missing, and bot_.* held 13 files of it")
    assert "mount its disk" in str(error)


def test_hazard_a3_an_empty_backup_directory_makes_no_loss_right(bot):
    """Where the backups' own disk is not mounted, what was there is known all the same; and the other way round."""
    shutil.rmtree(bot.root / "data")
    bot.backups.rename(bot.base / "unmounted")
    bot.backups.mkdir(mode=0o700)
    refused(bot, "component data held 12 files", allow_loss=("backups",))
    bot.backups.rmdir()
    (bot.base / "unmounted").rename(bot.backups)
    shutil.rmtree(bot.base / "state")
    refused(bot, "component data held 12 files")


def test_hazard_a3_files_that_lost_their_content_are_refused(bot):
    for path in (bot.root / "data").iterdir():
        path.write_bytes(b"")
    refused(bot, "held 320.0 KiB beside databases and logs in .* and holds 0 B now")


def test_hazard_a3_where_nothing_is_called_critical_everything_is(make_bench):
    bench = make_bench({"name": "bot", "components": {"data": {"paths": ["data"], "directories": ["data"]}}})
    bench.make_tree()
    (bench.root / "data/positions.csv").write_text("x\n")
    made(bench)
    (bench.root / "data/positions.csv").unlink()
    refused(bench, "component data held 1 file")


def test_hazard_a3_a_required_document_that_is_emptied_is_refused(make_bench):
    rule = {"pattern": "data/portfolio.json", "kind": "file", "required": True}
    bench = make_bench({"name": "bot", "components": {"data": {"paths": ["data"], "files": [rule]}}})
    bench.make_tree()
    (bench.root / "data").mkdir()
    (bench.root / "data/portfolio.json").touch()
    (bench.root / "data/other.json").write_text("{}")
    made(bench)  # nobody has written to it yet
    (bench.root / "data/portfolio.json").write_text('{"cash": 1}')
    made(bench)
    (bench.root / "data/portfolio.json").write_text("")
    refused(bench, "it is empty now")


def test_what_shrinks_as_it_should_is_no_loss(bot):
    (bot.root / "data/history_0.parquet").unlink()
    (bot.root / "data/portfolio.json").unlink()
    for path in (bot.root / "reports").iterdir():
        path.unlink()
    outcome = backup(bot.application, bot.ports)
    assert [text for text in outcome.record["warnings"] if "component reports is empty" in text]
    # A log that was rotated, and a database that was made small by a vacuum.
    (bot.root / "data/bot.log").write_text("line\n" * 100_000)
    connection = bot.database("data/fills.db", rows=5000, wal=False)
    connection.execute("CREATE TABLE old AS SELECT randomblob(1000) FROM fills")
    connection.commit()
    made(bot)
    (bot.root / "data/bot.log").write_text("")
    connection.execute("UPDATE old SET rowid = rowid")
    connection.execute("DELETE FROM old WHERE rowid > 2600")
    connection.commit()
    connection.execute("VACUUM")
    connection.close()
    made(bot)


def test_the_profile_says_what_may_shrink(bot):
    shutil.rmtree(bot.root / "data")
    changed_component(bot, "data", may_shrink=True)
    made(bot)


def test_the_thresholds_are_the_profiles(bot):
    for number in range(4):
        (bot.root / f"data/history_{number}.parquet").unlink()
    changed_profile(bot, maximum_file_loss_percent=20.0)
    refused(bot, "held 12 files in .* and holds 8 now")
    changed_profile(bot, maximum_file_loss_percent=50.0, maximum_byte_loss_percent=20.0)
    refused(bot, "held 320.0 KiB")
    changed_profile(bot, maximum_byte_loss_percent=80.0)
    made(bot)


def test_what_the_profile_comes_to_exclude_is_no_loss(bot):
    """As after an update of a built-in profile."""
    changed_profile(bot, retention=Retention(keep_last=1))
    changed_component(bot, "data", exclude=("*.parquet",))
    backup(bot.application, on_day(bot, 1))
    backup(bot.application, on_day(bot, 2))
    outcome = prune(bot.application, on_day(bot, 2), dry_run=False)
    assert (len(outcome.record["removed"]), len(outcome.record["kept"])) == (2, 1)
    changed_component(bot, "data", exclude=("*",))
    refused(bot, "component data held 2 files")


def test_a_table_that_is_emptied_on_purpose(bench):
    connection = bench.database(rows=100)
    made(bench)
    connection.execute("DELETE FROM fills")
    connection.commit()
    for words in ([], [f"{FILLS}:orders"], [FILLS.replace("fills", "positions"), "credentials"]):
        with pytest.raises(CaptureError, match="had 100 rows"):
            backup(bench.application, bench.ports, allow_loss=words)
    changed_profile(bench, tables_may_shrink=("fills.db:orders",))
    with pytest.raises(CaptureError, match="had 100 rows"):
        backup(bench.application, bench.ports)
    made(bench, allow_loss=[f"{FILLS}:fills"])
    bench.add_rows(connection, 100)
    made(bench)
    connection.execute("DELETE FROM fills")
    connection.commit()
    connection.close()
    changed_profile(bench, tables_may_shrink=("fills.db:fills",))
    made(bench)


def test_hazard_a3_one_word_allows_one_loss(bench):
    bench.database(rows=100).close()
    (bench.root / "credentials/kalshi/demo/kalshi.pem").write_text("key")
    made(bench)
    (bench.root / FILLS).unlink()
    shutil.rmtree(bench.root / "credentials")
    error = refused(bench, "missing now.*and also.*component credentials")
    assert "--allow-loss credentials --allow-loss databases" in str(error)
    assert "--allow-loss databases" not in str(refused(bench, "component credentials", allow_loss=["databases"]))
    outcome = backup(bench.application, bench.ports, allow_loss=["databases", "credentials"])
    assert [text for text in outcome.record["warnings"] if text.startswith("allowed: ") and FILLS in text]
    # From then on that is what there is.
    made(bench)
    # What comes back is guarded again.
    bench.database(rows=100).close()
    made(bench)
    (bench.root / FILLS).unlink()
    refused(bench, "missing now")
    with pytest.raises(UsageError, match="no loss is called"):
        backup(bench.application, bench.ports, allow_loss=["fils"])


def test_hazard_a3_a_restore_makes_no_other_loss_right(bench):
    connection = bench.database(rows=100)
    (bench.root / "credentials/kalshi/demo/kalshi.pem").write_text("key")
    first = made(bench, name="first")
    bench.add_rows(connection, 400)
    connection.close()
    made(bench)
    shutil.rmtree(bench.root / "credentials")
    restore(bench.application, bench.ports, reference=first["name"], components=["databases"])
    refused(bench, "component credentials")
    (bench.root / "credentials").mkdir()
    (bench.root / "credentials/kalshi.pem").write_text("key")
    connection = bench.database(rows=0)
    connection.execute("DELETE FROM fills WHERE id > 10")
    connection.commit()
    connection.close()
    with pytest.raises(CaptureError, match="had 100 rows"):
        backup(bench.application, bench.ports)
    (bench.root / FILLS).unlink()
    refused(bench, "missing now")
    restore(bench.application, bench.ports, reference=first["name"], components=["databases"])
    # The older state is what was wanted.
    made(bench)


def test_a_restore_by_an_older_version_left_no_basis(bench):
    bench.database(rows=100).close()
    made(bench)
    (bench.base / "state/kalshi/basis.json").unlink()
    at = (SystemClock().now() + timedelta(minutes=1)).isoformat()
    (bench.base / "state/kalshi/restored.json").write_text(json.dumps({"at": at, "backup": "x"}))
    (bench.root / FILLS).unlink()
    made(bench)


def test_sidecars_of_older_versions_are_a_basis_too(bot):
    (bot.base / "state/bot/basis.json").unlink()
    (sidecar,) = bot.backups.glob("*.json")
    facts = json.loads(sidecar.read_text())
    for name in ("content", "empty", "places", "root"):
        del facts[name]
    sidecar.write_text(json.dumps(facts))
    shutil.rmtree(bot.root / "data")
    refused(bot, "component data held 12 files")


def test_a_backup_before_a_deploy_is_made_of_what_there_is(bot):
    for path in (bot.root / "data").glob("*.parquet"):
        path.unlink()
    backup = backup_first(bot.application, bot.ports)
    assert backup.good
    assert [text for text in backup.sidecar["warnings"] if "component data held 12 files" in text]
    assert [text for text in bot.notes if "less than before" in text]
    refused(bot, "component data held 12 files")


def test_hazard_a3_a_check_of_the_databases_misses_what_is_not_there(bench):
    for path in ("databases/other.db", FILLS):
        bench.database(path).close()
    required = [rule.pattern for item in bench.application.profile.components for rule in item.files if rule.required]
    found = check_databases(bench.application, bench.ports)
    bad = {item["path"]: item["problems"] for item in found.record["databases"] if item["problems"]}
    assert bad == {path: ["it is missing, and the profile requires it"] for path in required if path != FILLS}
    assert found.status == 1
    for path in required:
        bench.database(path).close()
    assert check_databases(bench.application, bench.ports).status == 0
    name = made(bench)["name"]
    (bench.root / "databases/other.db").unlink()
    found = check_databases(bench.application, bench.ports)
    assert (found.status, found.lines[0]) == (1, f"databases/other.db: PROBLEM: it is missing, and {name} held it")
    assert check_databases(bench.application, bench.ports, paths=[FILLS]).status == 0


# Pruning


class Later(SystemClock):
    """So many days from now."""

    def __init__(self, days):
        self.days = days

    def now(self):
        return super().now() + timedelta(days=self.days)


def on_day(bench, day):
    return dataclasses.replace(bench.ports, clock=Later(day))


def oldest(bench):
    return min(path.name for path in bench.backups.glob("bot_*.tar.gz"))


@pytest.fixture
def decimated(bot):
    """A week of daily backups, each of which somebody has allowed to hold nothing, after one of everything."""
    changed_profile(bot, retention=Retention(daily=3))
    shutil.rmtree(bot.root / "data")
    for day in range(1, 8):
        backup(bot.application, on_day(bot, day), allow_loss=["all"])
    return bot


def test_hazard_b4_the_last_backup_before_a_loss_is_kept_and_named(decimated):
    bench, ports = decimated, on_day(decimated, 7)
    full = oldest(bench)
    rehearsed = prune(bench.application, ports, dry_run=True)
    outcome = prune(bench.application, ports, dry_run=False)
    assert rehearsed.record["decisions"] == outcome.record["decisions"]
    assert full in outcome.record["kept"] and len(outcome.record["kept"]) == 4
    (said,) = [line for line in outcome.lines if full in line]
    assert "last before a loss: 12 files of data, later ones at most 0 (" in said
    assert f"tradekeep release {full}" in said
    # Until a person lets it go.
    assert release(bench.application, ports, reference=full).changed
    assert not release(bench.application, ports, reference=full).changed
    assert prune(bench.application, ports, dry_run=False).record["removed"] == [full]


def test_hazard_b4_what_came_back_needs_the_old_backup_no_more(decimated):
    bench = decimated
    restore(bench.application, on_day(bench, 7), reference=oldest(bench))
    for day in range(8, 12):
        backup(bench.application, on_day(bench, day))
    outcome = prune(bench.application, on_day(bench, 12), dry_run=False)
    assert not [line for line in outcome.lines if "before a loss" in line]
    assert len(outcome.record["kept"]) == 4, "three days, and what the restore has kept"


def test_hazard_b4_a_slow_decline_is_a_loss_too(bot):
    """Each night less than half is gone."""
    changed_profile(bot, retention=Retention(keep_last=1))
    for day in range(1, 5):
        for path in sorted((bot.root / "data").glob("history_*"))[:2]:
            path.unlink()
        backup(bot.application, on_day(bot, day))
    outcome = prune(bot.application, on_day(bot, 4), dry_run=False)
    assert len(outcome.record["removed"]) == 3
    assert [line for line in outcome.lines if "last before a loss: 10 files of data, later ones at most 4" in line]


def test_hazard_b4_backups_before_deploys_are_no_exception(bot):
    for day in range(4):
        backup_first(bot.application, on_day(bot, day))
        for path in (bot.root / "data").glob("*.parquet"):
            path.unlink()
    forget_old_backups(bot.application, on_day(bot, 4), 2)
    left = sorted(path.name for path in bot.backups.glob("*_before_deploy.tar.gz"))
    assert len(left) == 3
    assert any(f"{left[0]} is kept: last before a loss: 12 files of data" in note for note in bot.notes)


# The disk


def lines(*mounted):
    """What mountinfo says of mounts: top, point, type and source."""
    return [f"1 0 8:1 {top} {point} rw - {kind} {source} rw" for top, point, kind, source in mounted]


def place(mounted, path="/srv/bot", monkeypatch=None, identity="aa"):
    monkeypatch.setattr(mounts, "_mount_lines", lambda: lines(*mounted))
    monkeypatch.setattr(mounts.os, "statvfs", lambda _path: type("Space", (), {"f_fsid": int(identity, 16)}))
    return mounts.places_of(path, [""])[""]


DISK = ("/", "/srv/bot", "ext4", "/dev/sdb1")
SYSTEM = ("/", "/", "ext4", "/dev/sda1")


@pytest.mark.parametrize(
    ("before", "now", "other"),
    [
        pytest.param(([SYSTEM, DISK], "aa"), ([SYSTEM], "bb"), True, id="the disk is not mounted"),
        pytest.param(
            ([SYSTEM, DISK], "aa"), ([SYSTEM, ("/", "/srv/bot", "ext4", "/dev/sdc1")], "aa"), False, id="numbered anew"
        ),
        pytest.param(([SYSTEM, DISK], "aa"), ([SYSTEM, DISK], "bb"), True, id="another disk of the same name"),
        pytest.param(
            ([SYSTEM], "aa"), ([SYSTEM, ("/srv/bot", "/srv/bot", "ext4", "/dev/sda1")], "aa"), False, id="in a sandbox"
        ),
        pytest.param(
            ([SYSTEM, ("/bots/one", "/srv/bot", "xfs", "/dev/mapper/vg-data")], "1"),
            ([SYSTEM, ("/bots/one", "/srv/bot", "xfs", "/dev/mapper/vg-data")], "2"),
            False,
            id="lvm, bound, after a reboot",
        ),
        pytest.param(
            ([("/", "/srv", "xfs", "/dev/mapper/vg-data")], "1"),
            ([("/", "/srv", "xfs", "/dev/mapper/vg-old")], "1"),
            True,
            id="another volume",
        ),
        pytest.param(
            ([("/", "/srv", "nfs4", "nas:/bots")], "1"), ([("/", "/srv", "nfs4", "nas:/old")], "1"), True, id="export"
        ),
        pytest.param(
            ([("/", "/srv", "xfs", "/dev/sdb1")], "1"), ([("/", "/srv", "xfs", "/dev/sdc1")], "2"), False, id="xfs"
        ),
        pytest.param(
            ([("/@data", "/srv/bot", "btrfs", "/dev/sda2")], "1"),
            ([("/@", "/", "btrfs", "/dev/sda2")], "2"),
            True,
            id="btrfs",
        ),
        pytest.param(
            ([("/", "/", "xfs", "/dev/sda1"), ("/", "/srv/bot", "xfs", "/dev/sdb1")], "1"),
            ([("/", "/", "xfs", "/dev/sda1")], "1"),
            True,
            id="xfs that is not mounted",
        ),
        pytest.param(([SYSTEM, DISK, DISK], "aa"), ([SYSTEM, DISK], "aa"), False, id="mounted twice"),
    ],
)
def test_hazard_a3_whether_the_data_lies_on_the_same_filesystem(monkeypatch, before, now, other):
    earlier = place(before[0], monkeypatch=monkeypatch, identity=before[1])
    later = place(now[0], monkeypatch=monkeypatch, identity=now[1])
    assert mounts.other_filesystem(earlier, later) is other


def test_hazard_a3_a_root_on_another_filesystem_is_refused(bot, monkeypatch):
    here = basis_module.current_places(bot.application)[""]
    elsewhere = dataclasses.replace(here, filesystem="tmpfs", within="/")
    for module in ("basis", "backup_plan"):
        name = f"{basis_module.__name__.rpartition('.')[0]}.{module}.current_places"
        monkeypatch.setattr(name, lambda _application: {"": elsewhere})
    error = refused(bot, "lies on another filesystem than in")
    assert "mount the disk again" in str(error) and "--allow-loss filesystem" in str(error)
    made(bot, allow_loss=["filesystem"])
    made(bot)


def test_hazard_a3_a_tree_is_not_made_on_the_disk_beneath_one_that_is_not_mounted(bot, monkeypatch):
    made(bot)
    disk, system = ("/", str(bot.root), "ext4", "/dev/sdb1"), ("/", "/", "ext4", "/dev/sda1")
    monkeypatch.setattr(mounts, "_mount_lines", lambda: lines(system, disk))
    made(bot, allow_loss=["filesystem"])
    away = bot.root.rename(bot.root.with_name("away"))
    monkeypatch.setattr(mounts, "_mount_lines", lambda: lines(system))
    for exists in (False, True):
        if exists:
            bot.root.mkdir()
        for fix in (False, True):
            with pytest.raises(
                CaptureError, match=r"lies on another filesystem than in .*; nothing was made there"
            ) as told:
                tree(bot.application, bot.ports, fix=fix)
            assert "mount the disk again; a new disk is filled by: tradekeep restore" in str(told.value)
        assert bot.root.exists() is exists and (not exists or list(bot.root.iterdir()) == [])
    # What the message says works; and from then on that is where the data lies.
    restore(bot.application, bot.ports)
    assert tree(bot.application, bot.ports, fix=True).status == 0
    # Mounted again, or moved there as a whole: nothing has to be made.
    shutil.rmtree(bot.root)
    away.rename(bot.root)
    monkeypatch.setattr(mounts, "_mount_lines", lambda: lines(system, disk))
    assert tree(bot.application, bot.ports, fix=True).status == 0


def test_hazard_a3_an_xfs_disk_of_the_same_name_is_known_by_its_uuid(monkeypatch, tmp_path):
    def there(uuid):
        def ioctl(_descriptor, request, answer):
            if uuid is None or request != 0x80705864:
                raise OSError(25, "Inappropriate ioctl for device")
            answer[64:80] = uuid

        monkeypatch.setattr(mounts.fcntl, "ioctl", ioctl)
        return mounts.places_of(tmp_path, [""])[""]

    monkeypatch.setattr(mounts, "_mount_lines", lambda: lines(("/", str(tmp_path), "xfs", "/dev/sdb1")))
    one, other = there(b"1" * 16), there(b"2" * 16)
    assert mounts.other_filesystem(one, other) and not mounts.other_filesystem(one, there(b"1" * 16))
    assert one.identity == "31" * 16
    # A record of an earlier version says no UUID.
    assert not mounts.other_filesystem(there(None), other)


def test_the_plan_crosses_to_the_process_that_reads(bot):
    plan = BackupPlan.of_label("x", bot.application.encryption, bot.backups)
    found = dataclasses.replace(plan, content={"data": 3}, lost=("a",), empty=("b",), missing=("c",))
    assert plan.completed_by(json.loads(json.dumps(found.as_completion()))) == found


# What a bot deletes itself


def queue(bench, *orders, fills=500):
    """A database with fills and orders to be sent, backed up with each number of orders; returns the outcomes."""
    with contextlib.closing(bench.database(rows=fills)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY)")
        outcomes = []
        for count in orders:
            connection.execute("DELETE FROM outbox")
            connection.executemany("INSERT INTO outbox VALUES (?)", [(number,) for number in range(count)])
            connection.commit()
            outcomes.append(backup(bench.application, bench.ports))
    return outcomes


def drained(outcome):
    return [text for text in outcome.record["warnings"] if "table outbox" in text]


def test_a_queue_that_drains_is_told_once(bench):
    first, night, day, next_night, _purged = queue(bench, 100, 0, 200, 0, 30)
    assert (first.status, night.status, day.status, next_night.status) == (0, 1, 0, 0)
    assert drained(night)[0].endswith(f"tables_may_shrink: ['{FILLS}:outbox']")
    assert not drained(day) and not drained(next_night)
    assert bench.backups.joinpath(next_night.record["backup"]["name"]).is_file()
    # What was learnt is known without the state directory, as every sidecar carries it on.
    shutil.rmtree(bench.base / "state")
    assert [outcome.status for outcome in queue(bench, 100, 0, fills=1)] == [0, 0]


def test_the_profile_knows_a_queue_beforehand(bench):
    changed_profile(bench, tables_may_shrink=("fills.db:outbox",))
    outcomes = queue(bench, 100, 0)
    assert [outcome.status for outcome in outcomes] == [0, 0] and not drained(outcomes[1])


def test_hazard_a3_what_a_person_allowed_once_is_not_learnt(bench):
    queue(bench, 100)
    connection = bench.database(rows=0)
    for word in (f"{FILLS}:outbox", "databases", "all"):
        connection.execute("DELETE FROM outbox")
        connection.commit()
        assert backup(bench.application, bench.ports, allow_loss=[word]).status == 0
        connection.executemany("INSERT INTO outbox VALUES (?)", [(number,) for number in range(100)])
        connection.commit()
        made(bench)
    connection.execute("DELETE FROM outbox")
    connection.commit()
    connection.close()
    assert backup(bench.application, bench.ports).status == 1


def test_hazard_a3_a_database_that_was_lost_as_a_whole_is_no_drain(bench):
    queue(bench, 100, 0, 100)
    connection = bench.database(rows=0)
    connection.execute("DELETE FROM fills WHERE id > 10")
    connection.commit()
    with pytest.raises(CaptureError, match=r"table fills had 500 rows in .* and has 10 now"):
        backup(bench.application, bench.ports)
    connection.execute("DELETE FROM outbox")
    connection.commit()
    connection.close()
    with pytest.raises(CaptureError, match="table fills had 500 rows"):
        backup(bench.application, bench.ports)


def test_hazard_b4_the_last_backup_before_a_table_was_drained_is_kept(bench):
    changed_profile(bench, retention=Retention(keep_last=1))
    _half, full, _empty = queue(bench, 60, 100, 0)
    outcome = prune(bench.application, bench.ports, dry_run=False)
    (said,) = [line for line in outcome.lines if "last before a loss" in line]
    assert full.record["backup"]["name"] in said and f"100 rows of {FILLS}:outbox" in said


def test_files_that_may_shrink_count_for_nothing(bot):
    spool = bot.root / "data/spool"
    spool.mkdir()
    for number in range(200):
        (spool / f"{number}.order").write_bytes(b"x" * 1000)
    changed_component(
        bot, "data", files=(FileRule("data/spool/*", may_shrink=True), FileRule("cache.db", may_shrink=True))
    )
    bot.database("data/cache.db").close()
    made(bot)
    shutil.rmtree(spool)
    (bot.root / "data/cache.db").unlink()
    assert backup(bot.application, bot.ports).status == 0
    # The rule takes nothing away from the guard of the rest.
    for path in (bot.root / "data").glob("*.parquet"):
        path.unlink()
    refused(bot, "component data held 12 files in .* and holds 2 now")


def test_a_rule_that_comes_later_makes_no_loss(bot):
    (bot.root / "data/spool").mkdir()
    for number in range(20):
        (bot.root / f"data/spool/{number}.order").write_bytes(b"x")
    made(bot)
    changed_component(bot, "data", files=(FileRule("data/*/*", may_shrink=True), FileRule("data/*", may_shrink=True)))
    made(bot)
