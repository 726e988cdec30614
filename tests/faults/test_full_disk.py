# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""HAZARDS B6: disks that are full, or fill up half way, in bytes and in inodes. Nothing is lost, nothing is left."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import operations_bench as bench
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import SpaceError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.faults import foreseen
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import pending

needs_strace = pytest.mark.skipif(bench.STRACE is None, reason="strace is not installed")
Operation = Callable[..., Any]


@contextmanager
def small_disk(place: Path, *, megabytes: int, inodes: int = 4096) -> Iterator[Path]:
    """A filesystem of its own, mounted there."""
    image = place.with_name(f"{place.name}.image")
    place.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as stream:
        stream.truncate(megabytes << 20)
    make = ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-N", str(inodes), str(image)]
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 (e2fsprogs) is not installed")
    subprocess.run(make, check=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no loop device can be mounted here: {mounted.stderr.strip()}")
    (place / "lost+found").rmdir()
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def leave_free(place: Path, free: int) -> None:
    """Fill the filesystem but for so many bytes."""
    facts = os.statvfs(place)
    slack = 128 << 10  # for what the filesystem needs to describe the filler
    with (place / "filler").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        os.posix_fallocate(stream.fileno(), 0, max(1, facts.f_bavail * facts.f_frsize - free - slack))
        stream.seek(0, os.SEEK_END)
        while os.statvfs(place).f_bavail * facts.f_frsize > free:
            stream.write(bytes(4096))


def leave_inodes(place: Path, free: int) -> None:
    fillers = place / "fillers"
    fillers.mkdir()
    for number in range(os.statvfs(place).f_favail - free):
        (fillers / str(number)).touch()


def noise(base: Path, megabytes: int) -> None:
    """Data that does not compress."""
    (base / "data/preferences/noise").write_bytes(os.urandom(megabytes << 20))


def tried(base: Path, operation: Operation, ports: Any = None, **options: Any) -> bool:
    """Whether it worked. When it did not: a full disk is the reason, and everything is as it was.

    A backup that is whole, but whose link or record did not fit any more, has worked.
    """
    before, backups = bench.content(base / "data"), bench.names(base / "backups")
    try:
        operation(bench.application_in(base), ports or bench.ports(), **options)
    except Exception as error:
        known = foreseen(error)
        assert isinstance(known, SpaceError), error
        assert int(known.exit_status) == 3
        assert bench.content(base / "data") == before
        assert bench.names(base / "backups") == backups
        worked = False
    else:
        worked = True
    assert bench.own_leftovers(base) == []
    assert pending(base / "state" / "kalshi") is None
    bench.check_backups(base)
    return worked


@pytest.mark.root
@pytest.mark.parametrize("blind", [False, True], ids=["checked before", "full half way"])
def test_hazard_b6_a_backup_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind: bool) -> None:
    base = tmp_path / "base"
    with small_disk(base / "backups", megabytes=16):
        (base / "backups").chmod(0o700)
        writer = bench.installation(base)
        noise(base, 3)
        if blind:  # the space was there when it was looked at, and another program took it
            module = sys.modules[backup.__module__]
            monkeypatch.setattr(module, "check_space", lambda plan, scratch: None)
        worked = []
        for free in (0, 200_000, 1_000_000, 2_500_000, 3_100_000, 12_000_000):
            leave_free(base / "backups", free)
            worked.append(tried(base, backup, name=f"with-{free}"))
            (base / "backups" / "filler").unlink(missing_ok=True)
        writer.close()
    assert worked[0] is worked[1] is worked[2] is worked[3] is False
    assert worked[-1] is True


@pytest.mark.root
def test_hazard_b6_a_backup_without_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    with small_disk(base / "backups", megabytes=16, inodes=128):
        (base / "backups").chmod(0o700)
        writer = bench.installation(base)
        leave_inodes(base / "backups", 8)
        assert not tried(base, backup, name="few")
        monkeypatch.setattr(sys.modules[backup.__module__], "check_space", lambda plan, scratch: None)
        for free in range(8):
            shutil.rmtree(base / "backups" / "fillers")
            leave_inodes(base / "backups", free)
            if tried(base, backup, name=f"with-{free}"):
                break
        assert free > 2
        writer.close()


@pytest.mark.root
@pytest.mark.parametrize("blind", [False, True], ids=["checked before", "full half way"])
def test_hazard_c5_a_restore_into_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind: bool) -> None:
    base = tmp_path / "base"
    with small_disk(base / "data", megabytes=24):
        writer = bench.installation(base, name=None)
        noise(base, 3)
        backup(bench.application_in(base), bench.ports(), name="first")
        noise(base, 2)
        bench.changed_since(base, writer)
        writer.close()
        if blind:
            monkeypatch.setattr(sys.modules[restore.__module__], "_check_space", lambda run: None)
        worked = []
        for free in (0, 100_000, 1_000_000, 2_500_000, 9_000_000):
            leave_free(base / "data", free)
            worked.append(tried(base, restore, reference="first"))
            (base / "data" / "filler").unlink(missing_ok=True)
    assert worked[:4] == [False] * 4
    assert worked[-1] is True


@pytest.mark.root
def test_hazard_c5_a_restore_without_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    with small_disk(base / "data", megabytes=16, inodes=128):
        writer = bench.installation(base)
        bench.changed_since(base, writer)
        writer.close()
        leave_inodes(base / "data", 10)
        assert not tried(base, restore, reference="first")
        monkeypatch.setattr(sys.modules[restore.__module__], "_check_space", lambda run: None)
        for free in range(16):
            shutil.rmtree(base / "data" / "fillers")
            leave_inodes(base / "data", free)
            if tried(base, restore, reference="first"):
                break
        assert free > 3


def test_a_safety_backup_that_does_not_fit_stops_a_restore_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    writer = bench.installation(base)
    bench.changed_since(base, writer)
    writer.close()
    module = sys.modules["ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.safety"]
    honest = module.space
    monkeypatch.setattr(module, "space", lambda path: dataclasses.replace(honest(path), bytes_free=10))
    assert not tried(base, restore, reference="first")


# Anywhere: the system call says that the disk is full


@needs_strace
@pytest.mark.parametrize("call", ["fsync", "mkdir", "linkat", "renameat"])
def test_hazard_b6_a_backup_whose_disk_fills_up_at_any_call(tmp_path: Path, call: str) -> None:
    template = tmp_path / "template"
    bench.installation(template).close()
    counted = bench.copy_of(template, tmp_path / "count")
    calls = bench.calls_of(counted, "backup", most={call: 7}, options={"name": "second"})

    def case(item: tuple[str, int]) -> int:
        base = bench.copy_of(template, tmp_path / f"{item[0]}-{item[1]}")
        inject = f"{item[0]}:error=ENOSPC:when={item[1]}+"
        done = bench.drive(base, "backup", inject=inject, options={"name": "second"})
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in (0, 1, 3), done.stderr
        assert bench.content(base / "data") == bench.content(template / "data")
        # Failed means that there is nothing new; there is no backup that nobody was told of.
        assert (len(bench.archives(base)) == len(bench.archives(template))) == (done.returncode == 3)
        if done.returncode == 1:
            assert "but: " in json.loads(done.stdout)["warnings"][0]
        bench.check_backups(base)
        backup(bench.application_in(base), bench.ports(), name="third")
        assert bench.own_leftovers(base) == []
        return done.returncode

    statuses = bench.at_once(case, calls)
    # What is renamed comes after the backup has its name: the records.
    assert 3 in statuses or call == "renameat"


@needs_strace
@pytest.mark.parametrize("how", ["gzip", "zstd", "encrypted"])
def test_hazard_b6_a_backup_of_which_no_write_succeeds(tmp_path: Path, how: str) -> None:
    base = tmp_path / "base"
    bench.installation(base).close()
    passphrase = tmp_path / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text("correct horse\n")
    settings: dict[str, dict[str, Any]] = {
        "gzip": {},
        "zstd": {"profile": {"extends": "kalshi", "compression": "zstd"}},
        "encrypted": {"passphrase_file": str(passphrase)},
    }
    options = {"name": "second", "encrypt": how == "encrypted" or None}
    before, backups = bench.content(base / "data"), bench.names(base / "backups")
    # Of the filter programs' writes too; what hangs runs into the time limit of the driver.
    done = bench.drive(base, "backup", inject="write:error=ENOSPC:when=1+", options=options, settings=settings[how])
    assert done.returncode == 3
    assert bench.content(base / "data") == before
    assert bench.names(base / "backups") == backups
    assert backup(bench.application_in(base, **settings[how]), bench.ports(), **options).changed
    assert bench.own_leftovers(base) == []


@needs_strace
@pytest.mark.parametrize("call", ["pwrite64", "mkdir", "renameat"])
def test_hazard_c5_a_restore_whose_disk_fills_up_at_any_call(tmp_path: Path, call: str) -> None:
    template = tmp_path / "template"
    writer = bench.installation(template)
    new = bench.content(template / "data")
    bench.changed_since(template, writer)
    writer.close()
    old = bench.content(template / "data")
    counted = bench.copy_of(template, tmp_path / "count")
    calls = bench.calls_of(counted, "restore", most={call: 7})

    def case(item: tuple[str, int]) -> int:
        base = bench.copy_of(template, tmp_path / f"{item[0]}-{item[1]}")
        done = bench.drive(base, "restore", inject=f"{item[0]}:error=ENOSPC:when={item[1]}+")
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in (0, 3, 4), done.stderr
        if done.returncode == 3:
            assert bench.content(base / "data") == old
        elif done.returncode == 4:
            assert "tradekeep recover" in done.stderr
        recover(bench.application_in(base), bench.ports())
        assert bench.content(base / "data") in (old, new)
        assert bench.own_leftovers(base) == []
        assert pending(base / "state" / "kalshi") is None
        bench.check_backups(base)
        return done.returncode

    statuses = bench.at_once(case, calls)
    assert set(statuses) & {3, 4}
