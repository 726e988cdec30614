# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Damaged archives: no flipped bit and no missing byte goes unnoticed."""

from __future__ import annotations

import hashlib
import io
import random

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import open_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.members import NullSink
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_reader import read_archive
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ArchiveError
from ansible_collections.tradekeep.ops.tests.unit.archive.samples import RUNNER, header, sample_container

SEED = 20_260_101


def small_tar():
    stream = io.BytesIO()
    writer = ArchiveWriter(stream, header())
    writer.add_directory(Entry("d", "directory", mode=0o750, owner="trader", group="trader", mtime_ns=1))
    data = random.Random(1).randbytes(3000)
    writer.add_file(
        Entry("d/f", "file", mode=0o640, owner="trader", group="trader", mtime_ns=5 * 10**9), io.BytesIO(data), 3000
    )
    writer.add_symlink(Entry("d/l", "symlink", mode=0o777, owner="trader", group="trader", target="f"))
    writer.finish()
    return stream.getvalue()


class Facts(NullSink):
    """Everything that a restore would act on."""

    def __init__(self):
        self.seen = []

    def on_directory(self, member):
        self.seen.append(member)

    on_symlink = on_hardlink = on_directory

    def on_file(self, member, chunks):
        self.seen.append((member, b"".join(chunks)))

    def on_entry(self, entry):
        self.seen.append(entry)


def facts_of(tar):
    sink = Facts()
    report = read_archive(io.BytesIO(tar), sink)
    return report, sink.seen


def test_a_bit_flipped_in_the_tar_stream_changes_nothing_unnoticed():
    """Without gzip's checksum: whatever the reader accepts means the same as before."""
    tar = small_tar()
    report, facts = facts_of(tar)
    choose = random.Random(SEED)
    noticed = 0
    offsets = range(0, len(tar) - 1024, 7)
    for at in offsets:
        broken = bytearray(tar)
        broken[at] ^= 1 << choose.randrange(8)
        try:
            changed_report, changed_facts = facts_of(bytes(broken))
        except ArchiveError:
            noticed += 1
            continue
        assert changed_facts == facts, at
        assert changed_report.entries == report.entries
    assert noticed > len(offsets) * 0.7


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_bits_flipped_at_random_are_all_detected(tmp_path, compression):
    path = tmp_path / "a"
    totals = sample_container(path, compression=compression)
    whole = path.read_bytes()
    digest = hashlib.sha256(whole).hexdigest()
    choose = random.Random(SEED)
    for at in [*range(40), *(choose.randrange(len(whole)) for _ in range(80)), *range(len(whole) - 12, len(whole))]:
        broken = bytearray(whole)
        broken[at] ^= 1 << choose.randrange(8)
        path.write_bytes(broken)
        try:
            with open_container(path, runner=RUNNER, engine="zlib") as stream:
                report = read_archive(stream)
        except ArchiveError:
            continue
        # A few bits of gzip's own header (time, system) carry nothing; the content was proven to be the same.
        assert report.ok
        assert report.manifest_sha256 == totals.manifest_sha256
        assert stream.sha256 != digest, "and the sealed file's digest gives it away all the same"


def test_truncations_anywhere_are_detected(tmp_path):
    path = tmp_path / "a"
    sample_container(path)
    whole = path.read_bytes()
    choose = random.Random(SEED)
    lengths = {0, 1, 2, 10, 18, len(whole) - 1, len(whole) - 4, len(whole) - 8, len(whole) - 9}
    for length in lengths | {choose.randrange(len(whole)) for _ in range(60)}:
        path.write_bytes(whole[:length])
        with pytest.raises(ArchiveError), open_container(path, runner=RUNNER) as stream:
            read_archive(stream)


def test_truncations_of_the_tar_stream_are_detected():
    tar = small_tar()
    # Up to the end of the second empty block; what follows only fills up the record.
    end = len(tar.rstrip(b"\0"))
    end += -end % 512 + 1024
    for length in [*range(0, end, 97), *range(0, end, 512), end - 512, end - 1]:
        with pytest.raises(ArchiveError):
            read_archive(io.BytesIO(tar[:length]))
    assert read_archive(io.BytesIO(tar[:end])).ok


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "broken.tar.gz"
    sample_container(path)
    path.write_bytes(path.read_bytes()[:-20])
    with (
        pytest.raises(ArchiveError, match=r"broken\.tar\.gz.*truncated.*use another backup"),
        open_container(path, runner=RUNNER) as stream,
    ):
        read_archive(stream)


def swapped(tar, old, new):
    """The archive with text of its content exchanged, as long as before."""
    assert tar.count(old) >= 1
    assert len(old) == len(new)
    return tar.replace(old, new)


def test_changed_content_is_named():
    stream = io.BytesIO()
    writer = ArchiveWriter(stream, header())
    for name in ("first", "second"):
        writer.add_file(Entry(name, "file", mode=0o600), io.BytesIO(b"content of " + name.encode()), 11 + len(name))
    writer.finish()
    broken = swapped(stream.getvalue(), b"content of second", b"content of SECOND")
    with pytest.raises(ArchiveError, match="second: content differs"):
        read_archive(io.BytesIO(broken))
    report = read_archive(io.BytesIO(broken), strict=False)
    assert not report.ok
    assert report.problems == ("second: content differs from the manifest",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"application":"demo"', b'"application":"evil"'),
        (b'"mode":"0600"', b'"mode":"0666"'),
        (b'"entries":1', b'"entries":2'),
        (b'"owner":"a"', b'"owner":"b"'),
        (b'"fills":25', b'"fills":26'),
    ],
)
def test_a_manifest_changed_by_hand_is_detected(old, new):
    stream = io.BytesIO()
    archive = ArchiveWriter(stream, header())
    entry = Entry("f", "file", mode=0o600, owner="a", group="b", facts={"tables": {"fills": 25}})
    archive.add_file(entry, io.BytesIO(b"1"), 1)
    archive.finish()
    with pytest.raises(ArchiveError):
        read_archive(io.BytesIO(swapped(stream.getvalue(), old, new)))
