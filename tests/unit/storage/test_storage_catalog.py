# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Names, publishing, sidecars, latest link, verification records and leftovers of the local catalog."""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Application, Profile
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    ConfigurationError,
    SpaceError,
    TradekeepError,
    UnsafePathError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage import local, placing
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.names import backup_name, parse_name

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


class FixedClock:
    def now(self):
        return NOON

    def monotonic(self):
        return 0.0

    def sleep(self, seconds):
        pass


@pytest.fixture
def catalog(tmp_path):
    application = Application(
        name="bot",
        profile=Profile("bot", archive_prefix="user_data"),
        root=PurePosixPath(tmp_path / "root"),
        owner="x",
        group="x",
        backup_dir=PurePosixPath(tmp_path / "backups"),
        config_dir=PurePosixPath(tmp_path / "etc"),
        state_dir=PurePosixPath(tmp_path / "state"),
        bin_dir=PurePosixPath(tmp_path / "bin"),
    )
    made = LocalCatalog(application, FixedClock())
    made.check_directory()
    return made


def publish(catalog, moment=NOON, content=b"archive", name=None, encrypted=False, **facts):
    final = backup_name("user_data", moment, name, "gzip", encrypted)
    temporary = catalog.temporary(final)
    temporary.write_bytes(content)
    sidecar = {
        "application": "bot",
        "tier": "daily",
        "created": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "verified": {"level": "entries"},
        **facts,
    }
    return catalog.publish(temporary, final, sidecar)


def dead_pid():
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a b", "a\n", "../x", "é", "x" * 65, "-x", "a;b"])
def test_names_with_odd_characters_are_refused(name):
    with pytest.raises(UsageError):
        backup_name("user_data", NOON, name)


@pytest.mark.parametrize("name", [None, "before_upgrade", "a.tar.gz", "20260101_000000"])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_names_round_trip(name, compression, encrypted):
    filename = backup_name("user_data", NOON, name, compression, encrypted)
    parsed = parse_name("user_data", filename)
    assert parsed is not None
    assert (parsed.moment, parsed.name, parsed.compression, parsed.encrypted) == (NOON, name, compression, encrypted)


def test_names_that_are_not_backups():
    for filename in (
        "user_data_20261399_000000.tar.gz",
        "user_data_x.tar.gz",
        "backup_20260101_000000.tar.gz",
        "user_data_20260101_000000.tar.gz.sha256",
        "latest_backup.tar.gz",
    ):
        assert parse_name("user_data", filename) is None


def test_hazard_b2_sha256sum_accepts_the_sidecar_beside_the_archive(catalog):
    made = publish(catalog)
    done = subprocess.run(["sha256sum", "-c", made.name + ".sha256"], cwd=catalog.directory, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_hazard_b1_private_modes_whatever_the_umask(catalog):
    old = os.umask(0)
    try:
        made = publish(catalog)
    finally:
        os.umask(old)
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert all(path.lstat().st_mode & 0o777 == 0o600 for path in catalog.directory.glob("user_data*"))
    assert catalog.directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("wrong", [{"verified": None}, {"verified": {"ok": False}}, {"sha256": ""}, {"size": 3}])
def test_hazard_b1_no_name_before_it_is_whole_and_verified(catalog, wrong):
    with pytest.raises(ArchiveError):
        publish(catalog, **wrong)
    assert catalog.list() == ()


@pytest.mark.parametrize("step", ["write_new", "give_name", "point_link"])
def test_hazard_b1_a_crash_while_publishing_leaves_a_whole_backup_or_none(catalog, monkeypatch, step):
    publish(catalog, NOON - timedelta(days=1))

    class Crash(BaseException):
        pass

    def crash(*_args, **_kwargs):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(local, step, crash)
        with pytest.raises(Crash):
            publish(catalog)
    assert all(item.good for item in catalog.list())
    assert len(catalog.list()) == (2 if step == "point_link" else 1)
    catalog.sweep_leftovers()
    link = catalog.directory / "latest_backup.tar.gz"
    assert os.readlink(link) == catalog.list()[0].name


def test_same_second_never_overwrites(catalog):
    first = publish(catalog, content=b"one")
    second = publish(catalog, content=b"two", encrypted=True)
    third = publish(catalog, content=b"three")
    assert len({first.name, second.name, third.name}) == 3
    assert [item.path.read_bytes() for item in (first, second, third)] == [b"one", b"two", b"three"]
    assert parse_name("user_data", third.name).moment == NOON + timedelta(seconds=2)
    assert all(item.good for item in catalog.list())


def test_latest_is_one_relative_link_to_the_newest_good_one(catalog):
    first = publish(catalog, NOON - timedelta(hours=1))
    assert os.readlink(catalog.directory / "latest_backup.tar.gz") == first.name
    second = publish(catalog, encrypted=True)
    assert os.readlink(catalog.directory / "latest_backup.tar.gz.gpg") == second.name
    assert not os.path.lexists(catalog.directory / "latest_backup.tar.gz")
    catalog.record_verified(second, "deep", NOON, False, ["bit rot"])
    assert os.readlink(catalog.directory / "latest_backup.tar.gz") == first.name
    assert not os.path.lexists(catalog.directory / "latest_backup.tar.gz.gpg")
    assert catalog.find("latest").name == first.name
    assert "bit rot" in catalog.find(second.name).problem


def test_verification_is_recorded_apart_from_the_sidecar(catalog):
    made = publish(catalog)
    before = (catalog.directory / (made.name + ".json")).read_bytes()
    catalog.record_verified(made, "deep", NOON + timedelta(days=2), True)
    assert (catalog.directory / (made.name + ".json")).read_bytes() == before
    found = catalog.find("latest")
    assert (found.verified_level, found.verified_at) == ("deep", NOON + timedelta(days=2))
    assert catalog.records.path.stat().st_mode & 0o777 == 0o600


def test_doubtful_backups_are_listed_with_their_problem(catalog):
    made = publish(catalog)
    made.path.write_bytes(b"short")
    assert "has 5 bytes" in catalog.list()[0].problem
    (catalog.directory / (made.name + ".json")).unlink()
    (catalog.directory / (made.name + ".sha256")).write_text("nonsense\n")
    assert "no .json" in catalog.list()[0].problem
    assert "does not name" in catalog.list()[0].problem
    with pytest.raises(TradekeepError, match="none of 1 is verified"):
        catalog.find("latest")


def test_a_planted_symlink_is_no_backup(catalog, tmp_path):
    (tmp_path / "secret").write_text("x")
    (catalog.directory / "user_data_20260101_000000.tar.gz").symlink_to(tmp_path / "secret")
    assert "not a regular file" in catalog.list()[0].problem


def test_another_application_in_the_same_directory_is_left_alone(catalog):
    publish(catalog, application="other")
    assert catalog.list() == ()


def test_half_deleted_backup_is_swept_and_not_listed(catalog):
    made = publish(catalog)
    made.path.unlink()
    assert catalog.list() == ()
    assert set(catalog.sweep_leftovers()) == {made.name + ".sha256", made.name + ".json"}
    assert os.listdir(catalog.directory) == []


def test_only_leftovers_of_dead_processes_are_swept(catalog):
    name = backup_name("user_data", NOON)
    live = catalog.temporary(name)
    live.write_bytes(b"x")
    dead = live.with_name(live.name.replace(f".{os.getpid()}-", f".{dead_pid()}-"))
    dead.write_bytes(b"x")
    # Names of earlier versions do not say on which host that process was.
    old = catalog.directory / f".tradekeep-{name}.{dead_pid()}-0123abcd.part"
    old.write_bytes(b"x")
    scratch = catalog.directory / f".tradekeep-scratch-{dead_pid()}-abc_1"
    scratch.mkdir()
    (scratch / "plain.db").write_bytes(b"secret")
    assert set(catalog.sweep_leftovers()) == {dead.name}
    for path in (old, scratch):
        os.utime(path, (0, 0))
    assert set(catalog.sweep_leftovers()) == {old.name, scratch.name}
    assert live.exists()


def test_find_by_name_label_and_path(catalog):
    made = publish(catalog, name="before_upgrade")
    stem = made.name[: -len(".tar.gz")]
    for reference in (made.name, stem, "before_upgrade", str(made.path), "latest"):
        assert catalog.find(reference).path == made.path
    for reference in ("nothing", "/no/such/file.tar.gz"):
        with pytest.raises(UsageError):
            catalog.find(reference)


def test_a_name_of_several_backups_is_refused_and_a_file_name_never_is(catalog):
    made = [publish(catalog, NOON + timedelta(hours=hour), name="before_restore") for hour in range(7)]
    with pytest.raises(UsageError) as caught:
        catalog.find("before_restore")
    assert caught.value.exit_status == 2
    said = str(caught.value)
    assert "stands for 7 backups" in said
    assert "and 2 older" in said
    assert [item.name for item in made[:1:-1]] == [name for name in said.replace(",", " ").split() if ".tar." in name]
    namesake = publish(catalog, NOON - timedelta(hours=1), name=made[0].name)
    for item in [*made, namesake]:
        assert catalog.find(item.name).path == item.path
    assert catalog.find(made[0].name[: -len(".tar.gz")]).path == made[0].path


def test_named_backups_are_pinned_until_released(catalog):
    made = publish(catalog, name="keep")
    assert made.pinned
    catalog.release(made)
    assert not catalog.find("keep").pinned


def test_a_world_writable_directory_is_refused(catalog):
    catalog.directory.chmod(0o777)
    with pytest.raises(UnsafePathError):
        publish(catalog)


@pytest.mark.root
def test_a_directory_that_is_somebody_elses_symlink_is_refused(catalog, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(catalog.directory)
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(UnsafePathError):
        LocalCatalog(catalog.application, FixedClock(), directory=link).check_directory()


def test_a_name_that_is_not_durable_is_taken_away_again(catalog, monkeypatch):
    fsync = placing.fsync_directory

    def failing(path):
        if any(name.endswith(".tar.gz") for name in os.listdir(path)):
            raise OSError(5, "Input/output error", str(path))
        fsync(path)

    monkeypatch.setattr(placing, "fsync_directory", failing)
    with pytest.raises(TradekeepError):
        publish(catalog)
    monkeypatch.undo()
    assert [name for name in os.listdir(catalog.directory) if not name.endswith(".part")] == []


def test_what_follows_the_name_cannot_unmake_a_backup(catalog, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(local, "point_link", full)
        patched.setattr(catalog.records, "_write", lambda content: (_ for _ in ()).throw(SpaceError("disk is full")))
        made = publish(catalog)
        unfinished = catalog.settle(made, "entries", NOON)
    assert len(unfinished) == 2
    assert all(text.startswith("the backup is made, but: ") for text in unfinished)
    assert catalog.find("latest").path == made.path
    assert not (catalog.directory / "latest_backup.tar.gz").is_symlink()
    assert catalog.settle(made, "entries", NOON) == ()
    assert (catalog.directory / "latest_backup.tar.gz").is_symlink()


def test_a_newer_catalog_is_left_alone(catalog):
    catalog.records.path.parent.mkdir(parents=True)
    catalog.records.path.write_text('{"version": 2, "backups": {}}')
    with pytest.raises(ConfigurationError, match="newer"):
        catalog.list()


DAMAGED = [
    b"",
    b"{",
    b'{"version": 1, "backups": {"a',
    b"\xff\xfe",
    b"[" * 100_000,
    b"[]",
    b'{"version": 1}',
    b'{"version": "2", "backups": {}}',
    b'{"version": 1, "backups": []}',
    b'{"version": 1, "backups": {"a": 5}}',
    b'{"version": 1, "backups": {"a": {"ok": "yes"}}}',
    b'{"version": 1, "backups": {"a": {"verified_at": 5}}}',
    b'{"version": 1, "backups": {"a": {"problems": "x"}}}',
    b'{"version": 1, "backups": {}, "last_prune": 5}',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_catalog_stops_nothing_and_is_kept_aside(catalog, content):
    publish(catalog)
    path = catalog.records.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    notes = []
    again = LocalCatalog(catalog.application, FixedClock(), note=notes.append)
    (found,) = again.list()
    assert found.good
    assert path.read_bytes() == content, "reading writes nothing"
    again.record_verified(found, "entries", NOON, True)
    assert len(notes) == 2
    assert "damaged" in notes[0]
    assert "verify all" in notes[0]
    (aside,) = path.parent.glob("catalog.json.*")
    assert aside.name == "catalog.json.damaged-20260301T120000Z"
    assert str(aside) in notes[1]
    assert aside.read_bytes() == content
    assert again.records.entry(found.name)["ok"] is True
    assert again.records.lost == NOON


def test_a_catalog_that_is_no_file_is_kept_aside_too(catalog):
    catalog.records.path.mkdir(parents=True)
    made = publish(catalog)
    catalog.record_verified(made, "entries", NOON, True)
    assert catalog.records.path.is_file()
    (aside,) = catalog.records.path.parent.glob("catalog.json.damaged-*")
    assert aside.is_dir()


def test_backups_are_unproven_until_they_are_verified_after_the_loss(catalog):
    earlier = publish(catalog, NOON - timedelta(days=2))
    later = publish(catalog, NOON - timedelta(days=1))
    assert catalog.unproven() == ()
    catalog.records.path.parent.mkdir(parents=True, exist_ok=True)
    catalog.records.path.write_text("{")
    assert {item.name for item in catalog.unproven()} == {earlier.name, later.name}
    catalog.record_verified(later, "entries", NOON, True)
    assert [item.name for item in catalog.unproven()] == [earlier.name]
    catalog.record_verified(earlier, "entries", NOON, False, ["damaged"])
    assert catalog.unproven() == ()


def test_filesystem_without_hard_links(catalog, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(local.os, "link", refuse)
    assert publish(catalog, content=b"one").path.read_bytes() == b"one"
    assert publish(catalog, content=b"two").path.read_bytes() == b"two"
    assert not [path for path in Path(catalog.directory).iterdir() if path.name.startswith(".tradekeep")]
