# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The process that reads an archive back while it is written, and lines of a manifest that need no parsing."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import (
    comparison,
    container,
    follower,
    manifest,
    tar_headers,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.alike import Batch, Pattern
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import create_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ArchiveError
from ansible_collections.tradekeep.ops.tests.unit.archive.samples import MTIME, RUNNER, header, write_sample

DIES = """
import os, sys
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import create_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
with create_container(sys.argv[1], runner=SubprocessRunner(), follow=True) as made:
    made.stream.write(os.urandom(8 << 20))
    print(made._follower is not None, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Threads that other tests have left behind do not matter to these."""
    monkeypatch.setattr(container, "can_have_companion", lambda: True)


def write(path, **options):
    with create_container(path, runner=RUNNER, follow=True, **options) as made:
        totals = write_sample(ArchiveWriter(made.stream, header()))
    return made, totals


@pytest.mark.parametrize("engine", ["zlib", None])
def test_what_was_written_is_read_back(tmp_path, engine):
    made, totals = write(tmp_path / "a.tar.gz", engine=engine)
    assert made.followed == (made.sha256, totals.manifest_sha256, totals.entries, totals.bytes)


def told_of(**changes):
    """What is told of the sample's manifest."""
    told = []
    write_sample(ArchiveWriter(io.BytesIO(), header(**changes), told.append))
    return b"".join(told)


def write_and_tell(path, text, at_once=64):
    """The sample, and before it is written, whatever is told of its manifest."""
    with create_container(path, runner=RUNNER, follow=True) as made:
        for start in range(0, len(text), at_once):
            made.tell(text[start : start + at_once])
        totals = write_sample(ArchiveWriter(made.stream, header()))
    return made, totals


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 1])
@pytest.mark.parametrize("at_once", [64, 1 << 20])
def test_what_is_told_of_the_manifest_changes_nothing_in_what_is_found(tmp_path, share, at_once):
    text = told_of()
    made, totals = write_and_tell(tmp_path / "a.tar.gz", text[: int(len(text) * share)], at_once)
    assert made.followed == (made.sha256, totals.manifest_sha256, totals.entries, totals.bytes)


def test_entries_are_compared_with_the_lines_that_were_told(tmp_path, monkeypatch):
    def never(*_arguments):
        os._exit(1)

    monkeypatch.setattr(comparison, "ManifestReader", never)
    with create_container(tmp_path / "a.tar.gz", runner=RUNNER, follow=True) as made:
        write_sample(ArchiveWriter(made.stream, header(), made.tell))
    assert made.followed is not None


def write_batches(path, damage=lambda batch: batch, others=True):
    """Small files in batches, between others, told as they are written."""
    like = Pattern.of(Entry("", "file", mode=0o640, owner="trader", group="#0", kind="file", component="state"))
    with create_container(path, runner=RUNNER, follow=True) as made:
        writer = ArchiveWriter(made.stream, header(), made.tell)
        for number in range(60):
            batch = Batch("state")
            for name in range(number % 4):
                batch.add(like, f"state/{number}/{name}", MTIME + number, b"x" * number * 100)
            if batch.paths:
                writer.add_batch(damage(batch.sealed()))
            if others and number % 3 == 0:
                writer.add_content(
                    Entry(f"state/{number}.log", "file", 4, 0o640, "trader", "#0", MTIME, kind="file"), b"line"
                )
        totals = writer.finish()
    return made, totals


def test_batches_between_other_files_are_read_back(tmp_path):
    made, totals = write_batches(tmp_path / "a.tar.gz")
    assert made.followed == (made.sha256, totals.manifest_sha256, totals.entries, totals.bytes)


def test_batches_are_recognized_by_their_digest(tmp_path, monkeypatch):
    def never(*_arguments):
        os._exit(1)

    monkeypatch.setattr(tar_headers.HeaderPattern, "read", never)
    made, totals = write_batches(tmp_path / "a.tar.gz", others=False)
    assert made.followed == (made.sha256, totals.manifest_sha256, totals.entries, totals.bytes)


def test_hazard_b1_a_batch_that_is_not_what_was_captured_is_not_confirmed(tmp_path):
    def damaged(batch):
        return batch._replace(data=batch.data[:-1] + b"!") if "state/33/0" in batch.paths else batch

    made, _totals = write_batches(tmp_path / "a.tar.gz", damaged)
    assert made.followed is None


def test_hazard_b1_the_manifest_on_the_disk_must_be_the_one_that_was_told(tmp_path):
    made, _totals = write_and_tell(tmp_path / "a.tar.gz", told_of(host="another"))
    assert made.followed is None


def test_hazard_b1_an_archive_that_differs_from_its_own_manifest_is_not_confirmed(tmp_path, monkeypatch):
    real = manifest.entry_line
    monkeypatch.setattr(
        manifest, "entry_line", lambda *arguments: real(*arguments).replace('"mode":"0640"', '"mode":"0600"')
    )
    with create_container(tmp_path / "a.tar.gz", runner=RUNNER, follow=True) as made:
        write_sample(ArchiveWriter(made.stream, header(), made.tell))
    assert made.followed is None


def test_text_that_is_no_manifest_changes_nothing_in_what_is_found(tmp_path):
    made, totals = write_and_tell(tmp_path / "a.tar.gz", b"no manifest\n" * 100_000, 1 << 20)
    assert made.followed == (made.sha256, totals.manifest_sha256, totals.entries, totals.bytes)


def test_hazard_b1_lines_that_are_not_those_of_the_entries_are_not_confirmed(tmp_path):
    made, _totals = write_and_tell(tmp_path / "a.tar.gz", told_of().replace(b'"mode":"0640"', b'"mode":"0600"'))
    assert made.followed is None


def test_nobody_follows_where_it_cannot_be_done(tmp_path, monkeypatch):
    def refuse():
        raise BlockingIOError("too many processes")

    opened = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "fork", refuse)
    assert write(tmp_path / "a.tar.gz")[0].followed is None
    monkeypatch.setattr(container, "can_have_companion", lambda: False)
    assert write(tmp_path / "b.tar.gz")[0].followed is None
    assert os.listdir("/proc/self/fd") == opened


def test_hazard_b1_what_reaches_the_disk_wrong_is_not_confirmed(tmp_path, monkeypatch):
    real = os.write

    def disk(descriptor, data):
        wrong = bytes(data)
        if len(wrong) > 1000 and stat.S_ISREG(os.fstat(descriptor).st_mode):
            wrong = wrong[:500] + bytes([wrong[500] ^ 1]) + wrong[501:]
        return real(descriptor, wrong)

    monkeypatch.setattr(os, "write", disk)
    made, _totals = write(tmp_path / "a.tar.gz", engine="zlib")
    assert made.followed is None


def test_a_follower_that_dies_confirms_nothing_and_disturbs_nothing(tmp_path):
    with create_container(tmp_path / "a.tar.gz", runner=RUNNER, follow=True) as made:
        os.kill(made._follower._companion._process, signal.SIGKILL)
        write_sample(ArchiveWriter(made.stream, header()))
    assert made.followed is None
    assert made.size == (tmp_path / "a.tar.gz").stat().st_size


def test_a_writer_that_gives_up_leaves_nobody_behind(tmp_path):
    with pytest.raises(ArchiveError), create_container(tmp_path / "a.tar.gz", runner=RUNNER, follow=True) as made:
        process = made._follower._companion._process
        raise ArchiveError("enough")
    with pytest.raises(ChildProcessError):
        os.waitpid(process, 0)
    assert not list(tmp_path.iterdir())


def test_a_writer_that_is_killed_leaves_nobody_behind(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", DIES, str(tmp_path / "a.tar.gz")]
    # The other process holds the pipe as well: that this ends says that both did.
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b"True\n"


def test_nothing_of_the_writer_stays_open_in_the_other_process(tmp_path, monkeypatch):
    told = tmp_path / "told"
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)

    def tell(path, runner, news):
        told.write_text("\n".join(str(Path(f"/proc/self/fd/{name}").resolve()) for name in os.listdir("/proc/self/fd")))
        raise EOFError

    monkeypatch.setattr(follower, "_read", tell)
    write(tmp_path / "a.tar.gz")
    os.close(lock)
    assert "pipe" in told.read_text()
    assert str(tmp_path / "lock") not in told.read_text()
