# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What GNU tar and bsdtar write, and how they compress it: what tar extracts of it is what tradekeep extracts."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import other_compression
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.compression import decompressed
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import open_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.encryption import is_encrypted
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.extract import extract_to
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_foreign import named
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ArchiveError, HostileArchiveError
from ansible_collections.tradekeep.ops.tests.unit.archive.samples import RUNNER, sample_container
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FORMATS = ("v7", "oldgnu", "gnu", "ustar", "posix")
SPARSE = (("gnu", ()), ("posix", ("--sparse-version=0.0",)), ("posix", ("--sparse-version=0.1",)), ("posix", ()))
EARLY = -3600


def tar(*arguments, cwd):
    subprocess.run(("tar", *arguments), cwd=cwd, check=True, capture_output=True)


def make_tree(base):
    """What an old script packed: times of all sorts, links, holes, long names, a FIFO."""
    data = base / "bot" / "data"
    data.mkdir(parents=True)
    (data / "fills.csv").write_bytes(b"1\n" * 1000)
    (data / "empty").touch()
    os.utime(data / "fills.csv", (EARLY, EARLY))
    with open(data / "prices.bin", "wb") as file:
        file.truncate(3 << 20)
        for number in range(40):
            file.seek(number * 70_000)
            file.write(b"p%d" % number)
    with open(data / "hole", "wb") as file:
        file.truncate(1 << 20)
    os.link(data / "fills.csv", data / "twin.csv")
    (data / "link").symlink_to("fills.csv")
    (data / "deep").mkdir()
    (data / "deep" / "state.json").write_text("{}")
    return data


def content_of(directory):
    """Names, types, content, targets and times of all that lies there."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir():
            found[name] = "directory"
        elif path.is_file():
            found[name] = (path.read_bytes(), path.stat().st_mtime)
    return found


def unpacked(archive, stage):
    """As tradekeep unpacks it, with the times of its entries."""
    stage.mkdir()
    times = {}

    def on_entry(entry):
        if entry.type == "file":
            times[entry.path] = entry.mtime_ns

    with open_container(archive, runner=RUNNER) as stream:
        report = extract_to(stream, stage, on_entry=on_entry)
    for path, time in times.items():
        os.utime(stage / path, ns=(time, time))
    return report


def compare(archive, tmp_path, by=("tar",)):
    """Both ways of unpacking give the same."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    subprocess.run((*by, "-xf", str(archive)), cwd=theirs, check=True, capture_output=True)
    report = unpacked(archive, tmp_path / "ours")
    wanted, found = content_of(theirs), content_of(tmp_path / "ours")
    assert found.keys() == wanted.keys()
    for name, what in wanted.items():
        if isinstance(what, tuple):
            assert found[name][0] == what[0], name
            assert int(found[name][1]) == int(what[1]), name
        else:
            assert found[name] == what, name
    return report


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_of_gnu_tar(tmp_path, format):
    make_tree(tmp_path)
    if format in ("v7", "ustar"):  # they have no times before 1970
        os.utime(tmp_path / "bot/data/fills.csv", (1, 1))
    label = () if format in ("v7", "ustar") else ("-V", "weekly")
    tar("-cf", "old.tar", f"--format={format}", *label, "bot", cwd=tmp_path)
    compare(tmp_path / "old.tar", tmp_path)


@pytest.mark.parametrize(("format", "more"), SPARSE)
def test_every_form_of_sparse_files(tmp_path, format, more):
    make_tree(tmp_path)
    tar("-cSf", "old.tar", f"--format={format}", *more, "bot", cwd=tmp_path)
    compare(tmp_path / "old.tar", tmp_path)
    assert (tmp_path / "ours/bot/data/prices.bin").stat().st_blocks * 512 < 2 << 20


@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_incremental_archives_are_read_with_a_note(tmp_path, format):
    make_tree(tmp_path)
    tar("-czf", "old.tgz", f"--format={format}", "-g", "snapshot", "-V", "L0", "bot", cwd=tmp_path)
    report = compare(tmp_path / "old.tgz", tmp_path)
    assert [note for note in report.read.notes if "tar -g" in note] == [
        "made by tar -g: it may hold only what had changed since the archive before it"
    ]


def test_what_is_named_twice_is_taken_once(tmp_path):
    make_tree(tmp_path)
    tar("-czf", "old.tgz", "bot", "bot/data", "./bot/data/fills.csv", "bot//data/deep/state.json", cwd=tmp_path)
    report = compare(tmp_path / "old.tgz", tmp_path)
    assert any("state.json: is in the archive more than once, with the same content" in n for n in report.read.notes)


def test_what_was_appended_later_counts(tmp_path):
    """As ``tar -u`` leaves it: an earlier and a later one of one name."""
    data = make_tree(tmp_path)
    tar("-cf", "old.tar", "bot", cwd=tmp_path)
    (data / "deep" / "state.json").write_text('{"newer": true}')
    (data / "link").unlink()
    (data / "link").symlink_to("empty")
    tar("-rf", "old.tar", "bot", cwd=tmp_path)
    report = compare(tmp_path / "old.tar", tmp_path)
    assert any("state.json: is in the archive more than once, the last one counts" in n for n in report.read.notes)
    entries = []
    with open_container(tmp_path / "old.tar", runner=RUNNER) as stream:
        (tmp_path / "again").mkdir()
        extract_to(stream, tmp_path / "again", on_entry=entries.append)
    last = {entry.path: entry for entry in entries}["bot/data/deep/state.json"]
    assert last.size == len('{"newer": true}')


def test_a_fifo_is_left_out_with_a_note(tmp_path):
    data = make_tree(tmp_path)
    os.mkfifo(data / "control")
    tar("-cf", "old.tar", "bot", cwd=tmp_path)
    report = unpacked(tmp_path / "old.tar", tmp_path / "ours")
    assert "bot/data/control: a FIFO, left out" in report.read.notes
    assert not (tmp_path / "ours/bot/data/control").exists()


def test_records_for_all_entries(tmp_path):
    make_tree(tmp_path)
    options = "--pax-option=gname=traders,globexthdr.name=g"
    tar("-cf", "old.tar", "--format=posix", options, "bot", cwd=tmp_path)
    compare(tmp_path / "old.tar", tmp_path)


@pytest.mark.skipif(shutil.which("bsdtar") is None, reason="bsdtar is not installed: apt-get install libarchive-tools")
@pytest.mark.parametrize("format", ["ustar", "pax", "gnutar", "v7"])
def test_every_format_of_bsdtar(tmp_path, format):
    data = make_tree(tmp_path)
    os.setxattr(data / "fills.csv", "user.origin", b"export")
    os.utime(data / "fills.csv", (1, 1))
    subprocess.run(("bsdtar", "-czf", "old.tgz", "--format", format, "bot"), cwd=tmp_path, check=True)
    compare(tmp_path / "old.tgz", tmp_path, by=("bsdtar",))


def test_one_name_of_two_can_be_had_alone(tmp_path):
    """The content lies with the first name, which nobody asked for."""
    make_tree(tmp_path)
    tar("-cf", "old.tar", "bot/data/fills.csv", "bot/data/twin.csv", cwd=tmp_path)
    stage = tmp_path / "ours"
    stage.mkdir()
    second, first = "bot/data/twin.csv", "bot/data/fills.csv"
    with open_container(tmp_path / "old.tar", runner=RUNNER) as stream:
        extract_to(stream, stage, select=second.__eq__, first_names=frozenset((first,)))
    assert sorted(str(path.relative_to(stage)) for path in stage.rglob("*.csv")) == [second]
    assert (stage / second).read_bytes() == b"1\n" * 1000


# Compressions


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "lzma": lambda data: lzma.compress(data, 2)}


def plain_tar(content=b"x" * 100_000, name="bot/f"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        made.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize("name", PACKERS)
def test_compressions_of_the_standard_library(tmp_path, name):
    archive = tmp_path / f"old.tar.{name}"
    content = os.urandom(3 << 20) + bytes(5 << 20)
    archive.write_bytes(PACKERS[name](plain_tar(content)))
    unpacked(archive, tmp_path / "ours")
    assert (tmp_path / "ours/bot/f").read_bytes() == content
    whole = archive.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 600):
        archive.write_bytes(whole[:length])
        with pytest.raises(ArchiveError, match=r"truncated|decompressed"):
            unpacked(archive, tmp_path / f"part{length}")


@pytest.mark.parametrize("name", ["gz", "bz2", "xz"])
def test_several_members_are_one_archive(tmp_path, name):
    """As pigz, pbzip2 and pixz make them; and nothing else may follow."""
    whole, pack = plain_tar(), PACKERS[name]
    archive = tmp_path / f"old.tar.{name}"
    parts = [pack(whole[at : at + 7000]) for at in range(0, len(whole), 7000)]
    archive.write_bytes(b"".join(parts) + bytes(512 if name == "gz" else 0))
    unpacked(archive, tmp_path / "ours")
    assert (tmp_path / "ours/bot/f").read_bytes() == b"x" * 100_000
    archive.write_bytes(b"".join(parts) + b"garbage")
    with pytest.raises(ArchiveError):
        unpacked(archive, tmp_path / "garbage")


def test_members_of_an_archive_of_ours_are_not_joined(tmp_path):
    path = tmp_path / "a.tar.gz"
    sample_container(path)
    path.write_bytes(path.read_bytes() + gzip.compress(b""))
    with pytest.raises(ArchiveError, match="goes on after its end"):
        unpacked(path, tmp_path / "ours")


@pytest.mark.skipif(shutil.which("xz") is None, reason="xz is not installed: apt-get install xz-utils")
def test_unpacking_takes_bounded_memory(tmp_path, monkeypatch):
    archive = tmp_path / "old.tar.xz"
    archive.write_bytes(lzma.compress(plain_tar(), preset=9))
    monkeypatch.setattr(other_compression, "MOST_MEMORY", 1 << 20)
    with pytest.raises(ArchiveError, match="more memory than is allowed") as error:
        unpacked(archive, tmp_path / "ours")
    command = named(error.value.hint, archive).partition(": ")[2]
    subprocess.run(("sh", "-c", command), cwd=tmp_path, check=True)
    unpacked(tmp_path / "repacked.tar.gz", tmp_path / "again")


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_comes_in_pieces(name):
    """However much one chunk unpacks to."""
    packed = PACKERS[name](plain_tar(bytes(64 << 20)))
    largest = max(len(chunk) for chunk in decompressed((part for part in (packed,)), RUNNER))
    assert largest <= 1 << 20


@pytest.mark.parametrize("first", [0x85, 0x8C, 0xC1, 0xC3, 0xD2, 0xD4])
def test_a_tar_is_no_message_whatever_its_first_name(tmp_path, first):
    """Of OpenPGP; the name is bytes, and says nothing."""
    name = bytes([first, 0xA4]) + b"hrung.csv"
    (tmp_path / os.fsdecode(name)).write_bytes(b"1\n")
    for format in ("v7", "gnu"):
        tar("-cf", f"{format}.tar", f"--format={format}", os.fsdecode(name), cwd=tmp_path)
        assert not is_encrypted((tmp_path / f"{format}.tar").read_bytes()[:65536])
        unpacked(tmp_path / f"{format}.tar", tmp_path / f"of-{format}")
        assert os.listdir(os.fsencode(tmp_path / f"of-{format}")) == [name]
    assert is_encrypted(bytes([first]) + os.urandom(600))


def test_what_is_refused_says_how_to_pack_it_again(tmp_path):
    """A directory that became a file: tar unpacks it, one thing after the other, and tradekeep does not."""
    (tmp_path / "f").write_text("1")
    tar("-cf", "odd one.tar", "f", cwd=tmp_path)
    (tmp_path / "f").unlink()
    (tmp_path / "f").mkdir()
    tar("-rf", "odd one.tar", "f", cwd=tmp_path)
    with pytest.raises(HostileArchiveError, match="twice") as error:
        unpacked(tmp_path / "odd one.tar", tmp_path / "ours")
    command = named(error.value.hint, tmp_path / "odd one.tar").partition(": ")[2]
    subprocess.run(("sh", "-c", command), cwd=tmp_path, check=True)
    unpacked(tmp_path / "repacked.tar.gz", tmp_path / "again")


# The law: what GNU tar extracts is what we extract


names = st.text(st.sampled_from("ab.é -"), min_size=1, max_size=3).filter(lambda name: name not in (".", "..", "-"))
pieces = st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=600)), max_size=4)
things = st.one_of(
    st.tuples(st.just("file"), pieces, st.integers(-(10**9), 2 * 10**9)),
    st.tuples(st.just("symlink"), names),
    st.tuples(st.just("hardlink"), st.integers(0, 5)),
)
trees = st.dictionaries(st.lists(names, min_size=1, max_size=3).map("/".join), things, min_size=1, max_size=6)
ways = st.sampled_from([("gnu", ()), ("gnu", ("-S",)), ("posix", ("-S",)), ("posix", ("-S", "--sparse-version=0.1"))])


def build(top, tree):
    made = []
    for path, thing in tree.items():
        target = top / path
        if any(above.is_symlink() for above in target.parents):
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if thing[0] == "file":
                with open(target, "xb") as file:
                    for block, data in sorted(thing[1]):
                        file.seek(block * 4096)
                        file.write(data)
                os.utime(target, (thing[2], thing[2]))
                made.append(target)
            elif thing[0] == "symlink":
                target.symlink_to(thing[1])
            elif made:
                os.link(made[thing[1] % len(made)], target)
        except (FileExistsError, NotADirectoryError):
            continue


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees, ways, st.lists(st.integers(0, 5), max_size=2), st.booleans())
def test_what_tar_extracts_is_what_we_extract(tmp_path_factory, tree, way, repeated, appended):
    base = tmp_path_factory.mktemp("law")
    top = base / "bot"
    top.mkdir()
    build(top, tree)
    listed = sorted(str(path.relative_to(base)) for path in top.rglob("*"))
    arguments = ["bot", *(listed[number % len(listed)] for number in repeated if listed)]
    tar("-cf", "old.tar", f"--format={way[0]}", *way[1], "--", *arguments, cwd=base)
    if appended:
        for path in top.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.write_bytes(b"later")
                break
        tar("-rf", "old.tar", f"--format={way[0]}", "bot", cwd=base)
    compare(base / "old.tar", base)
