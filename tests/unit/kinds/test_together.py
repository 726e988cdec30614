# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A database and its WAL taken as bytes while a bot writes."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.together import capture_together

WRITER = """
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma journal_mode=wal"); c.execute("pragma wal_autocheckpoint=50")
c.execute("create table fills (id integer primary key, text)")
c.execute("insert into fills(text) values ('first')")
print("ready", flush=True)
while True:
    c.execute("insert into fills(text) values (?)", ("x" * 500,)); time.sleep(.001)
"""


def taken(path: Path, context, where: Path) -> Path:
    for suffix, captured in capture_together(path, context).items():
        with captured, captured.open() as stream:
            Path(f"{where}{suffix}").write_bytes(stream.read())
    return where


def test_hazard_a1_bytes_and_wal_are_of_one_moment_under_a_writer(data, context, tmp_path, writer):
    path = data / "vault.bin"
    writer(WRITER, path)
    counts = []
    for number in range(15):
        connection = sqlite3.connect(taken(path, context, tmp_path / f"{number}.db"))
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        counts.append(connection.execute("select count(*) from fills").fetchone()[0])
        connection.close()
    assert counts == sorted(counts) and counts[0] > 0
    assert list(context.scratch.iterdir()) == []


@pytest.mark.parametrize("suffix", ["", "-wal"], ids=["file", "wal"])
def test_what_was_overwritten_meanwhile_is_taken_again(data, context, tmp_path, monkeypatch, suffix):
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import together

    path, real, done = data / "vault.bin", together.copy_bytes, []
    path.write_bytes(b"a" * 100)
    Path(f"{path}-wal").write_bytes(b"b" * 100)

    def copy(descriptor, size, context):
        made = real(descriptor, size, context)
        done.append(True)
        if len(done) == 2:
            Path(f"{path}{suffix}").write_bytes(b"c" * 100)
        return made

    monkeypatch.setattr(together, "copy_bytes", copy)
    taken(path, context, tmp_path / "copy")
    assert Path(f"{tmp_path}/copy{suffix}").read_bytes() == b"c" * 100
    assert os.listdir(context.scratch) == []
