# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a backup does differently when there is much to do: another process reads back, directories are listed once."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ArchiveError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import backup as operation
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import prove
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify

LONG_AGO = 1_700_000_000


@pytest.fixture
def large(monkeypatch):
    """Any backup counts as a large one."""
    monkeypatch.setattr(operation, "FOLLOWED_FILES", 0)
    monkeypatch.setattr(container, "can_have_companion", lambda: True)


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
    monkeypatch.setattr(operation, "check_space", lambda plan: (real(plan), change()))


def settle(directory):
    """As if nothing in there had changed for long, so that its listing is kept; the kernel stamps the rest."""
    for path in directory.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    os.utime(directory, (LONG_AGO, LONG_AGO))


def test_hazard_a6_what_changes_between_listing_and_reading_is_not_missed(bench, monkeypatch):
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


def test_hazard_a6_a_document_rewritten_in_place_after_the_listing_is_read_as_it_is_now(bench, monkeypatch):
    document = bench.root / "state" / "x.json"
    document.write_text('{"n": 1}')
    settle(document.parent)
    between(monkeypatch, lambda: document.write_text('{"n": 22}'))
    found = contents(operation.backup(bench.application, bench.ports).record["backup"])
    assert b'{"n": 22}' in found
    assert b'{"n": 1}' not in found


def test_hazard_a9_a_fifo_in_place_of_a_listed_file_is_left_out(bench, monkeypatch):
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
