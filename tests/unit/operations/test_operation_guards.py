# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards that show in whole operations only; tests/certify/guards.py takes each of them out."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Encryption
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application_checks import check_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry, Totals
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.members import ReadReport
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    CaptureError,
    CommandError,
    ConfigurationError,
    LockBusyError,
    SpaceError,
    TradekeepError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prove import prove_sealed
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore_stage import check_restored
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.parts import scratch_purpose
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import Exchange
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.lock import application_lock

FILLS = "databases/accounts/kalshi/demo/fills.db"
MODE = "state/account_mode.json"

HOLDS_THE_LOCK = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=" + sys.argv[2])
c.execute("PRAGMA locking_mode=EXCLUSIVE")
c.execute("BEGIN EXCLUSIVE")
c.execute("INSERT INTO fills (trade_id) VALUES ('at work')")
print("ready", flush=True)
sys.stdin.read()
c.execute("COMMIT")
"""


class HurriedClock(SystemClock):
    """Every look at it finds a quarter of an hour gone."""

    ahead = 0.0

    def monotonic(self):
        self.ahead += 1000
        return super().monotonic() + self.ahead

    def sleep(self, seconds):
        self.ahead += 1000


def hurried(bench):
    return dataclasses.replace(bench.ports, clock=HurriedClock())


def made(bench, **options):
    return backup(bench.application, bench.ports, **options).record["backup"]


def manifest(path):
    with tarfile.open(path) as archive:
        return {entry["path"]: entry for entry in json.load(archive.extractfile("MANIFEST.json"))["entries"]}


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_hazard_a1_a_locked_database_fails_the_backup_and_loses_nothing(bench, mode):
    bench.database(wal=mode == "WAL").close()
    made(bench, name="first")
    before = sorted(os.listdir(bench.backups))
    command = [sys.executable, "-c", HOLDS_THE_LOCK, str(bench.root / FILLS), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bot:
        assert bot.stdout.readline() == "ready\n"
        with pytest.raises(CaptureError, match="locked by another process") as caught:
            backup(bench.application, hurried(bench))
        bot.communicate()
    assert caught.value.path == str(bench.root / FILLS)
    assert (int(caught.value.exit_status), bot.returncode) == (3, 0)
    assert sorted(os.listdir(bench.backups)) == before
    assert bench.rows() == 101
    assert made(bench)["good"]


def test_hazard_a3_a_dry_run_refuses_an_empty_database_too(bench):
    (bench.root / FILLS).touch()
    with pytest.raises(CaptureError, match="empty"):
        backup(bench.application, bench.ports, dry_run=True)


def test_hazard_a4_a_tier_may_ask_for_the_full_check(bench):
    tiers = ("daily", "weekly", "monthly")
    levels = {tier: sidecar(made(bench, tier=tier, encrypt=False))["check_level"] for tier in tiers}
    assert levels == {"daily": "quick", "weekly": "full", "monthly": "full"}


def sidecar(facts):
    return json.loads(Path(facts["path"] + ".json").read_text())


def test_hazard_a6_a_large_file_that_changes_under_the_backup_is_whole(bench, monkeypatch):
    path, size = bench.root / "state/history.bin", 9 << 20
    path.write_bytes(b"a" * size)
    inode, reads = path.stat().st_ino, []

    def watching(real):
        def read(descriptor, *arguments):
            found = real(descriptor, *arguments)
            if os.fstat(descriptor).st_ino == inode:
                reads.append(found)
                if len(reads) == 2:
                    with path.open("r+b", buffering=0) as stream:
                        stream.write(b"b" * size)
            return found

        return read

    for name in ("read", "pread", "preadv"):
        monkeypatch.setattr(os, name, watching(getattr(os, name)))
    facts = made(bench)
    assert len(reads) >= 2
    with tarfile.open(facts["path"]) as archive:
        content = archive.extractfile("state/history.bin").read()
    # Not compared as a whole: on a build machine pytest would look for each of nine million differences.
    assert (len(content), content.count(b"b")) == (size, size)


def test_hazard_a9_times_come_back(bench):
    os.utime(bench.root / MODE, ns=(1_600_000_000 * 10**9,) * 2)
    made(bench)
    (bench.root / MODE).write_text("{}")
    restore(bench.application, bench.ports)
    assert int((bench.root / MODE).stat().st_mtime) == 1_600_000_000


# Names, checksums and exit status


@pytest.mark.parametrize(
    ("digest", "manifest_digest", "message"),
    [("0" * 64, "m", "not what was written"), (None, "another", "manifest read back")],
    ids=["file", "manifest"],
)
def test_hazard_b1_what_was_sealed_to_a_public_key_is_read_back_too(bench, tmp_path, digest, manifest_digest, message):
    """This host cannot decrypt it: its digest, and what was seen on the way into gpg, have to be right."""
    sealed = tmp_path / "sealed"
    sealed.write_bytes(b"sealed")
    right = hashlib.sha256(b"sealed").hexdigest()
    report = ReadReport("tradekeep", None, 1, 1, 1, manifest_sha256=manifest_digest)
    container = SimpleNamespace(size=6, sha256=digest or right, observed=report, followed=None)
    with pytest.raises(ArchiveError, match=message):
        prove_sealed(sealed, container, Totals(1, 1, "m"), Encryption(recipients=("key",)), bench.ports)


def secret_file(tmp_path):
    path = tmp_path / "passphrase"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    return str(path)


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
@pytest.mark.once
def test_hazard_b1_a_component_that_must_be_encrypted_is(make_bench, tmp_path):
    bench = make_bench(passphrase_file=secret_file(tmp_path))
    bench.make_tree()
    profile = bench.application.profile
    components = tuple(dataclasses.replace(item, require_encryption=True) for item in profile.components)
    bench.application = dataclasses.replace(
        bench.application, profile=dataclasses.replace(profile, components=components)
    )
    assert made(bench)["encrypted"]
    with pytest.raises(ConfigurationError, match="must be encrypted"):
        made(bench, encrypt=False)


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
@pytest.mark.once
def test_hazard_b1_no_key_is_left_in_the_temporary_directory(make_bench, tmp_path, monkeypatch):
    bench = make_bench(passphrase_file=secret_file(tmp_path))
    bench.make_tree()
    # The name of a socket of gpg's may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tk-") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        made(bench, encrypt=True)
        assert os.listdir(short) == []


def test_hazard_b1_what_a_killed_backup_left_is_swept(bench):
    made(bench)
    with subprocess.Popen(["true"]) as killed:
        killed.wait()
    catalog = LocalCatalog(bench.application, bench.ports.clock)
    left = catalog.temporary("user_data_20260101_000000.tar.gz")
    left = left.with_name(left.name.replace(f".{os.getpid()}-", f".{killed.pid}-"))
    left.write_bytes(b"half")
    scratch = bench.backups / f".tradekeep-{scratch_purpose(catalog.maker)}-{killed.pid}-0123456789abcdef"
    scratch.mkdir()
    (scratch / "capture.db").write_bytes(b"in the clear")
    made(bench)
    assert not left.exists()
    assert not scratch.exists()


def run(bench, *words):
    out, configured = io.StringIO(), ["--config", str(bench.base / "etc" / "kalshi.json"), "--json"]
    status = cli.main([*configured, *words], config_dir=str(bench.base / "etc"), stdout=out, stderr=io.StringIO())
    return status, json.loads(out.getvalue())


def test_hazard_b3_a_mistake_in_the_program_is_no_success(bench, monkeypatch):
    def mistaken(*_arguments):
        raise KeyError("nobody thought of this")

    install_configuration(bench.application)
    monkeypatch.setattr(cli, "carry_out", mistaken)
    assert run(bench, "backup")[0] == 4


def test_hazard_b3_one_bad_backup_is_the_exit_status_of_verify_all(bench):
    install_configuration(bench.application)
    first, second = made(bench, name="first"), made(bench, name="second")
    assert run(bench, "verify", "all")[0] == 0
    content = bytearray(Path(first["path"]).read_bytes())
    content[len(content) // 2] ^= 1
    Path(first["path"]).write_bytes(content)
    status, answer = run(bench, "verify", "all")
    assert (status, answer["exit_status"]) == (1, 1)
    found = {item["name"]: item["ok"] for item in answer["record"]["backups"]}
    assert found == {first["name"]: False, second["name"]: True}


def test_hazard_b3_a_program_that_fails_is_an_error():
    with pytest.raises(CommandError, match="exit status 7: last words"):
        SubprocessRunner().run(["sh", "-c", "echo last words >&2; exit 7"])


def test_hazard_b4_a_prune_that_is_cut_off_leaves_no_archive_without_its_checksum(bench, monkeypatch):
    facts = made(bench)
    catalog = LocalCatalog(bench.application, bench.ports.clock)
    real, removed = Path.unlink, []

    class CutOff(BaseException):
        pass

    def once(self, missing_ok=False):
        if removed:
            raise CutOff
        removed.append(self.name)
        real(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch, pytest.raises(CutOff):
        patch.setattr(Path, "unlink", once)
        catalog.remove(catalog.find(facts["name"]))
    assert removed == [facts["name"]]
    assert catalog.list() == ()


OPERATIONS = {
    "backup": lambda bench, ports: backup(bench.application, ports),
    "prune": lambda bench, ports: prune(bench.application, ports, dry_run=False),
    "restore": lambda bench, ports: restore(bench.application, ports),
    "recover": lambda bench, ports: recover(bench.application, ports),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_hazard_b5_no_two_operations_overlap(bench, operation):
    made(bench)
    (bench.root / MODE).write_text("{}")
    state = Path(bench.application.application_state_dir)
    with (
        application_lock(state, operation="another", clock=SystemClock()),
        pytest.raises(LockBusyError, match="held by another"),
    ):
        OPERATIONS[operation](bench, hurried(bench))
    OPERATIONS[operation](bench, bench.ports)


# Space and places


def little_left(monkeypatch, what, where=""):
    """The filesystem of ``where`` says that it has hardly any bytes, or inodes, left."""
    honest = os.statvfs

    def asked(path):
        facts = honest(path)
        if not str(path).startswith(where):
            return facts
        few, many = (5, 1 << 30), (1 << 30, 5)
        blocks, inodes = few if what == "bytes" else many
        return SimpleNamespace(f_bavail=blocks, f_frsize=4096, f_files=1 << 20, f_favail=inodes, f_fsid=facts.f_fsid)

    monkeypatch.setattr(os, "statvfs", asked)


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_hazard_b6_space_is_looked_at_before_a_backup(bench, monkeypatch, what):
    bench.database().close()
    made(bench)
    before = sorted(os.listdir(bench.backups))
    steps = []
    little_left(monkeypatch, what)
    with pytest.raises(SpaceError, match="free" if what == "bytes" else "inodes"):
        backup(bench.application, bench.with_steps(steps.append))
    assert steps == []
    assert sorted(os.listdir(bench.backups)) == before


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_hazard_c5_space_is_looked_at_before_a_restore(bench, monkeypatch, what):
    made(bench)
    (bench.root / MODE).write_text("{}")
    before, steps = bench.snapshot(), []
    little_left(monkeypatch, what)
    with pytest.raises(SpaceError, match="beside the data" if what == "bytes" else "inodes"):
        restore(bench.application, bench.with_steps(steps.append))
    assert steps == []
    assert bench.snapshot() == before


def test_hazard_c5_a_safety_backup_that_does_not_fit_stops_a_restore_before_it_begins(bench, monkeypatch):
    bench.database(rows=5000).close()
    made(bench)
    (bench.root / MODE).write_text("{}")
    before, steps = bench.snapshot(), []
    little_left(monkeypatch, "bytes", where=str(bench.backups))
    with pytest.raises(SpaceError, match="safety backup"):
        restore(bench.application, bench.with_steps(steps.append))
    assert steps == []
    assert bench.snapshot() == before


def moved(application, directory):
    return dataclasses.replace(application, backup_dir=PurePosixPath(directory))


def test_hazard_b6_a_configured_backup_directory_inside_the_data_is_refused(bench):
    check_application(bench.application)
    with pytest.raises(ConfigurationError, match="inside component databases"):
        check_application(moved(bench.application, bench.root / "databases/backups"))


def test_hazard_b6_a_configured_backup_directory_around_the_data_is_refused(bench):
    for directory in (bench.root.parent, bench.root):
        with pytest.raises(ConfigurationError, match=r"outside the backup directory|around component"):
            check_application(moved(bench.application, directory))


# Restoring


def test_hazard_c1_an_archive_with_the_checksum_of_another_changes_nothing(bench):
    first = made(bench, name="first")
    (bench.root / MODE).write_text('{"mode": "prod"}')
    second = made(bench, name="second")
    shutil.copyfile(second["path"], first["path"])  # whole, and its manifest agrees: but it is not what was made then
    (bench.root / MODE).write_text('{"mode": "damaged"}')
    before = bench.snapshot()
    with pytest.raises(ArchiveError, match=r"not what its \.sha256 says"):
        restore(bench.application, bench.ports, reference=first["path"])
    assert bench.snapshot() == before
    assert verify(bench.application, bench.ports, reference=first["path"]).status == 1


def test_hazard_c1_a_database_with_other_rows_than_the_manifest_says_is_refused(bench):
    bench.database(rows=100).close()
    for rows, told in ((100, None), (101, "rows per table differ")):
        entry = Entry(FILLS, "file", kind="sqlite", facts={"tables": {"fills": rows}})
        if told is None:
            check_restored(entry, bench.root / FILLS, bench.ports)
        else:
            with pytest.raises(ArchiveError, match=told):
                check_restored(entry, bench.root / FILLS, bench.ports)


def test_hazard_c1_nothing_runs_over_a_restore_that_was_cut_off(bench):
    made(bench)
    (bench.root / MODE).write_text("{}")
    state = Path(bench.application.application_state_dir)
    Exchange.begin(state, operation="restore", replacements=[], stages=[], clock=SystemClock())
    with pytest.raises(TradekeepError, match="tradekeep recover"):
        backup(bench.application, bench.ports)
    with pytest.raises(TradekeepError, match="tradekeep recover"):
        restore(bench.application, bench.ports, dry_run=True)


def test_hazard_c2_a_restore_leaves_out_a_link_that_leads_out(bench):
    link = bench.root / "state/link.json"
    link.symlink_to("/etc/hostname")
    made(bench)
    (bench.root / MODE).write_text("{}")
    link.unlink()
    outcome = restore(bench.application, bench.ports)
    assert outcome.changed and outcome.record["links_left_out"] == ["state/link.json"]
    assert not os.path.lexists(link) and not restore(bench.application, bench.ports).changed


def test_hazard_c3_a_backup_knows_owners_by_name(bench):
    owners = {entry["owner"] for entry in manifest(made(bench)["path"]).values()}
    assert owners == {pwd.getpwuid(os.geteuid()).pw_name}


def test_hazard_c6_rows_in_the_wal_alone_are_a_difference(bench):
    bench.database(rows=10).close()
    made(bench)
    (bench.root / FILLS).write_bytes(b"")
    restore(bench.application, bench.ports)
    bot = sqlite3.connect(bench.root / FILLS)
    bot.execute("PRAGMA wal_autocheckpoint=0")
    main = (bench.root / FILLS).read_bytes()
    bench.add_rows(bot, 1)
    assert (bench.root / FILLS).read_bytes() == main, "the main file is the backup's, byte for byte"
    assert restore(bench.application, bench.ports, dry_run=True).changed
    bot.close()
