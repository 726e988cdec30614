# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups: what is captured, what the files look like, what is refused."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import tarfile

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Tier
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    CaptureError,
    ConfigurationError,
    EncryptionError,
    UnsafePathError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup_plan import (
    BackupPlan,
    choose_encryption,
    measure,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.safety import _data_bytes
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.scan import scan
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify

FILLS = "databases/accounts/kalshi/demo/fills.db"
POSITIONS = "databases/accounts/kalshi/demo/positions.db"


def made(bench, **options):
    return backup(bench.application, bench.ports, **options).record["backup"]


def test_the_files_are_as_the_contract_says(bench):
    bench.database().close()
    os.umask(0o022)
    facts = made(bench, name="before_upgrade")
    assert re.fullmatch(r"user_data_\d{8}_\d{6}_before_upgrade\.tar\.gz", facts["name"])
    assert stat.S_IMODE(bench.backups.stat().st_mode) == 0o700
    for name in (facts["name"], facts["name"] + ".sha256", facts["name"] + ".json"):
        assert stat.S_IMODE((bench.backups / name).stat().st_mode) == 0o600
    check = subprocess.run(["sha256sum", "-c", facts["name"] + ".sha256"], cwd=bench.backups, capture_output=True)
    assert check.returncode == 0
    assert os.readlink(bench.backups / "latest_backup.tar.gz") == facts["name"]
    done = subprocess.run(["tar", "-tzf", facts["path"]], capture_output=True, text=True, check=True)
    listing = done.stdout.split("\n")
    assert FILLS in listing
    assert listing[-2] == "MANIFEST.json"


def test_hazard_a1_wal_rows_survive(bench, tmp_path):
    connection = bench.database(rows=1000)
    assert (bench.root / FILLS).stat().st_size < 10_000, "the rows are in the WAL alone"
    facts = made(bench)
    connection.close()
    with tarfile.open(facts["path"]) as archive:
        manifest = json.load(archive.extractfile("MANIFEST.json"))
        names = archive.getnames()
    entry = next(item for item in manifest["entries"] if item["path"] == FILLS)
    assert entry["facts"]["tables"] == {"fills": 1000}
    assert FILLS + "-wal" not in names


def test_hazard_b6_rows_that_are_in_the_wal_alone_need_space_too(bench):
    """For the copy of their database, in the archive, and in a safety backup: no less than after a checkpoint."""
    bench.make_tree()
    connection = bench.database(rows=200_000)
    wal = (bench.root / f"{FILLS}-wal").stat().st_size
    assert (bench.root / FILLS).stat().st_size < 10_000
    assert wal > 2 << 20

    def needed():
        encryption = choose_encryption(bench.application, Tier.MANUAL, None)
        request = BackupPlan.of_label("before_deploy", encryption, bench.backups)
        planned = backup(bench.application, bench.ports, dry_run=True).record["plan"]["space_needed"]
        return planned, measure(scan(bench.application), request).space_needed, _data_bytes(bench.application)

    before = needed()
    assert before[0] == before[1] >= wal + wal // 2
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    after = needed()
    connection.close()
    assert all(more >= less for more, less in zip(before, after))


def test_hazard_a2_no_sidecar_appears_and_no_right_changes(bench):
    bench.database().close()
    before = {path: (path.stat().st_mode, path.stat().st_uid) for path in (bench.root / FILLS).parent.iterdir()}
    made(bench)
    after = {path: (path.stat().st_mode, path.stat().st_uid) for path in (bench.root / FILLS).parent.iterdir()}
    assert after == before


def test_hazard_a3_a_fresh_tree_succeeds_and_says_what_is_not_there(bench):
    outcome = backup(bench.application, bench.ports)
    assert FILLS in outcome.record["missing"]
    assert any(FILLS in line for line in outcome.lines)


def test_hazard_a3_a_database_that_was_there_and_is_gone_fails(bench):
    bench.database().close()
    made(bench)
    (bench.root / FILLS).unlink()
    with pytest.raises(CaptureError, match="missing now"):
        backup(bench.application, bench.ports)
    with pytest.raises(CaptureError, match="missing now"):
        backup(bench.application, bench.ports, dry_run=True)


def test_hazard_a3_a_database_that_no_profile_names_but_a_backup_held(bench):
    bench.database("databases/other.db").close()
    made(bench)
    (bench.root / "databases/other.db").unlink()
    with pytest.raises(CaptureError, match="missing now"):
        backup(bench.application, bench.ports)


def test_hazard_a3_an_empty_database_fails(bench):
    (bench.root / FILLS).touch()
    with pytest.raises(CaptureError, match="empty"):
        backup(bench.application, bench.ports)


def test_hazard_a3_collapsed_rows_fail_until_accepted(bench):
    connection = bench.database(rows=100)
    made(bench)
    connection.execute("DELETE FROM fills WHERE id > 10")
    connection.commit()
    connection.close()
    with pytest.raises(CaptureError, match="had 100 rows"):
        backup(bench.application, bench.ports)
    assert len(list(bench.backups.glob("*.tar.gz"))) == 2, "the archive and the link to the latest"
    made(bench, allow_row_loss=True)
    made(bench)


def test_hazard_a9_what_lies_in_a_real_tree(bench, tmp_path):
    state = bench.root / "state"
    (state / "empty").mkdir()
    (state / ".hidden").write_text("x")
    (state / "line\nbreak").write_text("y")
    (state / os.fsdecode(b"latin\xe9")).write_text("z")
    (state / "link.json").symlink_to("account_mode.json")
    os.link(state / "account_mode.json", state / "second_name.json")
    with open(state / "sparse.bin", "wb") as stream:
        stream.truncate(3 << 20)
    os.mkfifo(state / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(state / "s"))
    os.utime(state / ".hidden", ns=(1, 1_700_000_000_123_456_789))
    outcome = backup(bench.application, bench.ports)
    listener.close()
    target = tmp_path / "out"
    target.mkdir()
    subprocess.run(["tar", "-xzf", outcome.record["backup"]["path"], "-C", target], check=True)
    out = target / "state"
    assert (out / "empty").is_dir()
    assert (out / ".hidden").stat().st_mtime_ns // 10**9 == 1_700_000_000
    assert (out / "line\nbreak").read_text() == "y"
    assert (out / os.fsdecode(b"latin\xe9")).read_text() == "z"
    assert os.readlink(out / "link.json") == "account_mode.json"
    assert (out / "second_name.json").read_bytes() == (state / "account_mode.json").read_bytes()
    assert (out / "sparse.bin").stat().st_size == 3 << 20
    assert not (out / "fifo").exists()
    assert sum("socket, FIFO" in text for text in outcome.record["warnings"]) == 2


def test_a_dry_run_writes_nothing(bench):
    bench.database().close()
    before = sorted(os.listdir(bench.base)), bench.snapshot()
    outcome = backup(bench.application, bench.ports, dry_run=True)
    assert outcome.record["plan"]["components"]["databases"]["files"] == 1
    assert (sorted(os.listdir(bench.base)), bench.snapshot()) == before
    assert not bench.backups.exists()


def test_hazard_b1_nothing_has_a_name_before_it_is_verified(bench, monkeypatch):
    seen = []

    def step(name):
        if name == "verify":
            seen.extend(entry for entry in os.listdir(bench.backups) if not entry.startswith(".tradekeep-"))

    backup(bench.application, bench.with_steps(step))
    assert seen == []


def test_hazard_b1_what_the_disk_gives_back_wrong_gets_no_name(bench):
    def step(name):
        if name == "verify":
            (temporary,) = bench.backups.glob(".tradekeep-*.part")
            content = bytearray(temporary.read_bytes())
            content[len(content) // 2] ^= 1
            temporary.write_bytes(content)

    with pytest.raises(ArchiveError):
        backup(bench.application, bench.with_steps(step))
    assert os.listdir(bench.backups) == []


def test_hazard_b1_without_gpg_nothing_is_left_in_the_clear(make_bench, tmp_path, monkeypatch):
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse")
    secret.chmod(0o600)
    bench = make_bench(passphrase_file=str(secret))
    bench.make_tree()
    find = type(bench.ports.runner).find
    monkeypatch.setattr(
        type(bench.ports.runner), "find", lambda self, program: None if program == "gpg" else find(self, program)
    )
    with pytest.raises(EncryptionError, match="gpg"):
        backup(bench.application, bench.ports, encrypt=True)
    assert os.listdir(bench.backups) == []


def test_names_as_long_as_a_filesystem_allows_are_verified_deeply(bench):
    bench.make_tree()
    for name in ("x." + "p" * 249 + ".log", "q." + "r" * 248 + ".json"):
        (bench.root / "state" / name).write_text("{}\n")
    made(bench)
    assert verify(bench.application, bench.ports, reference="latest", deep=True).status == 0


def test_encrypted_with_a_passphrase_file(make_bench, tmp_path):
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse")
    secret.chmod(0o600)
    bench = make_bench(passphrase_file=str(secret))
    bench.make_tree()
    facts = made(bench, tier="weekly")
    assert facts["name"].endswith(".tar.gz.gpg")
    assert os.readlink(bench.backups / "latest_backup.tar.gz.gpg") == facts["name"]
    assert verify(bench.application, bench.ports, reference="latest", deep=True).status == 0
    wrong = tmp_path / "wrong"
    wrong.write_text("battery staple")
    wrong.chmod(0o600)
    assert verify(bench.application, bench.ports, reference="latest", passphrase_file=str(wrong)).status == 1


def test_refusals(bench, make_bench, tmp_path):
    with pytest.raises(ConfigurationError, match="tier"):
        backup(bench.application, bench.ports, tier="hourly")
    with pytest.raises(UsageError):
        backup(bench.application, bench.ports, name="../x")
    with pytest.raises(ConfigurationError, match="nothing to encrypt with"):
        backup(bench.application, bench.ports, encrypt=True)
    with pytest.raises(ConfigurationError, match="inside the data"):
        backup(bench.application, bench.ports, output=str(bench.root / "state"))
    assert not bench.backups.exists()


def test_a_missing_root_is_said(make_bench):
    bench = make_bench()
    with pytest.raises(ConfigurationError, match="does not exist"):
        backup(bench.application, bench.ports)


def test_hazard_a9_a_component_that_is_a_symlink_is_refused(bench, tmp_path):
    (bench.root / "state").rename(tmp_path / "elsewhere")
    (bench.root / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePathError, match="symlink"):
        backup(bench.application, bench.ports)


@pytest.mark.parametrize("content", [b"\x00" * 4096, os.urandom(8192), b"SQLite format 3\x00" + b"\xff" * 4080])
def test_hazard_a4_a_corrupt_or_encrypted_database_fails_the_backup(bench, content):
    (bench.root / FILLS).write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        backup(bench.application, bench.ports)
    assert FILLS in str(caught.value)
    assert os.listdir(bench.backups) == []
