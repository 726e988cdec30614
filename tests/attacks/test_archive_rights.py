# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Archives made by hand that say whose their files are; a restore by root gives nothing to root or to others."""

from __future__ import annotations

import grp
import io
import os
import pwd
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import create_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry, Header
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

PROFILE = {
    "name": "bot",
    "components": {
        "data": {"paths": ["data"], "files": [{"pattern": "data/shared", "owner": "backup", "mode": "0664"}]},
    },
}
OWNER, OTHER = "nobody", "daemon"
HOSTILE = (
    Entry("extra", "directory", mode=0o777, owner="root", group="root"),
    Entry("extra/of root", "file", mode=0o777, owner="root", group="root", mtime_ns=1),
    Entry("extra/of another", "file", mode=0o666, owner=OTHER, group=OTHER, mtime_ns=1),
    Entry("extra/sticky", "file", mode=0o1644, owner="root", group=OTHER, mtime_ns=1),
    Entry("extra/by number", "file", mode=0o644, owner="#0", group="#0", mtime_ns=1),
    Entry("extra/link", "symlink", mode=0o777, owner="root", group="root", target="sticky"),
    Entry("data", "directory", mode=0o777, owner="root", group="root"),
    Entry("data/plain", "file", mode=0o777, owner="root", group="root", mtime_ns=1),
    Entry("data/shared", "file", mode=0o666, owner="root", group="root", mtime_ns=1),
)


class Bench:
    """An application of an unprivileged account, restored to by root."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.notes: list[str] = []
        notes = self.notes

        class Progress(NoProgress):
            def note(self, text: str) -> None:
                notes.append(text)

        self.ports = Ports(SubprocessRunner(), SystemClock(), Progress())
        self.application: Application = resolve_application(
            PROFILE,
            root=str(base / "root"),
            owner=OWNER,
            group="nogroup",
            backup_dir=str(base / "backups"),
            state_dir=str(base / "state"),
            config_dir=str(base / "etc"),
            bin_dir=str(base / "bin"),
        )
        root = base / "root"
        root.mkdir()
        shutil.chown(root, OWNER, "nogroup")

    def archive(self, *entries: Entry) -> Path:
        """An archive of ours: marked, with a manifest, every digest right."""
        path = self.base / "hostile.tar.gz"
        with create_container(path, runner=self.ports.runner) as container:
            writer = ArchiveWriter(container.stream, Header("bot", "bot", "", "2026-01-02T03:04:05Z"))
            for entry in entries:
                if entry.type == "directory":
                    writer.add_directory(entry)
                elif entry.type == "symlink":
                    writer.add_symlink(entry)
                else:
                    writer.add_file(entry, io.BytesIO(b"x"), 1)
            writer.finish()
        return path

    def foreign(self, *members: tarfile.TarInfo) -> Path:
        """An archive of another program."""
        path = self.base / "foreign.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for member in members:
                archive.addfile(member, io.BytesIO(b"x" * member.size))
        return path

    def rights(self, top: Path) -> dict[str, tuple[str, str, int]]:
        """Owner, group and mode of all below a directory."""
        found: dict[str, tuple[str, str, int]] = {}
        for path in sorted(top.rglob("*")):
            facts = path.lstat()
            owner, group = pwd.getpwuid(facts.st_uid).pw_name, grp.getgrgid(facts.st_gid).gr_name
            found[str(path.relative_to(top))] = (owner, group, facts.st_mode & 0o7777)
        return found


@pytest.fixture
def bench() -> Iterator[Bench]:
    if os.geteuid() != 0:
        pytest.skip("needs root: files are given to other accounts")
    base = Path(tempfile.mkdtemp(prefix="tradekeep-test-"))
    base.chmod(0o755)
    yield Bench(base)
    shutil.rmtree(base)


def check(bench: Bench, top: Path) -> None:
    found = bench.rights(top)
    shared = found.pop("data/shared")
    assert shared == ("backup", "nogroup", 0o664)  # by the profile's word, which root has written
    assert {(owner, group) for owner, group, _mode in found.values()} == {(OWNER, "nogroup")}
    modes = {name: mode for name, (_owner, _group, mode) in found.items() if name != "extra/link"}
    assert [name for name, mode in modes.items() if mode & 0o002] == []
    assert [name for name, mode in modes.items() if mode & 0o7000 and (top / name).is_file()] == []


def test_a_restore_gives_nothing_to_root_or_another_account(bench: Bench) -> None:
    restore(bench.application, bench.ports, reference=str(bench.archive(*HOSTILE)), include_unmanaged=True)
    check(bench, bench.base / "root")
    told = "\n".join(bench.notes)
    assert "extra/of root: is given to nobody:nogroup with mode 0775" in told
    assert "not to root:root with mode 0777" in told
    assert "data/plain" not in told  # where the profile has the word, nothing depends on the archive's


def test_a_restore_elsewhere_gives_nothing_to_root_or_another_account(bench: Bench) -> None:
    target = bench.base / "looked at"
    restore(bench.application, bench.ports, reference=str(bench.archive(*HOSTILE)), to=str(target))
    check(bench, target)
    assert "extra/of root: is given to nobody:nogroup" in "\n".join(bench.notes)


def test_many_foreign_owners_make_few_notes(bench: Bench) -> None:
    entries = [Entry(f"extra/{n}", "file", mode=0o644, owner=OTHER, group=OTHER, mtime_ns=1) for n in range(50)]
    restore(bench.application, bench.ports, reference=str(bench.archive(*entries)))
    told = [note for note in bench.notes if "extra/" in note or "more" in note]
    assert len(told) <= 6
    assert "45 more" in told[-1]


def test_an_archive_of_another_program_gives_nothing_away_either(bench: Bench) -> None:
    members = []
    for name, owner, mode in (("extra/a", "root", 0o4777), ("extra/b", OTHER, 0o2777), ("data/plain", "root", 0o666)):
        member = tarfile.TarInfo(name)
        member.uname = member.gname = owner
        member.mode, member.size = mode, 1
        members.append(member)
    restore(bench.application, bench.ports, reference=str(bench.foreign(*members)))
    found = bench.rights(bench.base / "root")
    assert {(owner, group) for owner, group, _mode in found.values()} == {(OWNER, "nogroup")}
    assert [name for name, (_owner, _group, mode) in found.items() if mode & 0o7002] == []


@pytest.mark.parametrize("mtime_ns", [1 << 70, -(1 << 70), (1 << 63) - 1])
def test_a_time_that_cannot_be_ends_in_one_line(bench: Bench, mtime_ns: int) -> None:
    path = bench.archive(Entry("data/plain", "file", mode=0o600, owner="root", group="root", mtime_ns=mtime_ns))
    try:
        restore(bench.application, bench.ports, reference=str(path))
    except TradekeepError as error:
        assert "\n" not in str(error)
    assert bench.rights(bench.base / "root").get("data/plain", (OWNER, "nogroup", 0))[:2] == (OWNER, "nogroup")


RIGHTS = {
    "SCHILY.xattr.security.capability": "\x01\0\0\2" + "\x7f" * 16,
    "SCHILY.xattr.trusted.overlay.opaque": "y",
    "SCHILY.acl.access": "user::rw-,user:daemon:rwx,group::r--,mask::rwx,other::---",
    "SCHILY.acl.default": "user::rwx,user:daemon:rwx,group::r--,mask::rwx,other::---",
    "LIBARCHIVE.xattr.security.capability": "AQAAAg",
    "RHT.security.selinux": "system_u:object_r:shadow_t:s0",
}


@pytest.mark.parametrize("to", [None, "looked at"])
def test_no_archive_gives_a_right_by_attributes(bench: Bench, to: str | None) -> None:
    """A capability, an attribute that root trusts, an access list: whatever it says, nothing of it is set."""
    member = tarfile.TarInfo("bot/data/tool")
    member.size, member.mode, member.pax_headers = 1, 0o755, {**RIGHTS, "SCHILY.xattr.user.origin": "export"}
    other = tarfile.TarInfo("bot/data/other")
    target = None if to is None else str(bench.base / to)
    restore(bench.application, bench.ports, reference=str(bench.foreign(member, other)), to=target)
    top = bench.base / (to or "root")
    (restored,) = top.rglob("tool")
    assert [name for name in os.listxattr(restored) if name != "security.selinux"] == ["user.origin"]
    assert [note for note in bench.notes if "setfacl -m user:daemon:rwx" in note]
