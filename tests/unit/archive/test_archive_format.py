# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Archives of ours: written, read by GNU tar and by the reader, unpacked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import manifest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import open_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.extract import extract_to
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import (
    MANIFEST_NAME,
    Entry,
    ManifestReader,
    ManifestWriter,
    entry_line,
    parse_entry,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.members import NullSink
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.safety import (
    link_stays_inside,
    safe_relative,
    storable_mode,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_headers import pack_pax, parse_pax
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_reader import read_archive
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    ChangedWhileReadError,
    HostileArchiveError,
)
from ansible_collections.tradekeep.ops.tests.unit.archive.samples import (
    CONTENT,
    MTIME,
    RUNNER,
    header,
    sample_container,
    sample_tar,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def test_our_reader_agrees_with_our_writer():
    report = read_archive(io.BytesIO(sample_tar()))
    assert report.ok
    assert report.layout == "tradekeep"
    assert report.entries == len(CONTENT) + 3 + 5
    assert report.files == len(CONTENT)
    assert report.bytes == sum(map(len, CONTENT.values()))
    assert report.header == header()
    assert report.unsafe_links == ("abs", "out")


@pytest.mark.parametrize("suffix", ["gzip", "zstd"])
def test_gnu_tar_reads_our_archives(tmp_path, suffix):
    archive, out = tmp_path / "a.tar", tmp_path / "out"
    out.mkdir()
    sample_container(archive, compression=suffix)
    flag = "-z" if suffix == "gzip" else "--zstd"
    listed = subprocess.run(["tar", flag, "--quoting-style=literal", "-tf", archive], capture_output=True, check=True)
    assert listed.stdout.splitlines()[-1] == b"MANIFEST.json"
    assert listed.stderr == b""
    done = subprocess.run(["tar", flag, "-xf", archive, "--no-same-owner"], cwd=out, capture_output=True, check=True)
    assert done.stderr == b""
    for path, data in CONTENT.items():
        assert (out / path).read_bytes() == data, path
    assert os.readlink(out / "data/long link") == "l" * 200
    assert list((out / "data/nothing here").iterdir()) == []
    found = json.loads((out / MANIFEST_NAME).read_text())
    by_path = {entry["path"]: entry for entry in found["entries"]}
    assert by_path["data/fills.db"]["sha256"] == hashlib.sha256(CONTENT["data/fills.db"]).hexdigest()
    assert by_path["data/fills.db"]["facts"] == {"tables": {"fills": 25}}
    assert found["header"]["application"] == "demo"


def test_owner_names_and_modes_are_in_the_tar_headers(tmp_path):
    archive = tmp_path / "a.tar.gz"
    sample_container(archive)
    listed = subprocess.run(["tar", "-tvzf", archive, ".env"], capture_output=True, check=True, text=True).stdout
    assert listed.startswith("-rw-r----- trader/1234 ")


def test_hazard_a9_difficult_names_come_back(tmp_path):
    entries = []
    report = extract_to(io.BytesIO(sample_tar()), tmp_path, on_entry=entries.append)
    for path, data in CONTENT.items():
        assert (tmp_path / path).read_bytes() == data
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o600
    assert os.readlink(tmp_path / "data/up") == "../.env"
    assert (tmp_path / "data/nothing here").is_dir()
    assert sorted(report.skipped_links) == ["abs", "out"]
    assert not os.path.lexists(tmp_path / "abs")
    assert {entry.path for entry in entries} >= set(CONTENT)
    assert next(entry for entry in entries if entry.path == ".env").mtime_ns == MTIME


def test_parts_can_be_selected(tmp_path):
    report = extract_to(io.BytesIO(sample_tar()), tmp_path, select=lambda path: path == "data/fills.db")
    assert report.files == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["fills.db"]


def test_same_input_gives_the_same_bytes():
    assert sample_tar() == sample_tar()


class Zeros:
    """A file of any size that takes no room."""

    def __init__(self, size):
        self.left = size

    def read(self, size):
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


class HeaderOnly:
    """Keeps the beginning of what is written."""

    def __init__(self):
        self.start = b""

    def write(self, data):
        if len(self.start) < 1 << 20:
            self.start += data


class Skipped(Exception):
    pass


def test_hazard_a9_files_above_8_gib_have_their_size(tmp_path, monkeypatch):
    huge = (8 << 30) + 5
    stream = HeaderOnly()

    class Short(Zeros):
        def read(self, size):
            if huge - self.left > 2 << 20:
                raise Skipped
            return super().read(size)

    with pytest.raises(Skipped):
        ArchiveWriter(stream, header()).add_file(Entry("huge", "file"), Short(huge), huge)
    (tmp_path / "huge.tar").write_bytes(stream.start)
    listed = subprocess.run(["tar", "-tvf", tmp_path / "huge.tar"], capture_output=True, text=True).stdout
    assert str(huge) in listed
    seen = []

    class Sink(NullSink):
        def on_file(self, member, chunks):
            seen.append((member.path, member.size))

    with pytest.raises(ArchiveError, match="truncated"):
        read_archive(io.BytesIO(stream.start), Sink())
    assert seen == [("huge", huge)]


def test_a_source_that_ends_early_is_refused():
    writer = ArchiveWriter(io.BytesIO(), header())
    with pytest.raises(ChangedWhileReadError, match="5 bytes early"):
        writer.add_file(Entry("x", "file"), io.BytesIO(b"12345"), 10)


def test_a_source_that_grew_is_read_to_its_size():
    stream = io.BytesIO()
    writer = ArchiveWriter(stream, header())
    entry = writer.add_file(Entry("x", "file"), io.BytesIO(b"12345678"), 5)
    writer.finish()
    assert entry.sha256 == hashlib.sha256(b"12345").hexdigest()
    assert read_archive(io.BytesIO(stream.getvalue())).bytes == 5


@pytest.mark.parametrize("path", ["/x", "../x", "a/../b", "", "a//b", "./a", "a\0b", "n" * 256, MANIFEST_NAME])
def test_the_writer_refuses_what_the_reader_would(path):
    with pytest.raises(ArchiveError):
        ArchiveWriter(io.BytesIO(), header()).add_directory(Entry(path, "directory"))


def test_the_writer_refuses_setuid_and_duplicates():
    writer = ArchiveWriter(io.BytesIO(), header())
    with pytest.raises(HostileArchiveError, match="setuid"):
        writer.add_file(Entry("x", "file", mode=0o4755), io.BytesIO(), 0)
    writer.add_directory(Entry("d", "directory", mode=storable_mode(0o6755, "directory")))
    with pytest.raises(HostileArchiveError, match="twice"):
        writer.add_directory(Entry("d", "directory"))


def test_memory_stays_small_for_many_entries(monkeypatch):
    import tracemalloc

    monkeypatch.setattr(manifest, "MOST_PLAIN_TEXT", 1 << 20)
    tracemalloc.start()
    writer = ManifestWriter(header())
    for number in range(20_000):
        writer.add(Entry(f"data/{number:06}.json", "file", 10, 0o600, "a", "b", number, f"{number:064x}"))
    writer.finish(200_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000 * 200


def test_a_newer_manifest_is_refused_by_name():
    stream = io.BytesIO()
    ArchiveWriter(stream, header(format=2)).finish()
    with pytest.raises(ArchiveError, match="newer tradekeep"):
        read_archive(io.BytesIO(stream.getvalue()))


# Properties

names = st.text(st.characters(exclude_characters="\0/", exclude_categories=()), min_size=1, max_size=40)
facts = st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.none(), st.booleans()), max_size=3)
entries = st.builds(
    Entry,
    path=st.lists(names, min_size=1, max_size=4).map("/".join),
    type=st.sampled_from(["file", "directory", "symlink"]),
    size=st.integers(0, 2**60),
    mode=st.integers(0, 0o7777),
    owner=names,
    group=names,
    mtime_ns=st.integers(-(2**62), 2**62),
    sha256=st.one_of(st.none(), st.binary(min_size=32, max_size=32).map(bytes.hex)),
    target=st.one_of(st.none(), names),
    kind=st.one_of(st.none(), names),
    component=st.one_of(st.none(), names),
    facts=facts,
)


@given(st.lists(entries, max_size=5), st.integers(1, 300))
@settings(deadline=None)
def test_manifests_come_back_whatever_is_in_them(wanted, step):
    writer = ManifestWriter(header())
    for entry in wanted:
        assert parse_entry(entry_line(entry).encode("ascii")) == entry
        writer.add(entry)
    digest = writer.finish(sum(entry.size for entry in wanted))
    text = b"".join(writer.chunks())
    assert len(text) == writer.size
    json.loads(text)
    reader = ManifestReader()
    found = [entry for at in range(0, len(text), step) for entry in reader.feed(text[at : at + step])]
    reader.finish()
    assert found == wanted
    assert reader.sha256 == digest


@given(st.lists(st.binary(max_size=200)), st.integers(0, 1000))
def test_a_long_text_comes_back_whether_it_is_compressed_or_not(parts, most_plain):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(manifest, "MOST_PLAIN_TEXT", most_plain)
        text = manifest.LongText()
        for part in parts:
            text.add(part)
    assert b"".join(text.chunks()) == b"".join(parts)


file_names = st.text(
    st.one_of(st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), st.sampled_from("\udcff\udc80")),
    min_size=1,
    max_size=60,
).filter(lambda name: name not in (".", "..") and len(name.encode("utf-8", "surrogateescape")) < 256)


@given(
    st.lists(file_names, min_size=1, max_size=5).map("/".join).filter(lambda path: path != MANIFEST_NAME),
    st.binary(max_size=1500),
    file_names.filter(lambda name: not name.startswith("#")),
    st.integers(-(2**40), 2**66),
    st.integers(0, 0o1777),
)
@settings(deadline=None)
def test_any_file_survives_writing_and_reading(path, data, owner, mtime_ns, mode):
    stream = io.BytesIO()
    writer = ArchiveWriter(stream, header())
    writer.add_file(Entry(path, "file", 0, mode, owner, owner, mtime_ns), io.BytesIO(data), len(data))
    writer.finish()
    seen = []

    class Sink(NullSink):
        def on_entry(self, entry):
            seen.append((entry.path, entry.owner, entry.mtime_ns, entry.mode, entry.sha256))

    assert read_archive(io.BytesIO(stream.getvalue()), Sink()).ok
    assert seen == [(path, owner, mtime_ns, mode, hashlib.sha256(data).hexdigest())]


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(["..", ".", "", "a", "b"]), max_size=6).map("/".join)))
def test_a_safe_name_never_escapes(name):
    try:
        path = safe_relative(name)
    except HostileArchiveError:
        return
    assert path == name
    assert os.path.normpath(os.path.join("/stage", path)) == "/stage/" + path


components = st.sampled_from(["..", ".", "a", "b", "c"])


@given(
    st.dictionaries(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join),
        st.lists(components, min_size=1, max_size=5).map("/".join),
        max_size=5,
    )
)
@settings(deadline=None)
def test_links_that_are_said_to_stay_inside_do(tmp_path_factory, links):
    """However several such links lead through each other."""
    base = tmp_path_factory.mktemp("links")
    stage = base / "stage"
    stage.mkdir()
    made = []
    for path, target in sorted(links.items(), key=lambda item: -item[0].count("/")):
        full = stage / path
        if not link_stays_inside(path, target) or os.path.lexists(full):
            continue
        try:
            full.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if full.parent.resolve() != full.parent:
            continue  # beneath a link: the reader refuses it
        os.symlink(target, full)
        made.append(full)
    for full in made:
        try:
            resolved = full.resolve()
        except (OSError, RuntimeError):
            continue  # a loop leads nowhere
        assert resolved == stage or stage in resolved.parents


@given(st.dictionaries(st.text("abcxyz.", min_size=1), st.binary(max_size=200), min_size=1, max_size=4))
def test_extended_records_come_back(records):
    packed = pack_pax(tuple(records.items()))
    size = int(packed[124:135], 8)
    assert parse_pax(packed[512 : 512 + size]) == records


def test_the_digest_of_the_file_comes_with_reading_it(tmp_path):
    path = tmp_path / "a.tar.gz"
    totals = sample_container(path)
    with open_container(path, runner=RUNNER) as stream:
        assert stream.sha256 is None
        report = read_archive(stream)
        assert report.manifest_sha256 == totals.manifest_sha256
        assert stream.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
