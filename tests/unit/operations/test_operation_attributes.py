# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extended attributes and access lists: what comes back, what stays, and what no archive can give."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import tarfile

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import attributes as archived
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.attributes import attributes_in, records_of
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import open_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_reader import read_archive
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ArchiveError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem import attributes
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from hypothesis import given
from hypothesis import strategies as st

PATH, SMALL = "state/trades.csv", "state/small.json"
READER = 65534
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, who)
    for tag, rights, who in (
        (1, 6, 0xFFFFFFFF),
        (2, 4, READER),
        (4, 4, 0xFFFFFFFF),
        (16, 4, 0xFFFFFFFF),
        (32, 4, 0xFFFFFFFF),
    )
)


@pytest.fixture
def live(bench):
    """A file that a dashboard's account may read, and that says where it came from."""
    path = bench.root / PATH
    path.write_text("1\n" * 50_000)
    path.chmod(0o644)
    (bench.root / SMALL).write_text("{}")
    old = 1_700_000_000
    try:
        os.setxattr(path, attributes.ACCESS_LIST, ACL)
        os.setxattr(path, "user.origin", b"exchange=export")
        os.setxattr(path, "user.o=dd", b"\0\xff\n")
        os.setxattr(bench.root / SMALL, "user.small", b"1")
    except OSError as error:
        pytest.skip(f"this filesystem has no attributes: {error}")
    for name in (PATH, SMALL):
        os.utime(bench.root / name, (old, old))
    return path


def own(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if attributes.is_kept(name)}


def test_what_a_restore_replaces_keeps_its_attributes_and_its_access_list(bench, live):
    before = own(live)
    backup(bench.application, bench.ports)
    live.write_text("broken")
    for name in ("user.origin", "user.o=dd"):
        os.removexattr(live, name)
    (bench.root / SMALL).unlink()
    restore(bench.application, bench.ports)
    assert own(live) == before
    assert own(bench.root / SMALL) == {"user.small": b"1"}
    assert not [note for note in bench.notes if "access list" in note]
    assert not restore(bench.application, bench.ports).changed


def test_an_access_list_of_an_archive_gives_nobody_rights_and_is_said(bench, live, tmp_path):
    backup(bench.application, bench.ports)
    live.unlink()
    restore(bench.application, bench.ports)
    assert own(live) == {"user.origin": b"exchange=export", "user.o=dd": b"\0\xff\n"}
    said = [note for note in bench.notes if "access list" in note]
    assert len(said) == 1
    command = said[0].partition("if it shall: ")[2]
    assert command.startswith("setfacl -m user:")
    assert command.endswith(f" {live}")
    if shutil.which("setfacl"):
        subprocess.run(command, shell=True, check=True)
        assert own(live)[attributes.ACCESS_LIST] == ACL
    restore(bench.application, bench.ports, to=str(tmp_path / "out"))
    assert attributes.ACCESS_LIST not in own(tmp_path / "out" / PATH) or shutil.which("setfacl")
    assert own(tmp_path / "out" / PATH)["user.origin"] == b"exchange=export"


def test_a_list_of_a_file_of_somebody_else_is_not_passed_on(bench, live, monkeypatch):
    """Whoever put it there may be the one that it gives rights to."""
    if os.geteuid() != 0:
        pytest.skip("needs root to be two accounts")
    backup(bench.application, bench.ports)
    live.write_text("broken")
    os.chown(live, READER, READER)
    restore(bench.application, bench.ports)
    assert attributes.ACCESS_LIST not in own(live)


def test_new_directories_have_their_attributes_and_no_list(bench, live):
    directory = bench.root / "state/sub"
    directory.mkdir()
    (directory / "f").write_text("1")
    os.setxattr(directory, "user.shelf", b"3")
    os.setxattr(directory, attributes.DEFAULT_LIST, ACL)
    backup(bench.application, bench.ports)
    shutil.rmtree(directory)
    restore(bench.application, bench.ports)
    assert own(directory) == {"user.shelf": b"3"}
    assert any("setfacl -d -m" in note and note.endswith(str(directory)) for note in bench.notes)


def test_tar_finds_them_in_the_archive(bench, live, tmp_path):
    archive = backup(bench.application, bench.ports).record["backup"]["path"]
    with tarfile.open(archive) as opened:
        records = opened.getmember(PATH).pax_headers
    assert records["SCHILY.xattr.user.origin"] == "exchange=export"
    assert "r--,group::r--,mask::r--,other::r--" in records["SCHILY.acl.access"]
    done = subprocess.run(
        ("tar", "--xattrs", "--acls", "-xzf", archive), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = own(tmp_path / PATH)
    assert found["user.origin"] == b"exchange=export", done.stderr
    assert found["user.o=dd"] == b"\0\xff\n"
    if os.geteuid() == 0 and "not supported" not in done.stderr:
        assert found[attributes.ACCESS_LIST] == ACL


def test_attributes_of_an_old_archive_come_back(bench, live, tmp_path):
    subprocess.run(("tar", "--xattrs", "--acls", "-czf", str(tmp_path / "old.tgz"), PATH), cwd=bench.root, check=True)
    live.unlink()
    restore(bench.application, bench.ports, reference=str(tmp_path / "old.tgz"), to=str(tmp_path / "o"))
    found = [own(path) for path in (tmp_path / "o").rglob("trades.csv")]
    assert found == [{"user.origin": b"exchange=export", "user.o=dd": b"\0\xff\n"}]


RIGHTS = {
    "SCHILY.xattr.security.capability": b"\x01\0\0\2" + b"\xff" * 16,
    "SCHILY.xattr.trusted.overlay.opaque": b"y",
    "SCHILY.xattr.system.posix_acl_access": ACL,
    "SCHILY.acl.access": b"user::rw-,user:nobody:rwx,group::r--,mask::rwx,other::---",
    "LIBARCHIVE.xattr.security.capability": b"AQAAAg",
    "RHT.security.selinux": b"system_u:object_r:shadow_t:s0",
}


@pytest.mark.parametrize("record", RIGHTS)
def test_no_archive_gives_a_right(bench, tmp_path, record):
    """A capability, an attribute that root trusts, a list: whatever it says, nothing of it is set."""
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_headers import pack_pax

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        info = tarfile.TarInfo("state/tool")
        info.size = 1
        made.addfile(info, io.BytesIO(b"x"))
    archive = tmp_path / "hostile.tar"
    archive.write_bytes(pack_pax(((record, RIGHTS[record]),)) + stream.getvalue())
    restore(bench.application, bench.ports, reference=str(archive), to=str(tmp_path / "out"))
    (restored,) = (path for path in (tmp_path / "out").rglob("tool"))
    kept = [name for name in os.listxattr(restored) if name != "security.selinux"]
    assert kept == []


def test_attributes_are_bounded(bench, live, monkeypatch):
    """In a backup they are left out by name; an archive that has more all the same is refused."""
    os.setxattr(live, "user.large", b"x" * 1500)
    archive = backup(bench.application, bench.ports).record["backup"]["path"]
    monkeypatch.setattr(archived, "MOST_OF_ONE", 1000)
    with open_container(archive, runner=bench.ports.runner) as stream, pytest.raises(ArchiveError, match="more ext"):
        read_archive(stream)
    warnings = backup(bench.application, bench.ports).record["warnings"]
    assert any(f"{PATH}: its extended attributes are too many" in warning for warning in warnings)


def test_a_manifest_that_says_other_attributes_is_found_out(bench, live, tmp_path):
    import gzip

    archive = backup(bench.application, bench.ports).record["backup"]["path"]
    with gzip.open(archive) as packed:
        tar = packed.read()
    changed = tmp_path / "changed.tar"
    changed.write_bytes(tar.replace(b"user.origin=exchange=export\n", b"user.origin=exchange=exporT\n"))
    with open_container(changed, runner=bench.ports.runner) as stream, pytest.raises(ArchiveError, match="differs"):
        read_archive(stream)


names = st.text(min_size=1, max_size=20).filter(lambda name: "\0" not in name and max(name) < "\ud800")


@given(st.dictionaries(names.map("user.".__add__), st.binary(max_size=50), max_size=4))
def test_attributes_come_back_from_records(found):
    wanted = tuple(sorted(found.items()))
    assert attributes_in(dict(records_of(wanted))) == wanted
