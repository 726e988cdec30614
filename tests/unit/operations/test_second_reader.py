# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A second process that captures a share of many small files: whatever becomes of it, the archive is the same."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Header
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.base import CaptureContext
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import backup as operation
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import (
    found,
    gather,
    listings,
    scan,
    second_reader,
    write_archive,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.assemble import assemble
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup_plan import request_backup, survey
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.second_reader import SecondReader
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.patterns import classifier

COUNT = 60
DIES = """
import os
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.found import Found
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.second_reader import SecondReader
directory = Found.of_directory("state", "/state")
second = SecondReader(None)
print(second.give(directory, ["a", "b"]), flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def sharing(monkeypatch):
    """Shares of a few files, and files that count as left alone for long."""
    monkeypatch.setattr(listings, "MINE", 4)
    monkeypatch.setattr(listings, "SHARE", 6)
    monkeypatch.setattr(listings, "may_change_unseen", lambda _changed: False)
    monkeypatch.setattr(gather, "settled_before", lambda: 1 << 62)
    for module in (container, second_reader):
        monkeypatch.setattr(module, "can_have_companion", lambda: True)


@pytest.fixture
def forked(monkeypatch):
    """The processes that were made by a fork."""
    real, processes = os.fork, []

    def fork():
        process = real()
        processes.append(process)
        return process

    monkeypatch.setattr(os, "fork", fork)
    yield processes
    assert processes


def is_gone(process):
    """Whether somebody has waited for the end of a process."""
    with pytest.raises(ChildProcessError):
        os.waitpid(process, os.WNOHANG)
    return True


@pytest.fixture
def orders(bench):
    """A directory with many small files."""
    directory = bench.root / "state" / "orders"
    directory.mkdir()
    for number in range(COUNT):
        (directory / f"{number:03d}.{'json' if number % 5 else 'txt'}").write_text(f'{{"n": {number}}}\n')
    return directory


class Sharing:
    """Backups of one application, with somebody else and without."""

    def __init__(self, bench):
        self.bench = bench
        self.shares = 0

    def alone(self):
        return self._archive(scan.scan(self.bench.application), gather.refuse_share)

    def shared(self, change=lambda _second: None):
        """The archive, after everything was looked at and then something was done."""
        application = self.bench.application
        with SecondReader(classifier(application.profile)) as second:
            kept = listings.Listings(application, sharing=second)
            self.looked = list(scan.shared_scan(application, kept))
            self.shares = sum(isinstance(thing, found.Share) for thing in self.looked)
            change(second)
            return self._archive(scan.shared_scan(application, kept), second.capture)

    def _archive(self, things, capture):
        stream = io.BytesIO()
        writer = ArchiveWriter(stream, Header("demo", "kalshi", "user_data", "2026-01-02T03:04:05Z"))
        context = CaptureContext(self.bench.base, self.bench.ports.clock)
        account = assemble(writer, things, context, self.bench.ports.progress, capture=capture)
        totals = writer.finish()
        return stream.getvalue(), totals, account


def test_it_makes_the_same_archive(bench, orders, forked):
    both = Sharing(bench)
    assert both.shared() == both.alone()
    assert both.shares == COUNT // 10
    assert all(map(is_gone, forked))


def test_a_backup_of_many_small_files_is_proven_as_any_other(bench, orders, monkeypatch, forked):
    monkeypatch.setattr(write_archive, "FOLLOWED_FILES", 0)
    real, captured = SecondReader.capture, []
    monkeypatch.setattr(SecondReader, "capture", lambda self, share: captured.append(share) or real(self, share))
    made = operation.backup(bench.application, bench.ports).record["backup"]
    assert len(captured) == COUNT // 10
    assert verify(bench.application, bench.ports, reference=made["name"], deep=True).status == 0
    assert all(map(is_gone, forked))


def test_hazard_a9_what_is_not_simple_is_captured_by_its_kind(bench, orders):
    (orders / "004.large").write_bytes(bytes(200_000))
    (orders / "014.link").symlink_to("001.json")
    os.mkfifo(orders / "024.fifo")
    bench.database("state/orders/034.db").close()
    (orders / "044.directory").mkdir()
    (orders / "044.directory" / "inside.txt").write_text("deep")
    both = Sharing(bench)
    archive = both.shared()
    assert archive == both.alone()
    assert 0 < both.shares < COUNT // 10
    assert any("024.fifo: a socket, FIFO or device" in text for text in archive[2].warnings)


@pytest.mark.parametrize("name", ["005 a\nb", os.fsdecode(b"005 \xff"), "005 ä"])
def test_odd_names_are_shared_too(bench, orders, name):
    (orders / name).write_text("odd")
    both = Sharing(bench)
    assert both.shared() == both.alone()
    assert both.shares


def test_hazard_a6_what_has_changed_since_it_was_looked_at_is_captured_as_it_is(bench, orders):
    def change(_second):
        (orders / "005.txt").write_text("rewritten, and longer")
        (orders / "006.json").write_text('{"n": 9}\n')

    both = Sharing(bench)
    archive = both.shared(change)
    assert both.shares == COUNT // 10
    assert archive == both.alone()
    assert b"rewritten, and longer" in archive[0]


def test_hazard_a6_what_comes_and_goes_after_the_look_is_not_missed(bench, orders, forked):
    def change(_second):
        (orders / "005.txt").unlink()
        (orders / "006.json").rename(orders / "006.moved")
        (orders / "007.json").unlink()
        (orders / "007.json").symlink_to("/etc/passwd")

    both = Sharing(bench)
    archive = both.shared(change)
    assert archive == both.alone()
    assert b"006.moved" in archive[0]
    assert all(map(is_gone, forked))


def test_hazard_a6_a_directory_that_changed_costs_only_its_own_shares(bench, orders):
    other = bench.root / "state" / "positions"
    other.mkdir()
    for number in range(20):
        (other / f"{number:03d}.txt").write_text(f"position {number}")
    both = Sharing(bench)
    archive = both.shared(lambda _second: (orders / "new.txt").write_text("new"))
    assert both.shares == COUNT // 10 + 2
    assert archive == both.alone()


def test_hazard_a6_nothing_is_missed_when_it_dies_after_it_has_looked(bench, orders, forked):
    both = Sharing(bench)
    archive = both.shared(lambda second: os.kill(second._companion._process, signal.SIGKILL))
    assert both.shares
    assert archive == both.alone()
    assert all(map(is_gone, forked))


@pytest.mark.parametrize("steps", [0, 1, 5, 7, 8])
def test_hazard_a6_nothing_is_missed_when_it_dies_while_it_works(bench, orders, monkeypatch, steps):
    real, left = second_reader._Side._write, [steps]

    def write(self, message):
        left[0] -= 1
        if left[0] < 0:
            os._exit(1)
        real(self, message)

    monkeypatch.setattr(second_reader._Side, "_write", write)
    both = Sharing(bench)
    archive = both.shared()
    monkeypatch.undo()
    assert archive == both.alone()


def test_it_ends_with_a_backup_that_is_killed():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # The other process holds the pipe as well: that this ends says that both did.
    done = subprocess.run([sys.executable, "-c", DIES], env=environment, stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b"True\n"


def test_there_is_no_second_process_to_be_had(bench, orders, monkeypatch):
    def refuse():
        raise BlockingIOError("too many processes")

    monkeypatch.setattr(os, "fork", refuse)
    both = Sharing(bench)
    assert both.shared() == both.alone()
    assert both.shares == 0


def test_a_backup_that_fails_leaves_nobody_behind(bench, orders, forked):
    def step(name):
        if name == "verify":
            raise OSError("enough")

    with pytest.raises(OSError, match="enough"):
        operation.backup(bench.application, bench.with_steps(step))
    assert all(map(is_gone, forked))


def test_what_a_share_holds_is_not_missing(bench, orders):
    request = request_backup(bench.application, bench.ports, "manual", None, None, None)
    both = Sharing(bench)
    both.shared()
    alone, shared = (
        survey(bench.application, things, request, list_paths=False)
        for things in (scan.scan(bench.application), both.looked)
    )
    assert shared == alone
    share = next(thing for thing in both.looked if isinstance(thing, found.Share))
    assert share.holds("state/orders/005.txt")
    assert not share.holds("state/orders/001.json")
    assert not share.holds("state/005.txt")
