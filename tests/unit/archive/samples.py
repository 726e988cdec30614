# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Small archives for the tests of the archive package."""

from __future__ import annotations

import io
import os
from pathlib import Path

from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import create_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry, Header, Totals
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner

RUNNER = SubprocessRunner()
NON_UTF8 = os.fsdecode(b"caf\xe9.txt")
MTIME = 1_700_000_000_123_456_789
CONTENT = {
    "data/fills.db": b"SQLite format 3\0" + os.urandom(3000),
    "data/empty": b"",
    "data/block": b"b" * 512,
    f"data/{NON_UTF8}": b"not utf-8",
    "data/with\nnewline": b"two lines",
    "data/schön.json": b"{}",
    ".env": b"KEY=1\n",
    "deep/" + "d" * 120 + "/" + "e" * 120 + "/" + "f" * 90: b"long",
    "deep/" + "p" * 60 + "/" + "q" * 80: b"prefix",
    "data/large": os.urandom(1 << 20) + bytes(2 << 20) + b"end",
}


def header(**changes: object) -> Header:
    """A header with nothing special in it."""
    facts: dict[str, object] = {
        "application": "demo",
        "profile": "kalshi",
        "prefix": "user_data",
        "created": "2026-01-02T03:04:05Z",
    }
    return Header(**{**facts, **changes})  # type: ignore[arg-type]


def write_sample(writer: ArchiveWriter) -> Totals:
    """Directories, an empty one, links, and files with difficult names."""
    for path in ("data", "data/nothing here", "deep"):
        writer.add_directory(Entry(path, "directory", mode=0o750, owner="trader", group="trader", mtime_ns=MTIME))
    for path, data in CONTENT.items():
        entry = Entry(path, "file", mode=0o640, owner="trader", group="#1234", mtime_ns=MTIME, kind="file")
        writer.add_file(entry._replace(component="data", facts={"tables": {"fills": 25}}), io.BytesIO(data), len(data))
    for path, target in (
        ("data/link", "fills.db"),
        ("data/up", "../.env"),
        ("abs", "/etc/passwd"),
        ("out", "../x"),
        ("data/long link", "l" * 200),
    ):
        writer.add_symlink(Entry(path, "symlink", mode=0o777, owner="trader", group="trader", target=target))
    return writer.finish()


def sample_tar() -> bytes:
    """The sample as a plain tar."""
    stream = io.BytesIO()
    write_sample(ArchiveWriter(stream, header()))
    return stream.getvalue()


def sample_container(path: Path, **options: object) -> Totals:
    """The sample as a container at ``path``."""
    with create_container(path, runner=RUNNER, **options) as container:  # type: ignore[arg-type]
        return write_sample(ArchiveWriter(container.stream, header()))
