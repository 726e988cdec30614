# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The copies with which databases are compared become what the files are, and are taken for nothing else."""

from __future__ import annotations

import mmap
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.base import CaptureContext
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.reading import signature_of
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.blocks import PAGE
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.channel import Channel
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.copies import bring_near, patch
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.shipping import Shipping, Stand
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from hypothesis import given, settings
from hypothesis import strategies as st
from operations_handover.servers import FILLS, Server

PAGES = st.integers(0, 300)
"""More than one span of a comparison."""


@settings(max_examples=60, deadline=None)
@given(
    pages=PAGES,
    tail=st.integers(0, PAGE - 1),
    before=PAGES,
    changed=st.sets(st.tuples(st.integers(0, 299), st.integers(0, PAGE - 1)), max_size=20),
)
def test_a_copy_becomes_the_file_and_exactly_what_differed_is_told(
    tmp_path_factory: pytest.TempPathFactory, pages: int, tail: int, before: int, changed: set[tuple[int, int]]
) -> None:
    """Changed anywhere, grown or shrunk to any size."""
    top = tmp_path_factory.mktemp("copies")
    content = bytes(range(1, 251)) * (300 * PAGE // 250 + 1)
    now = bytearray(content[: pages * PAGE + tail])
    old = content[: before * PAGE]
    for page, at in changed:
        if page * PAGE + at < len(now):
            now[page * PAGE + at] = 0
    live, copy = top / "live", top / "copy"
    live.write_bytes(now)
    copy.write_bytes(old)
    there = old[: len(now)].ljust(len(now), b"\0")
    starts = [start for start in range(0, len(now), PAGE) if now[start : start + PAGE] != there[start : start + PAGE]]
    wanted = {start: len(now[start : start + PAGE]) for start in starts}
    assert patch(live, copy) == wanted
    assert copy.read_bytes() == now
    assert patch(live, copy) == {}


def by_write(live: Path) -> None:
    with open(live, "r+b", buffering=0) as stream:
        stream.write(b"y")


def by_write_and_time(live: Path) -> None:
    status = live.stat()
    by_write(live)
    os.utime(live, ns=(status.st_atime_ns, status.st_mtime_ns))


def by_another_file(live: Path) -> None:
    status = live.stat()
    other = live.with_name("other")
    other.write_bytes(b"y" * status.st_size)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(live)


@pytest.mark.parametrize("write", [by_write, by_write_and_time, by_another_file])
def test_a_file_that_was_written_is_not_the_one_that_was_read(tmp_path: Path, write: Callable[[Path], None]) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    live.write_bytes(b"x" * 3 * PAGE)
    copy.write_bytes(b"")
    _changed, file = bring_near(live, copy, CaptureContext(scratch=tmp_path, clock=SystemClock()))
    assert file is not None and file == signature_of(os.lstat(live))
    write(live)
    assert signature_of(os.lstat(live)) != file


def test_hazard_e4_what_is_written_through_a_mapping_shows_too(tmp_path: Path) -> None:
    """A page that was written before, and is in memory only, is no page to which writes go unseen."""
    if not stamps_mappings(tmp_path / "probe"):
        pytest.skip("this filesystem gives no time to what is written through a mapping, as tmpfs does not")
    live, copy = tmp_path / "live", tmp_path / "copy"
    live.write_bytes(b"x" * 3 * PAGE)
    with open(live, "r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        mapped[0] = 1
        _changed, file = bring_near(live, copy_of(live, copy), CaptureContext(scratch=tmp_path, clock=SystemClock()))
        assert file is not None
        mapped[0] = 2
        assert signature_of(os.lstat(live)) != file


def stamps_mappings(probe: Path) -> bool:
    """Whether a write through a mapping shows at all here."""
    probe.write_bytes(b"x" * PAGE)
    os.utime(probe, ns=(1, 1))
    with open(probe, "r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        mapped[0] = 1
        return probe.stat().st_mtime_ns != 1


def copy_of(live: Path, copy: Path) -> Path:
    copy.write_bytes(live.read_bytes())
    return copy


@pytest.fixture
def source(tmp_path: Path) -> Iterator[tuple[Server, Callable[[], Shipping]]]:
    """A server, and what ships its data to nowhere."""
    server = Server(tmp_path / "old")
    writer, (reader, other) = os.open(os.devnull, os.O_WRONLY), os.pipe()
    channel = Channel(reader, writer)
    made: list[Shipping] = []

    def shipping() -> Shipping:
        scratch = tmp_path / f"scratch-{len(made)}"
        scratch.mkdir()
        ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())
        made.append(Shipping(server.application, ports, channel, scratch))
        return made[-1]

    yield server, shipping
    for item in made:
        item.close()
    channel.close()
    for descriptor in (reader, other, writer):
        os.close(descriptor)


def bot(server: Server) -> sqlite3.Connection:
    path = server.root / FILLS
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma wal_autocheckpoint=0")
    connection.execute("create table if not exists fills (id integer primary key, text text)")
    trade(connection, 500)
    connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    return connection


def trade(connection: sqlite3.Connection, rows: int) -> None:
    connection.executemany("insert into fills (text) values (?)", [("x" * 500,) for _ in range(rows)])


def fills(connection: sqlite3.Connection) -> list[Any]:
    return connection.execute("select id, text from fills").fetchall()


def copied(shipping: Shipping) -> list[Any]:
    """What is in the copy, which is what was sent."""
    (copy,) = shipping.scratch.glob("copy-*")
    connection = sqlite3.connect(copy)
    try:
        return fills(connection)
    finally:
        connection.close()


@pytest.mark.parametrize("checkpoint", [False, True], ids=["WAL alone", "checkpoint"])
def test_hazard_e4_what_was_written_after_the_last_round_is_brought(
    source: tuple[Server, Callable[[], Shipping]], checkpoint: bool
) -> None:
    """Into the WAL alone, or into a file whose time of modification is as before."""
    server, made = source
    connection = bot(server)
    shipping = made()
    shipping.round(Stand.AT_WORK)
    trade(connection, 100)
    shipping.round(Stand.ALMOST)
    status = (server.root / FILLS).stat()
    connection.execute("update fills set text = 'changed' where id % 3 = 0")
    if checkpoint:
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        os.utime(server.root / FILLS, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert shipping.round(Stand.AT_REST).bytes > 0
    assert shipping.holds()["databases"] == {FILLS: {"fills": 600}}
    assert copied(shipping) == fills(connection)
    connection.close()


def test_what_nobody_has_written_since_is_not_read_again(source: tuple[Server, Callable[[], Shipping]]) -> None:
    """Only what the WAL holds is sent."""
    server, made = source
    connection = bot(server)
    shipping = made()
    shipping.round(Stand.AT_WORK)
    trade(connection, 3)
    connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    assert shipping.round(Stand.ALMOST).bytes > 0
    # Seen only by whoever compares: the copy is no longer what it was made.
    (copy,) = shipping.scratch.glob("copy-*")
    with open(copy, "r+b", buffering=0) as stream:
        stream.seek(PAGE)
        stream.write(b"\xff")
    assert shipping.round(Stand.AT_REST).bytes == 0
    connection.close()
