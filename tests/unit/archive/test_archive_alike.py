# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Small files written in batches: the same archive as one at a time, or no batch."""

from __future__ import annotations

import io

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.alike import Batch, Pattern
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import MANIFEST_NAME, Entry
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.safety import (
    Limits,
    Names,
    all_safe_relative,
    safe_relative,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_reader import read_archive
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import HostileArchiveError
from ansible_collections.tradekeep.ops.tests.unit.archive.samples import MTIME, header
from hypothesis import given
from hypothesis import strategies as st

FACTS = {"documents": 1, "bom": False, "warnings": []}
NAMES = st.from_regex(r"[a-z0-9 \"'\\_-]{1,20}\Z", fullmatch=True)
FILES = st.dictionaries(NAMES, st.tuples(st.binary(max_size=1500), st.integers(0, 2**63 - 1)), min_size=1, max_size=20)
ENTRIES = st.builds(
    Entry,
    path=st.just(""),
    type=st.just("file"),
    size=st.just(0),
    mtime_ns=st.just(0),
    sha256=st.none(),
    target=st.none(),
    mode=st.integers(0, 0o1777),
    owner=st.sampled_from(["trader", "#1234", "ärger", 'o"dd']),
    group=st.sampled_from(["trader", "#0"]),
    kind=st.sampled_from(["file", "json"]),
    component=st.sampled_from(["state", 'st"sha256":"?"']),
    facts=st.sampled_from([{}, FACTS]),
)


def one_by_one(like, files):
    stream = io.BytesIO()
    writer = ArchiveWriter(stream, header())
    for path, (content, mtime_ns) in files.items():
        writer.add_content(like._replace(path=path, size=len(content), mtime_ns=mtime_ns), content)
    totals = writer.finish()
    return stream.getvalue(), totals


def in_batches(like, files, most):
    stream = io.BytesIO()
    writer, pattern, batch = ArchiveWriter(stream, header()), Pattern.of(like), Batch("state")
    for path, (content, mtime_ns) in files.items():
        if len(batch.paths) == most or not batch.add(pattern, path, mtime_ns, content):
            if batch.paths:
                writer.add_batch(batch.sealed())
            batch = Batch("state")
            if not batch.add(pattern, path, mtime_ns, content):
                writer.add_content(like._replace(path=path, size=len(content), mtime_ns=mtime_ns), content)
    if batch.paths:
        writer.add_batch(batch.sealed())
    totals = writer.finish()
    return stream.getvalue(), totals


@given(like=ENTRIES, files=FILES, most=st.integers(1, 7))
def test_batches_make_the_same_archive(like, files, most):
    assert in_batches(like, files, most) == one_by_one(like, files)


@given(like=ENTRIES, files=FILES)
def test_what_was_written_in_batches_can_be_read(like, files):
    files = {path: (content, mtime_ns % 2**60) for path, (content, mtime_ns) in files.items()}
    written, totals = in_batches(like, files, 5)
    report = read_archive(io.BytesIO(written))
    assert (report.entries, report.manifest_sha256) == (len(files), totals.manifest_sha256)


@pytest.mark.parametrize(
    "path, mtime_ns",
    [
        ("d/" * 50 + "f", MTIME),
        ("schön", MTIME),
        ("a", -1),
        ("a", 2**33 * 10**9),
        (MANIFEST_NAME, MTIME),
    ],
)
def test_what_a_plain_header_cannot_hold_is_in_no_batch(path, mtime_ns):
    batch = Batch("state")
    assert not batch.add(Pattern.of(Entry("", "file", owner="a", group="a")), path, mtime_ns, b"x")
    assert (batch.paths, batch.parts, batch.lines, batch.bytes, batch.size) == ([], [], [], 0, 0)


@pytest.mark.parametrize("changes", [{"mode": 0o4755}, {"owner": "o" * 32}, {"group": "#99999999"}])
def test_files_that_need_more_than_a_plain_header_have_no_pattern(changes):
    assert Pattern.of(Entry("", "file", owner="a", group="a")._replace(**changes)) is None


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b", ""])
def test_hazard_c2_a_batch_holds_no_name_that_leads_out(path):
    writer, batch = ArchiveWriter(io.BytesIO(), header()), Batch("state")
    batch.add(Pattern.of(Entry("", "file", owner="a", group="a")), path, MTIME, b"x")
    with pytest.raises(HostileArchiveError):
        writer.add_batch(batch.sealed())


def test_hazard_c2_a_batch_holds_no_name_twice():
    writer, batch = ArchiveWriter(io.BytesIO(), header()), Batch("state")
    for _time in range(2):
        batch.add(Pattern.of(Entry("", "file", owner="a", group="a")), "a", MTIME, b"x")
    with pytest.raises(HostileArchiveError, match="twice"):
        writer.add_batch(batch.sealed())


PATHS = st.lists(st.sampled_from(["a", "b", "a/b", "a/c", "b/c/d", "a/b/c", "e"]), max_size=6)


@given(before=PATHS, paths=PATHS)
def test_names_are_noted_together_as_they_are_one_by_one(before, paths):
    def noted(add_all):
        names = Names(Limits(entries=8))
        try:
            for path in before:
                names.add(path, "file")
            add_all(names)
        except HostileArchiveError:
            return None
        return names.count, [names.type_of(path) for path in ("a", "b", "a/b", "a/c", "b/c", "b/c/d", "a/b/c", "e")]

    def one_at_a_time(names):
        for path in paths:
            names.add(path, "file")

    assert noted(lambda names: names.add_files(paths)) == noted(one_at_a_time)


ODD = st.lists(st.text(alphabet="ab/.\n\0é", max_size=6) | st.just("a" * 256), max_size=4)


@given(names=ODD)
def test_names_are_judged_together_as_they_are_one_by_one(names):
    def refused(judge):
        try:
            judge()
        except HostileArchiveError as error:
            return str(error)
        return None

    def one_at_a_time():
        for name in names:
            safe_relative(name)

    assert refused(lambda: all_safe_relative(names)) == refused(one_at_a_time)
