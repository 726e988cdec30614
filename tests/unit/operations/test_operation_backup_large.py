# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a backup does differently when there is much to do: another process reads back, directories are listed once."""

from __future__ import annotations

import io
import os
import subprocess

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Header
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ArchiveError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import json_document
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.base import CaptureContext
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import backup as operation
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import gather, prove, write_archive
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.assemble import assemble
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.scan import gathered_scan
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify

LONG_AGO = 1_700_000_000


@pytest.fixture
def large(monkeypatch):
    """Any backup counts as a large one."""
    monkeypatch.setattr(write_archive, "FOLLOWED_FILES", 0)
    monkeypatch.setattr(container, "can_have_companion", lambda: True)


@pytest.fixture(params=["just now", "long ago"])
def changed(request, monkeypatch):
    """When the files were last changed: what was changed long ago is captured the short way, if it is small."""
    if request.param == "long ago":
        monkeypatch.setattr(gather, "settled_before", lambda: 1 << 62)


def contents(facts):
    done = subprocess.run(["tar", "-xzOf", facts["path"], "--wildcards", "state/*"], capture_output=True, check=True)
    return done.stdout


def test_a_large_archive_is_proven_by_the_time_it_is_whole(bench, large, monkeypatch):
    bench.database().close()

    def never(*_arguments, **_options):
        raise AssertionError("read once more")

    monkeypatch.setattr(prove, "open_container", never)
    made = operation.backup(bench.application, bench.ports).record["backup"]
    monkeypatch.undo()
    assert verify(bench.application, bench.ports, reference=made["name"], deep=True).status == 0


def test_hazard_b1_a_large_archive_that_the_disk_gives_back_wrong_gets_no_name(bench, large):
    def step(name):
        if name == "verify":
            (temporary,) = bench.backups.glob(".tradekeep-*.part")
            content = bytearray(temporary.read_bytes())
            content[len(content) // 2] ^= 1
            temporary.write_bytes(content)

    with pytest.raises(ArchiveError, match="not what was written"):
        operation.backup(bench.application, bench.with_steps(step))
    assert os.listdir(bench.backups) == []


def test_hazard_b1_what_was_read_back_must_be_what_lies_on_the_disk(bench, large, monkeypatch):
    real = container.Follower.finish
    monkeypatch.setattr(container.Follower, "finish", lambda self: real(self)._replace(sha256="0" * 64))
    with pytest.raises(ArchiveError, match="not what was written"):
        operation.backup(bench.application, bench.ports)
    assert os.listdir(bench.backups) == []


def test_hazard_b1_a_large_archive_with_another_manifest_gets_no_name(bench, large, monkeypatch):
    real = container.Follower.finish
    monkeypatch.setattr(container.Follower, "finish", lambda self: real(self)._replace(manifest_sha256="0" * 64))
    with pytest.raises(ArchiveError, match="manifest"):
        operation.backup(bench.application, bench.ports)


def between(monkeypatch, change):
    """Do something after everything was listed, before anything is captured."""
    real = operation.check_space
    monkeypatch.setattr(operation, "check_space", lambda plan, scratch: (real(plan, scratch), change()))


def settle(directory):
    """As if nothing in there had changed for long, so that its listing is kept; the kernel stamps the rest."""
    for path in directory.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    os.utime(directory, (LONG_AGO, LONG_AGO))


def assembled(bench, monkeypatch, long_ago, copy_first=frozenset()):
    """The archive's bytes, and what is said of them."""
    monkeypatch.setattr(gather, "settled_before", lambda: 1 << 62 if long_ago else 0)
    stream = io.BytesIO()
    writer = ArchiveWriter(stream, Header("demo", "kalshi", "user_data", "2026-01-02T03:04:05Z"))
    context = CaptureContext(bench.base, bench.ports.clock)
    account = assemble(writer, gathered_scan(bench.application), context, bench.ports.progress, copy_first=copy_first)
    totals = writer.finish()
    return stream.getvalue(), totals, account


def test_the_short_way_makes_the_same_archive(bench, monkeypatch):
    bench.database().close()
    for number in range(40):
        directory = bench.root / "state" / f"{number % 7}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number}.txt").write_text("x" * number * 100)
        (directory / f"{number}.json").write_text("{}" if number % 3 else '{"torn": ')
        (directory / f"{number}.log").write_text("a line\n")
        (directory / f"{number}.txt").chmod(0o600 if number % 2 else 0o4640)
        os.utime(directory / f"{number}.json", (LONG_AGO - number * 2**31, LONG_AGO - number * 2**31))
    (bench.root / "state" / "schön.txt").write_text("ü")
    (bench.root / "state" / "large.txt").write_bytes(bytes(200_000))
    (bench.root / "state" / "0" / "link.txt").symlink_to("0.txt")
    os.mkfifo(bench.root / "state" / "0" / "fifo.txt")
    is_settled_always(monkeypatch)
    assert assembled(bench, monkeypatch, True) == assembled(bench, monkeypatch, False)
    assert assembled(bench, monkeypatch, True, frozenset({"state/1/1.txt"})) == assembled(bench, monkeypatch, True)


def is_settled_always(monkeypatch):
    """A torn document counts as left alone at once, so that nobody waits for the rest of it."""
    monkeypatch.setattr(json_document, "is_settled", lambda _changed: True)


def test_hazard_a6_what_changes_between_listing_and_reading_is_not_missed(bench, changed, monkeypatch):
    state = bench.root / "state"
    (state / "a.log").write_text("old line\n")
    (state / "b.txt").write_text("before")
    (state / "c.txt").write_text("to be removed")
    settle(state)

    def change():
        (state / "a.log").rename(state / "a.log.1")
        (state / "a.log").write_text("new line\n")
        (state / "b.txt").write_text("after it")
        (state / "c.txt").unlink()

    between(monkeypatch, change)
    found = contents(operation.backup(bench.application, bench.ports).record["backup"])
    assert b"old line\n" in found
    assert b"new line\n" in found
    assert b"after it" in found
    assert b"before" not in found


def test_hazard_a6_a_document_rewritten_in_place_after_the_listing_is_read_as_it_is_now(bench, changed, monkeypatch):
    document = bench.root / "state" / "x.json"
    document.write_text('{"n": 1}')
    settle(document.parent)
    between(monkeypatch, lambda: document.write_text('{"n": 22}'))
    found = contents(operation.backup(bench.application, bench.ports).record["backup"])
    assert b'{"n": 22}' in found
    assert b'{"n": 1}' not in found


def test_hazard_a9_a_fifo_in_place_of_a_listed_file_is_left_out(bench, changed, monkeypatch):
    path = bench.root / "state" / "x.txt"
    path.write_text("content")
    settle(path.parent)
    status = os.lstat(path.parent)

    def change():
        path.unlink()
        os.mkfifo(path)
        os.utime(path.parent, ns=(status.st_atime_ns, status.st_mtime_ns))

    between(monkeypatch, change)
    outcome = operation.backup(bench.application, bench.ports)
    assert any("x.txt: a socket, FIFO or device" in text for text in outcome.record["warnings"])
