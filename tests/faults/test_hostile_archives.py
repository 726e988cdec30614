# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Archives that attack (HAZARDS C2): each is refused by the name of its entry, and nothing leaves the stage."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from hashlib import sha256

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import open_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.extract import extract_to
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import (
    MANIFEST_NAME,
    Entry,
    ManifestWriter,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.safety import Limits
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_headers import (
    MARK,
    owner_fields,
    pack_header,
    pack_pax,
    padding,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    HostileArchiveError,
    SpaceError,
    UnsafePathError,
)
from ansible_collections.tradekeep.ops.tests.unit.archive.samples import RUNNER, header, sample_container, sample_tar

NOBODY = owner_fields("#0", "#0")
END = bytes(1024)
OURS = pack_pax((("comment", MARK.encode()),), b"g")


def member(name, typeflag=b"0", data=b"", link=b"", mode=0o600, size=None, pax=()):
    """One raw tar member, however wrong."""
    name = name if isinstance(name, bytes) else name.encode()
    link = link if isinstance(link, bytes) else link.encode()
    extended = pack_pax(tuple(pax)) if pax else b""
    packed = pack_header(name, b"", mode, NOBODY, len(data) if size is None else size, 0, typeflag, link)
    return extended + packed + data + padding(len(data))


def manifest(*entries):
    writer = ManifestWriter(header())
    for entry in entries:
        writer.add(entry)
    writer.finish(sum(entry.size for entry in entries))
    return member(MANIFEST_NAME, data=b"".join(writer.chunks()))


def with_size_field(field):
    """A file whose size field holds arbitrary bytes, its checksum right."""
    block = bytearray(member("odd"))
    block[124:136] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def sparse(text, size, data, minor=b"0", name=b"s"):
    """A sparse file in the form PAX 1.0, its map as given."""
    stored = text + bytes(-len(text) % 512) + data
    records = [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", minor), ("GNU.sparse.name", name)]
    return member("x", data=stored, pax=[*records, ("GNU.sparse.realsize", b"%d" % size)])


ATTACKS = {
    "absolute name": (member("/etc/evil", data=b"x"), "/etc/evil", "absolute"),
    "dotdot": (member("../evil", data=b"x"), "../evil", "'..'"),
    "dotdot inside": (member("a/../../evil", data=b"x"), "a/../../evil", "'..'"),
    "dotdot by pax": (member("fine", data=b"x", pax=[("path", b"../evil")]), "../evil", "'..'"),
    "dotdot by GNU long name": (
        member("././@LongLink", b"L", b"../evil\0") + member("fine", data=b"x"),
        "../evil",
        "'..'",
    ),
    "dotdot directory": (member("../evil/", b"5"), "../evil", "'..'"),
    "empty name": (member("", data=b"x"), "''", "empty name"),
    "NUL in the name": (member(b"a\0evil", data=b"x"), "evil", "NUL"),
    "NUL in a pax name": (member("a", data=b"x", pax=[("path", b"a\0evil")]), "evil", "NUL"),
    "file through a symlink": (
        member("out", b"2", link="/tmp") + member("out/evil", data=b"x"),
        "out/evil",
        "beneath the symlink",
    ),
    "file through a harmless symlink": (
        member("d/", b"5") + member("l", b"2", link="d") + member("l/evil", data=b"x"),
        "l/evil",
        "beneath the symlink",
    ),
    "two-step directory symlinks": (
        member("d/", b"5")
        + member("d/up", b"2", link="..")
        + member("d/up2", b"2", link="up/..")
        + member("d/up2/evil", data=b"x"),
        "d/up2/evil",
        "beneath the symlink",
    ),
    "file in place of a symlink": (
        member("l", b"2", link="../outside") + member("l", data=b"x"),
        "l",
        "twice",
    ),
    "symlink in place of a directory": (
        member("d/f", data=b"x") + member("d", b"2", link="/tmp"),
        "d",
        "twice",
    ),
    "hardlink to outside": (member("h", b"1", link="/etc/passwd"), "/etc/passwd", "absolute"),
    "hardlink upwards": (member("h", b"1", link="../outside"), "../outside", "'..'"),
    "file beneath a device": (member("dev", b"3") + member("dev/f", data=b"x"), "dev/f", "beneath the special"),
    "hardlink to what is not there": (member("h", b"1", link="s"), "h", "no file of this archive"),
    "unknown type": (member("what", b"Z"), "what", "unknown type"),
    "part of several": (member("part", b"M"), "part", "one part of several"),
    "sparse file without a map": (member("s", data=b"x", pax=[("GNU.sparse.major", b"1")]), "s", "sparse"),
    "sparse file of an unknown form": (sparse(b"1\n0\n1\n", 1, b"x", b"2"), "s", "unknown form"),
    "sparse map without an end": (sparse(b"300\n" + b"0\n" * 254, 1, b"x" * 100), "s", "does not fit"),
    "sparse map of words": (sparse(b"one\n", 1, b"x"), "s", "no number"),
    "sparse map with a negative number": (sparse(b"1\n-1\n1\n", 1, b"x"), "s", "no number"),
    "sparse map of millions": (sparse(b"9999999\n", 1, b"x"), "s", "more parts"),
    "sparse map backwards": (sparse(b"2\n5\n1\n0\n1\n", 9, b"xy"), "s", "out of order"),
    "sparse map that overlaps": (sparse(b"2\n0\n2\n1\n2\n", 9, b"xyzz"), "s", "out of order"),
    "sparse map beyond the end": (sparse(b"1\n8\n2\n", 9, b"xy"), "s", "out of order"),
    "sparse map of more than there is": (sparse(b"1\n0\n9\n", 9, b"xy"), "s", "does not fit"),
    "sparse map of less than there is": (sparse(b"1\n0\n1\n", 9, b"xy"), "s", "does not fit"),
    "sparse file of no length": (sparse(b"1\n0\n1\n", -1, b"x"), "s", "no length"),
    "sparse map in a header that overlaps": (
        member("s", data=b"xx", pax=[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"3,1,3,1")]),
        "s",
        "out of order",
    ),
    "sparse name that leads out": (sparse(b"1\n0\n1\n", 1, b"x", name=b"../evil"), "../evil", "'..'"),
    "negative size": (with_size_field(b"-0000000001\0"), "odd", "negative"),
    "negative base-256 size": (with_size_field(b"\xff" * 12), "odd", "negative"),
    "negative pax size": (member("odd", pax=[("size", b"-5")]), "odd", "bad size"),
    "directory with a size": (member("d/", b"5", size=512) + bytes(512), "d", "size"),
    "file in place of a directory": (member("d/", b"5") + member("d", data=b"x"), "d", "twice"),
    "list of names without an end": (member("d/", b"D", size=1 << 32), "d", "list of"),
    "file as a directory": (member("a", data=b"1") + member("a/b", data=b"2"), "a/b", "beneath the file"),
    "global header": (pack_pax((("path", b"evil"),), b"g") + member("a"), "evil", "global extended header"),
    "huge extended header": (member("x", b"x", size=1 << 32), "x", "extended header of"),
    "long component": (member("a", data=b"1", pax=[("path", b"n" * 300)]), "nnn", "longer"),
}


ONLY_OURS = {
    "duplicate": (member("a", data=b"1") + member("a", data=b"2"), {"a": b"2"}),
    "symlink in place of another": (member("a", b"2", link="b") + member("a", b"2", link="../out"), {}),
    "symlink made safe": (member("a", b"2", link="../out") + member("a", b"2", link="b"), {"a": "b"}),
    "hardlink": (member("a", data=b"1") + member("h", b"1", link="a"), {"a": b"1", "h": b"1"}),
    "hardlink to a symlink": (member("s", b"2", link="/etc/passwd") + member("h", b"1", link="s"), {}),
    "hardlink to itself": (member("a", data=b"1") + member("a", b"1", link="a"), {"a": b"1"}),
    "character device": (member("dev", b"3"), {}),
    "block device": (member("dev", b"4"), {}),
    "FIFO and another name of it": (member("pipe", b"6") + member("p", b"1", link="pipe"), {}),
    "sparse file of GNU's own form": (member("s", b"S"), {"s": b""}),
    "volume label": (member("MyBackup", b"V") + member("a", data=b"1"), {"a": b"1"}),
    "list of names": (member("d/", b"D", data=b"Yf\0\0"), {}),
    "group of all": (pack_pax((("gname", b"trader"),), b"g") + member("a", data=b"1"), {"a": b"1"}),
}
"""What GNU tar writes and tradekeep does not: refused in an archive of ours, harmless in another."""


@pytest.mark.parametrize("what", ONLY_OURS)
def test_hazard_c2_what_tradekeep_does_not_write_is_refused_in_ours(tmp_path, what):
    tar, wanted = ONLY_OURS[what]
    stage = outside(tmp_path)
    with pytest.raises(HostileArchiveError):
        extract_to(io.BytesIO(OURS + tar + END), stage)
    assert_untouched(stage)
    stage = outside(tmp_path / "foreign")
    extract_to(io.BytesIO(tar + END), stage)
    assert_untouched(stage)
    found = {
        path.name: os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in stage.iterdir()
        if not path.is_dir()
    }
    assert found == wanted


def outside(tmp_path):
    """A stage with a canary around it."""
    stage = tmp_path / "box" / "stage"
    stage.mkdir(parents=True)
    (tmp_path / "box" / "outside").write_text("canary")
    return stage


def assert_untouched(stage):
    assert (stage.parent / "outside").read_text() == "canary"
    assert sorted(os.listdir(stage.parent)) == ["outside", "stage"]
    for directory, names, files in os.walk(stage):
        for name in names + files:
            full = os.path.join(directory, name)
            assert not os.path.islink(full) or os.path.realpath(full).startswith(str(stage))


@pytest.mark.parametrize("marked", [False, True], ids=["foreign", "ours"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_hazard_c2(tmp_path, attack, marked):
    tar, name, message = ATTACKS[attack]
    stage = outside(tmp_path)
    with pytest.raises(HostileArchiveError) as error:
        extract_to(io.BytesIO((OURS if marked else b"") + tar + END), stage)
    if not marked:  # ours refuses some of these for an earlier reason
        assert name in str(error.value)
        assert message in str(error.value)
    assert_untouched(stage)
    assert not os.path.lexists("/tmp/evil")


def test_hazard_c2_unsafe_symlinks_are_not_made(tmp_path):
    stage = outside(tmp_path)
    tar = b"".join(
        member(name, b"2", link=target)
        for name, target in (("a", "/etc/passwd"), ("b", "../outside"), ("c", "b/../../outside"), ("ok", "x"))
    )
    report = extract_to(io.BytesIO(tar + END), stage)
    assert sorted(report.skipped_links) == ["a", "b", "c"]
    assert os.listdir(stage) == ["ok"]
    assert_untouched(stage)


def test_hazard_c2_setuid_is_refused_in_ours_and_stripped_in_foreign(tmp_path):
    stage = outside(tmp_path)
    tar = member("su", data=b"x", mode=0o4755) + END
    with pytest.raises(HostileArchiveError, match="setuid"):
        extract_to(io.BytesIO(OURS + tar), stage)
    entries = []
    report = extract_to(io.BytesIO(tar), stage, on_entry=entries.append)
    assert entries[0].mode == 0o755
    assert report.read.notes == ("su: mode 4755 was read as 0755",)


def test_hazard_c2_entries_after_the_manifest(tmp_path):
    stage = outside(tmp_path)
    tar = OURS + manifest() + member("late", data=b"x") + END
    with pytest.raises(HostileArchiveError, match="late: entry comes after the manifest"):
        extract_to(io.BytesIO(tar), stage)
    assert os.listdir(stage) == []


def test_hazard_c2_entries_that_the_manifest_does_not_know(tmp_path):
    tar = OURS + member("extra", data=b"x") + manifest() + END
    with pytest.raises(ArchiveError, match="holds 1 entry, the manifest 0"):
        extract_to(io.BytesIO(tar), outside(tmp_path))


def test_hazard_c2_a_manifest_that_promises_more(tmp_path):
    tar = OURS + manifest(Entry("missing", "file", 0, 0o600, "#0", "#0", 0, "0" * 64)) + END
    with pytest.raises(ArchiveError, match="disagree: missing"):
        extract_to(io.BytesIO(tar), outside(tmp_path))


def test_hazard_c2_an_entry_that_is_not_as_the_manifest_says(tmp_path):
    told = Entry("a", "file", 1, 0o644, "#0", "#0", 0, sha256(b"x").hexdigest())
    tar = OURS + member("a", data=b"x", mode=0o600) + manifest(told) + END
    with pytest.raises(ArchiveError, match="a: name, type, size, mode, owner, time or target differs"):
        extract_to(io.BytesIO(tar), outside(tmp_path))


def test_hazard_c2_content_that_is_not_as_the_manifest_says(tmp_path):
    told = Entry("a", "file", 1, 0o600, "#0", "#0", 0, sha256(b"y").hexdigest())
    tar = OURS + member("a", data=b"x") + manifest(told) + END
    with pytest.raises(ArchiveError, match="a: content differs from the manifest"):
        extract_to(io.BytesIO(tar), outside(tmp_path))


def test_hazard_c2_a_manifest_that_was_edited(tmp_path):
    """Its lines agree with the entries, but not with its own digest."""
    told = Entry("a", "file", 1, 0o600, "#0", "#0", 0, sha256(b"x").hexdigest(), facts={"tables": {"fills": 1}})
    tar = OURS + member("a", data=b"x") + manifest(told).replace(b'"fills":1', b'"fills":2') + END
    with pytest.raises(ArchiveError, match="totals or digest are wrong"):
        extract_to(io.BytesIO(tar), outside(tmp_path))


def test_hazard_c2_a_manifest_without_the_mark(tmp_path):
    """Nor does taking the mark away, which leaves an ordinary comment."""
    tar = pack_pax((("comment", b"x"),), b"g") + member("a", data=b"x") + manifest() + END
    with pytest.raises(ArchiveError, match="not the mark of tradekeep"):
        extract_to(io.BytesIO(tar), outside(tmp_path))


def test_hazard_c2_an_archive_of_ours_without_its_manifest(tmp_path):
    """Taking the manifest away does not make it a foreign archive with weaker checks."""
    with pytest.raises(ArchiveError, match="lost its manifest"):
        extract_to(io.BytesIO(OURS + member("a", data=b"x") + END), outside(tmp_path))


@pytest.mark.parametrize("second", [sample_tar(), b"garbage" * 100])
def test_hazard_c2_joined_archives(tmp_path, second):
    with pytest.raises(HostileArchiveError, match="goes on after its end"):
        extract_to(io.BytesIO(sample_tar() + second), outside(tmp_path))


def test_hazard_c2_joined_gzip_members(tmp_path):
    path = tmp_path / "a.tar.gz"
    sample_container(path)
    path.write_bytes(path.read_bytes() * 2)
    for engine in ("isal", "zlib", "pigz", "igzip"):
        if (engine == "isal" and not _has_isal()) or (engine.endswith("gz") and RUNNER.find(engine) is None):
            continue
        stage = outside(tmp_path / engine)
        with (
            pytest.raises(ArchiveError),
            open_container(path, runner=RUNNER, engine=engine) as stream,
        ):
            extract_to(stream, stage)


def _has_isal():
    try:
        import isal  # noqa: F401
    except ImportError:
        return False
    return True


def test_hazard_c2_bad_checksum_in_the_middle(tmp_path):
    second = bytearray(member("second", data=b"x"))
    second[0] ^= 1
    with pytest.raises(ArchiveError, match="checksum"):
        extract_to(io.BytesIO(member("first", data=b"x") + bytes(second) + END), outside(tmp_path))


def test_hazard_c2_lone_empty_block(tmp_path):
    with pytest.raises(ArchiveError, match="lone empty block"):
        extract_to(io.BytesIO(member("a") + bytes(512) + member("b") + END), outside(tmp_path))


def bomb(path, size):
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(member("bomb", size=size))
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
        file.write(END)


@pytest.mark.parametrize(
    ("limits", "message"),
    [(Limits(total_bytes=1 << 20), "allowed 1048576 bytes"), (Limits(ratio=100), "decompression bomb")],
)
def test_hazard_c2_gzip_bomb(tmp_path, limits, message):
    bomb(tmp_path / "bomb.tar.gz", 64 << 20)
    stage = outside(tmp_path)
    with (
        open_container(tmp_path / "bomb.tar.gz", runner=RUNNER) as stream,
        pytest.raises(HostileArchiveError, match=message),
    ):
        extract_to(stream, stage, limits=limits)
    assert os.listdir(stage) == []


def test_hazard_c2_hardlinks_to_one_large_file_are_a_bomb(tmp_path):
    """Each becomes a file of its own, so each counts."""
    links = b"".join(member(f"h{number}", b"1", link="a") for number in range(100))
    stage = outside(tmp_path)
    with pytest.raises(HostileArchiveError, match="allowed 1048576 bytes"):
        extract_to(
            io.BytesIO(member("a", data=bytes(100_000)) + links + END), stage, limits=Limits(total_bytes=1 << 20)
        )
    assert sum(path.stat().st_size for path in stage.iterdir()) <= 1 << 20


def test_hazard_c2_a_sparse_file_counts_with_its_data(tmp_path):
    """Its length costs nothing, neither time nor space."""
    stage = outside(tmp_path)
    tar = sparse(b"1\n%d\n3\n" % (1 << 39), (1 << 39) + (1 << 20), b"end")
    entries = []
    extract_to(io.BytesIO(tar + END), stage, limits=Limits(total_bytes=1 << 20), on_entry=entries.append)
    status = (stage / "s").stat()
    assert (status.st_size, status.st_blocks < 100) == ((1 << 39) + (1 << 20), True)
    assert [(entry.size, entry.data_bytes) for entry in entries] == [(status.st_size, 3)]
    with open(stage / "s", "rb") as file:
        file.seek(1 << 39)
        assert file.read(4) == b"end\0"


def test_hazard_c2_bomb_behind_the_end(tmp_path):
    with gzip.open(tmp_path / "bomb.tar.gz", "wb", compresslevel=9) as file:
        file.write(member("a") + bytes(64 << 20))
    with (
        open_container(tmp_path / "bomb.tar.gz", runner=RUNNER) as stream,
        pytest.raises(HostileArchiveError, match="decompression bomb"),
    ):
        extract_to(stream, outside(tmp_path))


def test_hazard_c2_too_many_entries(tmp_path):
    tar = b"".join(member(f"f{number}") for number in range(11)) + END
    with pytest.raises(HostileArchiveError, match="more than 10 entries"):
        extract_to(io.BytesIO(tar), outside(tmp_path), limits=Limits(entries=10))


def test_hazard_c2_huge_declared_size_writes_nothing_it_does_not_have(tmp_path):
    with pytest.raises(ArchiveError, match="truncated"):
        extract_to(io.BytesIO(member("huge", size=0o77777777777) + END), outside(tmp_path))


def test_hazard_c2_an_archive_that_ends_in_the_middle(tmp_path):
    whole = member("a", data=b"x" * 2000)
    for length in (512, 1024, len(whole) - 1, len(whole)):
        with pytest.raises(ArchiveError, match="truncated"):
            extract_to(io.BytesIO(whole[:length]), outside(tmp_path / str(length)))


def test_hazard_c2_something_planted_in_the_stage_is_not_followed(tmp_path):
    stage = outside(tmp_path)
    (stage / "d").symlink_to(stage.parent)
    with pytest.raises(UnsafePathError):
        extract_to(io.BytesIO(member("d/outside", data=b"evil") + END), stage)
    assert (stage.parent / "outside").read_text() == "canary"
    with pytest.raises(UnsafePathError):
        extract_to(io.BytesIO(member("d/evil", data=b"evil") + END), stage)
    assert not (stage.parent / "evil").exists()
    (stage / "f").symlink_to(stage.parent / "outside")
    with pytest.raises(UnsafePathError):
        extract_to(io.BytesIO(member("f", data=b"evil") + END), stage)
    assert (stage.parent / "outside").read_text() == "canary"


def test_disk_full_while_unpacking_is_a_space_error(tmp_path, monkeypatch):
    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SpaceError, match="disk is full"):
        extract_to(io.BytesIO(sample_tar()), outside(tmp_path))


# Archives of the old scripts


def old_archive(names, format=tarfile.GNU_FORMAT):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.mode, info.uname, info.mtime = 0o644, "trading_user", 1_700_000_000
            if data is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(data, tuple):
                info.type, info.linkname = data
            else:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return io.BytesIO(stream.getvalue())


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        ({"b_1": None, "b_1/data/x.db": b"1", "b_1/.env": b"2"}, "b_1"),
        ({"b_1": None, "b_1/user_data": None, "b_1/user_data/x.db": b"1"}, "b_1/user_data"),
        ({"./": None, "./b_1/user_data/x.db": b"1"}, "b_1/user_data"),
        ({"a/x": b"1", "b/x": b"2"}, ""),
        ({"x": b"1"}, ""),
    ],
)
def test_hazard_c4_old_layouts_are_recognised(tmp_path, names, prefix, format):
    entries = []
    report = extract_to(old_archive(names, format), outside(tmp_path), on_entry=entries.append)
    assert report.read.layout == "foreign"
    assert report.read.header is None
    assert report.read.stripped_prefix == prefix
    assert all(entry.sha256 for entry in entries if entry.type == "file")
    assert {entry.owner for entry in entries} == {"trading_user"}


def test_hazard_c4_long_names_and_hardlinks_of_old_archives(tmp_path):
    stage = outside(tmp_path)
    long = "b_1/" + "n" * 150
    extract_to(old_archive({long: b"1", "b_1/h": (tarfile.LNKTYPE, long)}), stage)
    assert (stage / long).read_bytes() == b"1"
    assert (stage / "b_1/h").read_bytes() == b"1"
    assert (stage / "b_1/h").stat().st_nlink == 1
