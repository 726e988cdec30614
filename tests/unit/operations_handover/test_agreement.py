# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Both servers must hold the same before either is let go: contents by digest, databases by their rows."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry, entry_line
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.agreeing import compare_holds
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.at_rest import (
    bring_in_wal,
    rows_of,
    wal_pages,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.blocks import (
    BLOCK,
    PAGE,
    Digests,
    Touched,
    changed_pages,
    digests_of,
    refresh,
    resized_blocks,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.channel import Channel
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.receiving import Receiving
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from operations_handover.servers import FILLS, Server


def database(path: Path, rows: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("create table fills (id integer primary key)")
    connection.executemany("insert into fills values (?)", [(number,) for number in range(rows)])
    connection.commit()
    connection.close()
    return path


def frame(message: dict[str, Any] | tuple[int, bytes]) -> bytes:
    if isinstance(message, tuple):
        body, kind = struct.pack(">Q", message[0]) + message[1], b"B"
    else:
        body, kind = json.dumps(message).encode(), b"J"
    return struct.pack(">cI", kind, len(body)) + body


@pytest.mark.parametrize("lie", ["", "rows", "digest", "files", "no rows"])
def test_hazard_e4_both_must_hold_the_same(tmp_path: Path, lie: str) -> None:
    server = Server(tmp_path / "new")
    content = database(tmp_path / "fills.db", 20).read_bytes()
    digests = Digests()
    digests.resize(len(content))
    digests.differs(0, content)
    reader, source = os.pipe()
    _nowhere, writer = os.pipe()
    channel = Channel(reader, writer)
    receiving = Receiving(server.application, Ports(SubprocessRunner(), SystemClock(), NoProgress()))
    entry = Entry(FILLS, "file", len(content), 0o600, "", "", 1)
    for message in ({"entry": entry_line(entry)}, (0, content), {"end": digests.tree()}, {"round": {}}):
        os.write(source, frame(message))
    receiving.receive(channel, "round")
    arrived = receiving.entry(FILLS)
    assert arrived is not None
    receiving.replace(arrived._replace(facts={"tables": rows_of(Path(receiving.place_of(FILLS)))}))
    holds = receiving.contents()
    if lie in ("digest", "files"):
        holds[lie] = "0" * 64 if lie == "digest" else 2
    if lie != "no rows":
        os.write(source, frame({"database": FILLS, "tables": {"fills": 19 if lie == "rows" else 20}}))
    os.write(source, frame({"holds": holds}))
    if lie:
        with pytest.raises(TradekeepError, match=r"not what the source holds|other rows than on the source"):
            compare_holds(channel, receiving)
    else:
        assert compare_holds(channel, receiving)["databases"] == {FILLS: {"fills": 20}}
    channel.close()


def test_hazard_e4_what_a_killed_bot_left_in_its_wal_is_brought_too(tmp_path: Path) -> None:
    """Page by page: the copy that was sent, what changed in the file since, and what is in the WAL alone."""
    live = tmp_path / "live.db"
    writer = sqlite3.connect(live)
    writer.execute("pragma journal_mode=wal")
    writer.execute("create table fills (id integer primary key, text text)")
    writer.executemany("insert into fills (text) values (?)", [("x" * 300,) for _ in range(2000)])
    writer.commit()
    writer.execute("pragma wal_checkpoint(truncate)").fetchall()
    copy, theirs = tmp_path / "copy.db", tmp_path / "theirs.db"
    for path in (copy, theirs):
        path.write_bytes(live.read_bytes())
    writer.execute("update fills set text = 'changed' where id % 500 = 0")
    writer.executemany("insert into fills (text) values (?)", [("y" * 300,) for _ in range(700)])
    writer.commit()
    with open(live, "rb") as source, open(copy, "r+b") as target:
        size = os.fstat(source.fileno()).st_size
        changed = dict(changed_pages(source.fileno(), target.fileno(), size))
        for offset, data in changed.items():
            os.pwrite(target.fileno(), data, offset)
    pages = wal_pages(tmp_path / "live.db-wal")
    bring_in_wal(tmp_path / "live.db-wal", copy)
    assert rows_of(copy) == {"fills": 2700}
    # What is sent are those pages; with them the other side has the same bytes.
    with open(copy, "rb") as ours, open(theirs, "r+b") as other:
        os.ftruncate(other.fileno(), os.fstat(ours.fileno()).st_size)
        sent = sorted({*changed, *pages})
        for offset in sent:
            os.pwrite(other.fileno(), os.pread(ours.fileno(), PAGE, offset), offset)
    assert theirs.read_bytes() == copy.read_bytes()
    assert len(sent) * PAGE < copy.stat().st_size / 2
    writer.close()


def test_digests_follow_a_file_that_grows_and_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * BLOCK + 100))
    with open(path, "r+b", buffering=0) as stream:
        digests = digests_of(stream.fileno())
        for size in (3 * BLOCK + 4000, 5 * BLOCK, 2 * BLOCK, 2 * BLOCK - 7, 0, 10):
            before = digests.size
            os.ftruncate(stream.fileno(), size)
            digests.resize(size)
            refresh(digests, stream.fileno(), sorted(resized_blocks(before, size)))
            assert digests.tree() == digests_of(stream.fileno()).tree(), size


@pytest.mark.parametrize("backwards", [False, True])
def test_digests_follow_a_file_that_is_changed_in_any_order(tmp_path: Path, backwards: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(6 * BLOCK + 10))
    with open(path, "r+b", buffering=0) as stream:
        digests = digests_of(stream.fileno())
        touched = Touched(digests, stream.fileno(), set())
        places = [(10, 100), (BLOCK - 1, 2), (BLOCK + 4, 9), (3 * BLOCK, BLOCK), (6 * BLOCK, 10)]
        for offset, length in sorted(places, reverse=backwards):
            os.pwrite(stream.fileno(), os.urandom(length), offset)
            touched.changed(offset, length)
        touched.finish()
        assert digests.tree() == digests_of(stream.fileno()).tree()
